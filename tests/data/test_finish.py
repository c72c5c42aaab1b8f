"""Edits of a document, applied to its text and to its messages alike."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.documents import join_messages
from ownlm.data.finish import EXCERPT, apply_edits, excerpt
from ownlm.data.personal.options import Span

texts = st.text("ab \n@é😀", max_size=30)


@st.composite
def edited(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, int, str]]]:
    """The messages of a conversation, and edits inside them."""
    messages = draw(st.lists(texts, min_size=1, max_size=4))
    edits = []
    start = 0
    for message in messages:
        borders = sorted(draw(st.lists(st.integers(0, len(message)), max_size=6)))
        for begin, end in zip(borders[::2], borders[1::2], strict=False):
            if begin < end and (not edits or edits[-1][1] <= start + begin):
                edits.append((start + begin, start + end, draw(st.sampled_from(["", "[EMAIL]", "x"]))))
        start += len(message) + 2
    return messages, edits


def slow(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, replacement in reversed(edits):
        text = text[:start] + replacement + text[end:]
    return text


@given(edited())
def test_a_plain_text_is_edited_from_its_end(case: tuple[list[str], list[tuple[int, int, str]]]) -> None:
    messages, edits = case
    text = "\n\n".join(messages)
    assert apply_edits(text, None, edits) == (slow(text, edits), None)


@given(edited())
def test_a_conversations_text_stays_what_its_messages_say(
    case: tuple[list[str], list[tuple[int, int, str]]],
) -> None:
    contents, edits = case
    messages = [{"role": "user", "content": content, "extra": [1]} for content in contents]
    text, new = apply_edits(join_messages(messages), json.dumps(messages), edits)
    assert new is not None
    read = json.loads(new)
    assert join_messages(read) == text == slow("\n\n".join(contents), edits)
    assert [(m["role"], m["extra"]) for m in read] == [("user", [1])] * len(contents)


def test_an_edit_across_two_messages_goes_where_it_begins() -> None:
    messages = json.dumps([{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three four"}])
    text, new = apply_edits("one two\n\nthree four", messages, [(4, 14, "X")])
    assert text == "one X\n\n four"
    assert [message["content"] for message in json.loads(new or "")] == ["one X", " four"]


def test_an_excerpt_hides_personal_data_even_where_it_is_cut() -> None:
    text = "a" * (EXCERPT - 3) + " me@example.org " + "b" * 100
    start = EXCERPT - 2
    shown = excerpt(text, [Span("email", start, start + 14, "")])
    assert "me@" not in shown and "example" not in shown
    assert len(shown) == EXCERPT + 1
    assert excerpt("short", []) == "short"
