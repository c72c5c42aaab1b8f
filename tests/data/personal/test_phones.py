"""Telephone numbers as people write them, and the numbers that are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Finds = Callable[..., list[tuple[str, str, str]]]


@pytest.mark.parametrize(
    ("text", "number", "region"),
    [
        ("+1 212 736 5000", "+1 212 736 5000", "US"),
        ("+442079460958", "+442079460958", "GB"),
        ("(+49) 30 1234567", "(+49) 30 1234567", "DE"),
        ("+41 (0)44 668 18 00", "+41 (0)44 668 18 00", "CH"),
        ("＋４９　３０　１２３４５６７", "＋４９　３０　１２３４５６７", "DE"),
        ("+49\u00a030\u00a01234567", "+49\u00a030\u00a01234567", "DE"),
        ("+49\u201130\u20111234567", "+49\u201130\u20111234567", "DE"),
        ("call\u202a +44 20 7946 0958\u202c now", "+44 20 7946 0958", "GB"),
        ("0044 20 7946 0958", "0044 20 7946 0958", "GB"),
        ("tel:+1-212-736-5000", "+1-212-736-5000", "US"),
        ("212-736-5000", "212-736-5000", "US"),
        ("(212) 736-5000", "(212) 736-5000", "US"),
        ("**212.736.5000**", "212.736.5000", "US"),
        ("(212)736-5000x12", "(212)736-5000x12", "US"),
        ("1-800-736-5000 ext. 9", "1-800-736-5000 ext. 9", "US"),
        ("01.84.17.61.18", "01.84.17.61.18", "FR"),
        ("020 7946 0958", "020 7946 0958", "GB"),
        ("Phone: 467 3395", "467 3395", ""),
        ("my mobile number is 07911123456", "07911123456", ""),
        ("Telefon: 030/1234567", "030/1234567", ""),
        ("467 3395 (office)", "467 3395", ""),
        ("please call me back tomorrow at 555 0147 12", "555 0147 12", ""),
        ("What is your phone number?\n\n2127365000", "2127365000", ""),
        ("电话：+86 10 6552 9988。", "+86 10 6552 9988", "CN"),
    ],
)
def test_phone(finds: Finds, text: str, number: str, region: str) -> None:
    assert finds(text) == [("phone", number, region)]


@pytest.mark.parametrize(
    "text",
    [
        "2001-08-01 and 01/08/2001 and 20010801",
        "2001-08-01 12:30:00",
        "from 1999-2003 and 1914 - 1918, 2010/2011/2012",
        "call me on 2001-08-01",
        "it was called 1 000 000 times",
        "reached 1.234.567.000",
        "version 1.22.333.4444",
        "pi is 3.14159265358979",
        "ISBN 978-0-306-40615-7 or ISBN 0-306-40615-2",
        "order 212-736-5000",
        "issue #2127365000",
        "$2127365000",
        "550e8400-e29b-41d4-a716-446655440000",
        "rows 1234567 to 2345678",
        "pages 1001-1010, 2000-2010",
        "Decimal('+1000000000')",
        "+1.5e10 +12",
        "51.5074 -0.1278",
        "01 02 03 04 05",
        "1 2 3 4 5 6 7 8 9",
        "0000000000 and 1111111111",
        "https://host/2127365000/x",
        "call 999 now",
        "UTC+02:00",
        "07:30-09:45",
        "1,234,567,890",
        "x2127365000y",
    ],
)
def test_no_phone(finds: Finds, text: str) -> None:
    assert finds(text) == []


def test_side_by_side(finds: Finds) -> None:
    text = "(212) 736-5000 212-736-5001 / +49 30 1234567 2001-08-01"
    found = [value for kind, value, _ in finds(text) if kind == "phone"]
    assert found == ["(212) 736-5000", "212-736-5001", "+49 30 1234567"]


def test_regions(finds: Finds) -> None:
    assert finds("212-736-5000", regions=("DE",)) == []
    assert finds("020 7946 0958", regions=("GB",)) == [("phone", "020 7946 0958", "GB")]
    assert finds("+1 212 736 5000", regions=()) == [("phone", "+1 212 736 5000", "US")]
