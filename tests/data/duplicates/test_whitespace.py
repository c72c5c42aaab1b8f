"""White space against what Python says of it."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.duplicates.whitespace import is_white, paragraph_spans, squeeze
from ownlm.data.words import flat_bytes

# White space of one, two and three bytes, neighbours that share their first bytes, and a letter of four.
LETTERS = "ab\n\n\n  \t\r\x1c\x85\xa0\xa1\u1680\u2003\u200b\u2028\u205f\u3000\u3001é\U0001f600"
TEXTS = st.lists(st.text(LETTERS, max_size=12), max_size=8)


def columns(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return flat_bytes(pa.array(texts, pa.large_string()))


def test_every_white_character() -> None:
    letters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    data, offsets = columns(letters)
    expected = np.repeat([letter.isspace() for letter in letters], np.diff(offsets))
    assert np.array_equal(is_white(data), expected)


@given(TEXTS)
def test_squeezed_as_split_and_join(texts: list[str]) -> None:
    squeezed, starts, ends = squeeze(*columns(texts))
    found = [squeezed[a:b].tobytes().decode() for a, b in zip(starts, ends, strict=True)]
    assert found == [" ".join(text.split()) for text in texts]


def paragraphs_of(text: str) -> list[tuple[int, int]]:
    """Paragraphs of one text as byte ranges, line by line."""
    lines = text.split("\n")
    places = np.cumsum([0, *(len(line.encode()) + 1 for line in lines)])
    full = [i for i, line in enumerate(lines) if line.strip()]
    starts = [i for i in full if i == full[0] or not lines[i - 1].strip()]
    if len(starts) == 1:
        starts = full
    ends = [*(int(places[i]) for i in starts[1:]), len(text.encode())]
    return [(int(places[i]), end) for i, end in zip(starts, ends, strict=False)]


@given(TEXTS)
def test_paragraphs_line_by_line(texts: list[str]) -> None:
    data, offsets = columns(texts)
    starts, ends, documents = paragraph_spans(data, offsets)
    found = [
        [(int(starts[k] - offsets[i]), int(ends[k] - offsets[i])) for k in np.flatnonzero(documents == i)]
        for i in range(len(texts))
    ]
    assert found == [paragraphs_of(text) for text in texts]


def test_hand_worked_paragraphs() -> None:
    texts = ["\n\none\ntwo\n \nthree\n\n", "line\nline two\n", "", "x"]
    data, offsets = columns(texts)
    starts, ends, documents = paragraph_spans(data, offsets)
    found = [data[a:b].tobytes().decode() for a, b in zip(starts, ends, strict=True)]
    assert found == ["one\ntwo\n \n", "three\n\n", "line\n", "line two\n", "x"]
    assert documents.tolist() == [0, 0, 1, 1, 3]
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", "".join(texts))
