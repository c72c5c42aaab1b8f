"""National numbers: examples of the countries themselves, and numbers that fail their checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Finds = Callable[..., list[tuple[str, str, str]]]


@pytest.mark.parametrize(
    ("text", "number", "country"),
    [
        ("My SSN: 536-90-4399", "536-90-4399", "US"),
        ("ssn 536904399", "536904399", "US"),
        ("NI number AB123456C", "AB123456C", "GB"),
        ("AB 12 34 56 C", "AB 12 34 56 C", "GB"),
        ("NHS number 943 476 5870", "943 476 5870", "GB"),
        ("PPS no. 6433435F", "6433435F", "IE"),
        ("Steuer-ID 36 574 261 809", "36 574 261 809", "DE"),
        ("SVNR 1237 010180", "1237 010180", "AT"),
        ("756.9217.0769.85", "756.9217.0769.85", "CH"),
        ("2 95 10 99 126 111 93", "2 95 10 99 126 111 93", "FR"),
        ("numéro de sécurité sociale 295109912611193", "295109912611193", "FR"),
        ("85.07.30-033.28", "85.07.30-033.28", "BE"),
        ("BSN 111222333", "111222333", "NL"),
        ("DNI 54362315K", "54362315K", "ES"),
        ("54362315-K", "54362315-K", "ES"),
        ("X2482300W", "X2482300W", "ES"),
        ("NIF 501964843", "501964843", "PT"),
        ("880320-0016", "880320-0016", "SE"),
        ("fødselsnummer 15108695088", "15108695088", "NO"),
        ("CPR 211062-5629", "211062-5629", "DK"),
        ("131052-308T", "131052-308T", "FI"),
        ("131052A308T", "131052A308T", "FI"),
        ("PESEL 44051401359", "44051401359", "PL"),
        ("710319/2745", "710319/2745", "CZ"),
        ("CNP 1630615123457", "1630615123457", "RO"),
        ("TC kimlik no 17291716060", "17291716060", "TR"),
        ("SIN 123-456-782", "123-456-782", "CA"),
        ("TFN 123 456 782", "123 456 782", "AU"),
        ("Aadhaar 2341 2341 2346", "2341 2341 2346", "IN"),
        ("390.533.447-05", "390.533.447-05", "BR"),
        ("76.086.428-5", "76.086.428-5", "CL"),
        ("360426199101010071", "360426199101010071", "CN"),
        ("11010519491231002X", "11010519491231002X", "CN"),
        ("971013-9019902", "971013-9019902", "KR"),
        ("ID number 7503305044089", "7503305044089", "ZA"),
        ("RCCMNL83S18D969H", "RCCMNL83S18D969H", "IT"),
        ("BOXW310820HNERXN09", "BOXW310820HNERXN09", "MX"),
    ],
)
def test_national_id(finds: Finds, text: str, number: str, country: str) -> None:
    assert finds(text) == [("national_id", number, country)]


@pytest.mark.parametrize(
    "text",
    [
        "666-12-3456",
        "536-00-4399",
        "536904399",
        "943 476 5871",
        "54362315A",
        "54362315k in a hash",
        "GB123456C",
        "RCCMNL83S18D969A",
        "390.533.447-06",
        "131052-308U",
        "881320-0016",
        "44051401359",
        "2001-08-01",
        "4.2.1.3",
        "ISBN 978-0-306-40615-7",
        "12345678-1234",
        "see /536-90-4399/ or 1536-90-4399 or 536-90-43991",
    ],
)
def test_no_national_id(finds: Finds, text: str) -> None:
    assert [found for found in finds(text) if found[0] == "national_id"] == []


def test_no_rule_fails_on_any_number() -> None:
    """Every check takes every number of its rule's shapes; the library's own do not all."""
    import random

    from ownlm.data.personal.identities import _RULES, _check

    draw = random.Random(4)
    for rule in _RULES:
        for shape in rule.alone + rule.worded:
            for _ in range(300):
                letters = {"0": "0123456789", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
                _check(rule.check)("".join(draw.choice(letters.get(sign, sign)) for sign in shape))
