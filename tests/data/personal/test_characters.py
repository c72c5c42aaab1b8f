"""The flat bytes of texts, and the scans over them, against plain Python."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.personal.characters import Found, places_of, runs_of, to_characters

TEXTS = st.lists(st.text(st.sampled_from("01 -.()/x@é٣１中\n\u00a0\u200b“€😀\0"), max_size=40), max_size=6)


@given(TEXTS)
def test_a_byte_is_a_character(texts: list[str]) -> None:
    characters = to_characters(texts)
    assert characters.starts.tolist() == [0, *np.cumsum([len(text) + 1 for text in texts]).tolist()]
    for start, text in zip(characters.starts.tolist(), texts, strict=False):
        flat = characters.flat[start : start + len(text)]
        assert characters.flat[start + len(text)] == 0
        for byte, character in zip(flat, text, strict=True):
            if character.isascii():
                assert byte == ord(character)
            elif character.isdigit():
                assert chr(byte) == str(int(character))
            elif character.isspace() or character == "\u200b":
                assert chr(byte) == " "
            else:
                assert byte == {"é": 0x80, "中": 0x82, "€": ord("$")}.get(character, 0x81)


@given(TEXTS, st.integers(1, 9))
def test_numbers(texts: list[str], least: int) -> None:
    characters = to_characters(texts)
    pattern = re.compile(rb"[0-9](?:[ .()/-]{0,3}[0-9])*")
    expected = [match.span() for match in pattern.finditer(characters.flat)]
    expected = [(a, b) for a, b in expected if len(re.findall(rb"[0-9]", characters.flat[a:b])) >= least]
    assert list(characters.numbers_of(least)) == expected


def test_what_is_blanked_parts_numbers() -> None:
    characters = to_characters(["123 456 789 0123"]).without([Found(4, 7, "card", "")])
    assert list(characters.numbers_of(3)) == [(0, 3), (8, 16)]
    assert characters.before(8) == b"123 \x81 "


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 20))
def test_runs(inside: list[bool], least: int) -> None:
    starts, ends = runs_of(np.array(inside, bool), least)
    text = "".join("x" if value else "." for value in inside)
    expected = [match.span() for match in re.finditer(f"x{{{least},}}", text)]
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=3))
def test_places(data: bytes, text: bytes) -> None:
    expected = [match.start() for match in re.finditer(b"(?=%b)" % re.escape(text), data)]
    assert places_of(np.frombuffer(data, np.uint8), text).tolist() == expected


def test_neighbourhoods() -> None:
    """Far from a cut, a place in a neighbourhood is the same place in the whole."""
    texts = ["a" * 3000 + "X" + "b" * 3000, "short X", "", "c" * 1500]
    characters = to_characters(texts)
    first, second = (match.start() for match in re.finditer(b"X", characters.flat))
    near = characters.around([Found(first, first + 1, "card", ""), Found(second, second + 1, "card", "")])
    assert len(near.text.flat) < 1500
    found = [Found(m.start(), m.end(), "phone", "") for m in re.finditer(b"X|a$|^a|short|b\0", near.text.flat)]
    assert near.in_whole(found) == [
        Found(first, first + 1, "phone", ""),
        Found(second - 6, second - 1, "phone", ""),
        Found(second, second + 1, "phone", ""),
    ]
