"""Cards and bank accounts, against the checks of python-stdnum."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ownlm.data.personal.money import luhn

Finds = Callable[..., list[tuple[str, str, str]]]
Values = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "number", "brand"),
    [
        ("4111111111111111", "4111111111111111", "Visa"),
        ("4111 1111 1111 1111", "4111 1111 1111 1111", "Visa"),
        ("4111-1111-1111-1111.", "4111-1111-1111-1111", "Visa"),
        ("4111\u00a01111\u00a01111\u00a01111", "4111\u00a01111\u00a01111\u00a01111", "Visa"),
        ("４１１１１１１１１１１１１１１１", "４１１１１１１１１１１１１１１１", "Visa"),
        ("卡号4111111111111111，谢谢", "4111111111111111", "Visa"),
        ("4111 1111 1111 1111 12/27 123", "4111 1111 1111 1111", "Visa"),
        ("5555555555554444", "5555555555554444", "Mastercard"),
        ("2223003122003222", "2223003122003222", "Mastercard"),
        ("3782 822463 10005", "3782 822463 10005", "American Express"),
        ("6011111111111117", "6011111111111117", "Discover"),
        ("30569309025904", "30569309025904", "Diners Club"),
        ("3530111333300000", "3530111333300000", "JCB"),
        ("6200000000000005", "6200000000000005", "UnionPay"),
        ("my card 4222222222222 was lost", "4222222222222", "Visa"),
        ("card no. 630427373398", "630427373398", "Maestro"),
        ("card 060426070011 is gone", "060426070011", "unknown"),
    ],
)
def test_card(finds: Finds, text: str, number: str, brand: str) -> None:
    assert finds(text) == [("card", number, brand)]


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "0.4111111111111111",
        "4111111111111111.5",
        "id4111111111111111",
        "4111111111111111abc",
        "630427373398",
        "4222222222222",
        "1234 4111 1111 1111 1111 9876",
        "8842-4111111111111111",
        "0000000000000000",
        "20140401000000",
        "550e8400-e29b-41d4-a716-446655440000",
        "d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_no_card(finds: Finds, text: str) -> None:
    assert finds(text) == []


def test_luhn() -> None:
    reference = pytest.importorskip("stdnum.luhn")
    draw = random.Random(1)
    for _ in range(2000):
        digits = "".join(draw.choices("0123456789", k=draw.randint(1, 20)))
        assert luhn(digits) == reference.is_valid(digits)


# The examples of SWIFT's registry of account numbers.
ACCOUNTS = [
    "GB29NWBK60161331926819",
    "DE89370400440532013000",
    "FR1420041010050500013M02606",
    "ES9121000418450200051332",
    "IT60X0542811101000000123456",
    "NL91ABNA0417164300",
    "BE68539007547034",
    "CH9300762011623852957",
    "AT611904300234573201",
    "SE4550000000058398257466",
    "NO9386011117947",
    "DK5000400440116243",
    "FI2112345600000785",
    "PL61109010140000071219812874",
    "PT50000201231234567890154",
    "MT84MALT011000012345MTLCAST001S",
    "SA0380000000608010167519",
    "BR1800360305000010009795493C1",
]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_account(finds: Finds, account: str) -> None:
    spaced = " ".join(account[i : i + 4] for i in range(0, len(account), 4))
    for form in (account, spaced, account.lower(), spaced.replace(" ", "-"), spaced.replace(" ", "\u00a0")):
        assert finds(f"from {form} to another") == [("iban", form, account[:2])]
    other = account[:4] + ("1" if account[4] != "1" else "2") + account[5:]
    assert not any(kind == "iban" for kind, _, _ in finds(other))


@pytest.mark.parametrize(
    "text", ["GB29NWBK6016133192681", "XX29NWBK60161331926819", "aGB29NWBK60161331926819", "GB29NWBK60161331926819x"]
)
def test_no_account(finds: Finds, text: str) -> None:
    assert not any(kind == "iban" for kind, _, _ in finds(text))
