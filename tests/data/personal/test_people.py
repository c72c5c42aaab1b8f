"""Names and street addresses, which are looked for only when asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Values = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I spoke to Mr. John Smith today.", ["John Smith"]),
        ("Dr Ana-María O'Neill's advice", ["Ana-María O'Neill"]),
        ("Dear Bob,\nthank you", ["Bob"]),
        ("Dear Mrs. van Dyke, hello", ["van Dyke"]),
        ("Hi Zoë! My name is Ludwig van Beethoven.", ["Zoë", "Ludwig van Beethoven"]),
        ("Kind regards,\n\nAnna Lee\nSupport", ["Anna Lee"]),
        ("Mit freundlichen Grüßen\nJürgen Groß\n", ["Jürgen Groß"]),
        ("Dear Sir, Dear Customer, Hello World! Hi There, Dear Hiring Manager,", []),
        ("The Python Software Foundation met John Smith.", []),
    ],
)
def test_names(values: Values, text: str, names: list[str]) -> None:
    assert values("person", text, names=True) == names
    assert values("person", text) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("I live at 12 Main Street.", "12 Main Street"),
        ("10 Downing St, London SW1A 2AA", "10 Downing St, London SW1A 2AA"),
        ("221B Baker Street", "221B Baker Street"),
        ("742 Evergreen Terrace, Springfield, OR 97403", "742 Evergreen Terrace, Springfield, OR 97403"),
        ("350 Fifth Avenue, Suite 3301", "350 Fifth Avenue, Suite 3301"),
        ("P.O. Box 1234 in town", "P.O. Box 1234"),
        ("Unit 4719 Box 7394\nDPO AP 70942", "Unit 4719 Box 7394\nDPO AP 70942"),
        ("wohnt Hauptstraße 12a in", "Hauptstraße 12a"),
        ("14 rue de la Paix, Paris", "14 rue de la Paix"),
        ("Calle Mayor 5", "Calle Mayor 5"),
        ("Via Franscini 71", "Via Franscini 71"),
        ("Drottninggatan 5", "Drottninggatan 5"),
    ],
)
def test_addresses(values: Values, text: str, address: str) -> None:
    assert values("address", text, addresses=True) == [address]
    assert values("address", text) == []


@pytest.mark.parametrize(
    "text", ["in 2001 The Way Forward", "PEP 12 Main ideas", "3 ways to go", "a gateway 12", "box 12", "§ 12 Road map"]
)
def test_no_address(values: Values, text: str) -> None:
    assert values("address", text, addresses=True) == []
