"""The spans of a column: their order and shape, the labelled texts, and texts without personal data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.personal.options import PersonalOptions, Span

pa = pytest.importorskip("pyarrow")
pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

EVERYTHING = PersonalOptions(names=True, addresses=True, obfuscated=True)


def spans_of(texts: list[str], options: PersonalOptions) -> list[list[Span]]:
    from ownlm.data.personal.find import find_spans, spans_by_document

    spans = spans_by_document(find_spans(pa.array(texts, pa.large_string()), options))
    return [spans.get(i, []) for i in range(len(texts))]


def test_the_table() -> None:
    from ownlm.data.personal.find import find_spans

    texts = pa.array(
        ["nothing", "é to jane@corp.com and bob@corp.com", None, "", "4111111111111111"], pa.large_string()
    )
    table = find_spans(texts, PersonalOptions())
    assert table.to_pylist() == [
        {"document": 1, "kind": "email", "start": 5, "end": 18, "detail": ""},
        {"document": 1, "kind": "email", "start": 23, "end": 35, "detail": ""},
        {"document": 4, "kind": "card", "start": 0, "end": 16, "detail": "Visa"},
    ]
    empty = find_spans(texts.slice(0, 0), PersonalOptions())
    assert empty.schema == table.schema
    assert table.schema == pa.schema(
        {
            "document": pa.int32(),
            "kind": pa.dictionary(pa.int8(), pa.string()),
            "start": pa.int32(),
            "end": pa.int32(),
            "detail": pa.string(),
        }
    )
    assert find_spans(texts.slice(4), PersonalOptions()).to_pylist() == [
        {"document": 0, "kind": "card", "start": 0, "end": 16, "detail": "Visa"}
    ]


def test_allowed_values() -> None:
    text = "jane@corp.com ann@mail.corp.com bob@uncorp.com +49 30 1234567, phone 030 7654321, 4111111111111111"
    allow = ("corp.com", "+49 (0)30 1234567", "004930-7654321", "4111 1111 1111 1111")
    found = [text[span.start : span.end] for span in spans_of([text], PersonalOptions(allow=allow))[0]]
    assert found == ["bob@uncorp.com"]
    assert len(spans_of([text], PersonalOptions(allow=("Jane@Corp.com",)))[0]) == 5


PIECES = st.one_of(
    st.sampled_from(
        [
            "jane@corp.com",
            "4111 1111 1111 1111",
            "GB29NWBK60161331926819",
            "536-90-4399",
            "+1 212 736 5000",
            "467 3395",
            "8.8.8.8",
            "2001:db8::1",
            "password: hunter2x9",
            "Mr. Jones",
            "12 Main Street",
            "phone: ",
            "card ",
            "ip ",
            "call ",
            "１２３",
            "中",
            "é",
            "\x00",
            "api_key = 'aB3dE5gH7jK9mN1pQ2'",
            "-----BEGIN PRIVATE KEY-----",
            "https://bob:s3cr3tPw@",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x",
        ]
    ),
    st.text("0123456789 -.()+@:/ab=_\n", max_size=12),
    st.text(max_size=4),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=1, max_size=6))
def test_any_text(texts: list[str]) -> None:
    """Spans lie inside, in order, apart; and a text's spans are its own, whatever stands beside it in the column."""
    found = spans_of(texts, EVERYTHING)
    for text, spans in zip(texts, found, strict=True):
        assert all(0 <= span.start < span.end <= len(text) for span in spans)
        assert all(a.end <= b.start for a, b in pairwise(spans))
        assert spans == spans_of([text], EVERYTHING)[0]


@pytest.mark.parametrize(
    "piece",
    [
        "1",
        "1 ",
        "1.",
        "1-",
        "@",
        "a@",
        "a@b.",
        ":",
        "12:",
        "::",
        "(1)",
        "+1",
        "eyJ1",
        "GB12",
        "passw",
        "://a:b",
        "Mr. Aa ",
    ],
)
def test_a_long_text_without_a_break(piece: str) -> None:
    """Much of what makes a careless pattern hang comes to its end, and what stands behind it is found."""
    text = (piece * 400_000)[:400_000] + " jane@corp.com"
    (spans,) = spans_of([text], EVERYTHING)
    assert (spans[-1].kind, spans[-1].end) == ("email", len(text))


# How presidio-research's labels are called here; what it labels and we do not look for is left out.
LABELS = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip_address",
    "PHONE_NUMBER": "phone",
    "US_SSN": "national_id",
}
FLOORS = {"email": 0.95, "card": 0.95, "iban": 0.95, "ip_address": 0.95, "national_id": 0.95, "phone": 0.85}


@pytest.mark.parametrize("half", [0, 1])
def test_labelled_texts(shared_data: Path, half: int) -> None:
    """F1 by kind, where a label and a find of its kind that overlap are a hit."""
    rows = json.loads((shared_data / "pii" / "synth_dataset_v2.json").read_text())[half::2]
    found = spans_of([row["full_text"] for row in rows], PersonalOptions())
    for kind, floor in FLOORS.items():
        hits = labels = false = 0
        for row, spans in zip(rows, found, strict=True):
            gold = [s for s in row["spans"] if LABELS.get(s["entity_type"]) == kind]
            gold = [(s["start_position"], s["end_position"]) for s in gold]
            ours = [(span.start, span.end) for span in spans if span.kind == kind]
            labels += len(gold)
            hits += sum(any(a < end and start < b for a, b in ours) for start, end in gold)
            false += sum(not any(a < end and start < b for start, end in gold) for a, b in ours)
        assert 2 * hits / (hits + false + labels) >= floor, (kind, hits, false, labels)


def test_clean_paragraphs(shared_data: Path) -> None:
    """Fewer than one hit in a thousand paragraphs of prose without an address in it."""
    files = [*shared_data.glob("wikitext2/wiki.*"), *shared_data.glob("peps/*.rst")]
    files += shared_data.glob("brand_voice_18f/*/*.md")
    paragraphs = {p.strip() for file in files for p in re.split(r"\n\s*\n", file.read_text())}
    clean = [p for p in paragraphs if len(p) >= 100 and not re.search(r"\w@\w", p)]
    chosen = sorted(clean, key=lambda p: hashlib.sha256(p.encode()).digest())[:5000]
    found = [
        p[s.start : s.end] for p, spans in zip(chosen, spans_of(chosen, PersonalOptions()), strict=True) for s in spans
    ]
    assert len(chosen) == 5000
    assert len(found) < 5, found


def test_libraries_are_named_when_missing(monkeypatch: pytest.MonkeyPatch, finds: Callable[..., object]) -> None:
    import sys

    from ownlm.data.personal.identities import number_module
    from ownlm.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "stdnum.iban", None)
    with pytest.raises(MissingExtra, match=re.escape("finding personal data")):
        number_module("iban")
