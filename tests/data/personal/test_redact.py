"""What becomes of personal data: consistent, and nothing more the second time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.personal.options import KINDS, PersonalOptions, Span
from ownlm.data.personal.redact import apply_edits, dropped_for, edits, redact

pa = pytest.importorskip("pyarrow")
pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

EVERYTHING = {"names": True, "addresses": True, "obfuscated": True}


def spans_of(texts: list[str], options: PersonalOptions) -> list[list[Span]]:
    from ownlm.data.personal.find import find_spans, spans_by_document

    spans = spans_by_document(find_spans(pa.array(texts, pa.large_string()), options))
    return [spans.get(i, []) for i in range(len(texts))]


def redacted(text: str, **options: Any) -> str:
    chosen = PersonalOptions(**options)
    return redact(text, spans_of([text], chosen)[0], chosen)


TEXT = (
    "Jane (jane@corp.com, +49 30 1234567) paid with 4111 1111 1111 1111 from GB29NWBK60161331926819. "
    "Write to JANE@corp.com or bob@corp.com, or call +49-30-1234567. SSN 536-90-4399, from 93.184.216.34."
)


def test_mask() -> None:
    assert redacted(TEXT) == (
        "Jane ([EMAIL], [PHONE]) paid with [CARD] from [IBAN]. "
        "Write to [EMAIL] or [EMAIL], or call [PHONE]. SSN [NATIONAL_ID], from [IP_ADDRESS]."
    )


def test_replace() -> None:
    assert redacted(TEXT, policy={"all": "replace"}) == (
        "Jane (email1@example.com, +1 201 555 0100) paid with 4000000000000011 from GB00TEST00000000000001. "
        "Write to email1@example.com or email2@example.com, or call +1 201 555 0100. "
        "SSN 000-00-0001, from 192.0.2.1."
    )


def test_keep_and_drop() -> None:
    options = PersonalOptions(policy={"all": "keep", "card": "drop", "email": "mask"})
    spans = spans_of([TEXT], options)[0]
    assert dropped_for(spans, options) == "card"
    assert dropped_for(spans, PersonalOptions()) is None
    changes = edits(TEXT, spans, options)
    assert [(TEXT[change.start : change.end], change.replacement) for change in changes] == [
        ("jane@corp.com", "[EMAIL]"),
        ("JANE@corp.com", "[EMAIL]"),
        ("bob@corp.com", "[EMAIL]"),
    ]
    assert apply_edits(TEXT, changes) == redact(TEXT, spans, options)


def test_a_stand_in_in_the_text_is_nobody_elses() -> None:
    text = "bob@corp.com wrote to email1@example.com and email3@example.com and ann@corp.com"
    assert redacted(text, policy={"all": "replace"}) == (
        "email2@example.com wrote to email1@example.com and email3@example.com and email4@example.com"
    )


def test_stand_ins_are_nobodys() -> None:
    """No card, account or number that anybody can hold; addresses of networks and domains kept for examples."""
    import ipaddress

    from stdnum import luhn
    from stdnum.us import ssn

    from ownlm.data.personal.redact import _FORMS, _STAND_IN

    for number in [*range(1, 1200), 12345, 99999]:
        made = {form: write(number) for form, write in _FORMS.items()}
        assert not luhn.is_valid(made["card"]) and len(made["card"]) == 16
        assert made["iban"][2:4] == "00"
        assert not ssn.is_valid(made["national_id"])
        assert not ipaddress.ip_address(made["ip_address"]).is_global
        assert not ipaddress.ip_address(made["IPv6"]).is_global
        for kind in KINDS:
            assert _STAND_IN[kind].fullmatch(made[kind])
    assert len({_FORMS["ip_address"](number) for number in range(1, 3000)}) == 2999
    assert len({_FORMS["phone"](number) for number in range(1, 3000)}) == 2999


VALUES = [
    "jane.doe@corp.com", "x@y.co", "a (at) b dot com", "<joe at corp.com>", "email2@example.com",
    "4111 1111 1111 1111", "378282246310005", "630427373398", "4000000000000011",
    "GB29 NWBK 6016 1331 9268 19", "DE89370400440532013000", "GB00TEST00000000000001",
    "536-90-4399", "X2482300W", "AB123456C", "390.533.447-05", "36 574 261 809", "RCCMNL83S18D969H", "000-00-0001",
    "+1 212 736 5000", "(212) 736-5000", "212-736-5001", "01.84.17.61.18", "+49 30 1234567", "467 3395", "２１２-７３６-５０００",
    "+1 201 555 0100", "8.8.8.8", "10.1.2.3", "93.184.216.34", "192.0.2.1", "2a00:1450:4001:81b::200e", "::1", "1.2.3.4",
    "AKIAIOSFODNN7EXAMPLQ", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", 'api_key = "aB3dE5gH7jK9mN1pQ2"', "[SECRET_1]",
    "postgres://bob:s3cr3tPw@db.corp.com/x", "password: hunter2x9", "12 Main Street", "P.O. Box 123", "Hauptstraße 12",
    "Dear Bob Smith,", "Mr. Jones", "Regards,\nAnna Lee\n", "Person 1", "1 Example Street", "[EMAIL]", "[PHONE]",
    "2001-08-01", "1999-2003", "3.14159", "x", "中", "Jane", "“", "é",
]  # fmt: skip
GLUE = [
    " ", "\n", "\n\n", ", ", ". ", ": ", " - ", " / ", "; ", "\t", " (", ") ", '"', "\u00a0",
    " call ", " phone: ", " card ", " ssn ", " tax id ", " ip ", " fax ", " version ", " office ",
]  # fmt: skip
MIXED = st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(GLUE)), max_size=8).map(
    lambda parts: "".join(value + glue for value, glue in parts)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MIXED, min_size=1, max_size=4), st.sampled_from(["mask", "replace"]))
def test_redacting_twice_changes_nothing(texts: list[str], policy: str) -> None:
    options = PersonalOptions(policy={"all": policy}, **EVERYTHING)
    once = [redact(text, spans, options) for text, spans in zip(texts, spans_of(texts, options), strict=True)]
    twice = [redact(text, spans, options) for text, spans in zip(once, spans_of(once, options), strict=True)]
    assert twice == once


@settings(max_examples=200, deadline=None)
@given(MIXED)
def test_the_same_value_has_the_same_stand_in(text: str) -> None:
    options = PersonalOptions(policy={"all": "replace"}, **EVERYTHING)
    spans = spans_of([text], options)[0]
    given_for: dict[tuple[str, str], set[str]] = {}
    changed = {change.start: change.replacement for change in edits(text, spans, options)}
    for span in spans:
        value = text[span.start : span.end]
        given_for.setdefault((span.kind, value), set()).add(changed.get(span.start, value))
    assert all(len(stand_ins) == 1 for stand_ins in given_for.values())
    # And another value of the kind has another.
    for kind in KINDS:
        others = [next(iter(s)) for (found, value), s in given_for.items() if found == kind]
        distinct = {_same_number(kind, value) for found, value in given_for if found == kind}
        assert len(set(others)) == len(distinct)


def _same_number(kind: str, value: str) -> str:
    if kind in ("card", "phone", "iban", "national_id"):
        return "".join(c for c in value if c.isalnum()).casefold()
    return " ".join(value.split()).casefold()
