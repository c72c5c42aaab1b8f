"""What is carried along with a text: found, and redacted where it stands, with nothing else changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.personal.carried import COLUMNS, Carried
from ownlm.data.personal.options import PersonalOptions
from ownlm.data.personal.redact import Edit, edits

pa = pytest.importorskip("pyarrow")
pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

MAIL = "jane@corp.com"


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def row_of(text: str = "Some text.", **columns: Any) -> dict[str, Any]:
    held = {
        name: value if value is None or isinstance(value, str) else dumped(value) for name, value in columns.items()
    }
    return {"text": text, **dict.fromkeys(COLUMNS), **held}


def redacted(row: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The columns that change, by what is found in the whole document."""
    from ownlm.data.personal.find import find_all_spans, spans_by_document

    chosen = PersonalOptions(**options)
    schema = pa.schema([(name, pa.large_string()) for name in row])
    # A document before, so that numbers of documents matter.
    table = pa.Table.from_pylist([row_of("me@here.org", title="you@here.org"), row], schema)
    spans = spans_by_document(find_all_spans(table, chosen))
    assert [span.kind for span in spans[0]] == ["email", "email"]
    carried = Carried(row)
    changes = edits(f"{row['text']}\n{carried.text}", spans.get(1, []), chosen)
    return carried.edited(changes, len(row["text"]) + 1)


def test_every_field_is_redacted_and_nothing_else_is_changed() -> None:
    chat = [
        {"role": "user", "content": f"I am {MAIL}", "name": MAIL},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "find", "arguments": f'{{"email": "{MAIL}", "limit": 1.50, "to": ["x"]}}'},
                }
            ],
        },
        {"role": "tool", "content": MAIL, "tool_call_id": "call_1"},
    ]
    row = row_of(
        "\n\n".join(message["content"] for message in chat),
        title=f"Mail from {MAIL} today",
        url=f"http://x.org/?who={MAIL}",
        group=MAIL,
        metadata={"from": MAIL, "content": {"to": [MAIL, "x@y.org"]}, "n": 3, "é": 1.50, "card": 4111111111111111},
        messages=chat,
    )
    new = redacted(row)
    assert new["title"] == "Mail from [EMAIL] today"
    assert new["url"] == "http://x.org/?who=[EMAIL]"
    assert new["group"] == "[EMAIL]"
    assert new["metadata"] == dumped(
        {"from": "[EMAIL]", "content": {"to": ["[EMAIL]", "[EMAIL]"]}, "n": 3, "é": 1.50, "card": "[CARD]"}
    )
    # What messages say belongs to the text, and is redacted there.
    expected = json.loads(row["messages"])
    expected[0]["name"] = "[EMAIL]"
    arguments = '{"email": "[EMAIL]", "limit": 1.50, "to": ["x"]}'
    expected[1]["tool_calls"][0]["function"]["arguments"] = arguments
    assert new["messages"] == dumped(expected)
    assert redacted(row, policy={"email": "keep", "card": "keep"}) == {}


def test_a_value_has_one_stand_in_wherever_it_stands() -> None:
    row = row_of(f"From {MAIL} to x@y.org.", title="To x@y.org", metadata={"from": MAIL, "copy": "new@y.org"})
    new = redacted(row, policy={"email": "replace"})
    assert new["title"] == "To email2@example.com"
    assert json.loads(new["metadata"]) == {"from": "email1@example.com", "copy": "email3@example.com"}


def test_the_key_says_what_a_number_is() -> None:
    metadata = {"work_phone": "555 010 9999", "order_id": "555 010 9998", "mobile": 4915112345678}
    new = json.loads(redacted(row_of(metadata=metadata))["metadata"])
    assert new == {"work_phone": "[PHONE]", "order_id": "555 010 9998", "mobile": "[PHONE]"}


def test_strings_in_strings_and_odd_ones() -> None:
    inner = dumped({"note": f'she said "{MAIL}"\n', "deep": dumped([MAIL, "\ud800"])}).encode(errors="ignore").decode()
    odd = '{"half": "\\ud800 jane@corp.com"}'
    metadata = {"json": inner, "odd": odd, "not": "{jane@corp.com", "empty": "", "escaped": "a\\b\tc"}
    new = json.loads(redacted(row_of(metadata=metadata))["metadata"])
    assert json.loads(new["json"])["note"] == 'she said "[EMAIL]"\n'
    assert json.loads(json.loads(new["json"])["deep"])[0] == "[EMAIL]"
    assert new["odd"] == '{"half": "\\ud800 [EMAIL]"}'
    assert new["not"] == "{[EMAIL]"
    assert (new["empty"], new["escaped"]) == ("", "a\\b\tc")
    endless = "[" * 100_000
    assert json.loads(redacted(row_of(metadata={"a": endless + MAIL}))["metadata"])["a"] == endless + "[EMAIL]"


def test_nothing_is_carried() -> None:
    assert Carried(row_of()).text == ""
    assert redacted(row_of(messages=[{"role": "user", "content": MAIL}])) == {}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('a"\\{}[]:, é😀\n0', max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\', max_size=3), inner, max_size=3),
    max_leaves=12,
)


def strings(value: Any) -> list[str]:
    """Every string and every long number, in the order in which JSON has them, strings in strings opened."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    if isinstance(value, str):
        return opened(value)
    plain = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return [str(value)] if plain and 7 <= len(str(value)) <= 19 else []


def opened(value: str) -> list[str]:
    try:
        inner = json.loads(value) if value.lstrip()[:1] in ("{", "[") else None
    except ValueError:
        inner = None
    return [value] if inner is None else strings(inner)


@given(values)
def test_all_values_are_searched_and_any_can_be_replaced(value: Any) -> None:
    carried = Carried(row_of(metadata={"v": value}))
    found = strings({"v": value})
    places = []
    at = 0
    for text in found:
        at = carried.text.index(": " + text + "\n\n", at) + 2
        places.append(at)
        at += len(text)
    marks = [
        Edit(place, place + len(text), f"<{number}>")
        for number, (place, text) in enumerate(zip(places, found, strict=True))
        if text
    ]
    new = carried.edited(marks, 0)
    if marks:
        assert strings(json.loads(new["metadata"])) == [f"<{n}>" if text else "" for n, text in enumerate(found)]
    else:
        assert new == {}
