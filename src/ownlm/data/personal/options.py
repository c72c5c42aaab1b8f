"""What is looked for, and what becomes of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from ...config import Config
from ...errors import nearest

Policy = Literal["keep", "mask", "replace", "drop"]
Kind = Literal["secret", "email", "iban", "card", "national_id", "ip_address", "phone", "address", "person"]


class KindOfData(NamedTuple):
    """One row of the table of kinds."""

    description: str
    policy: Policy
    placeholder: str


# In the order of the search: what an earlier kind has found, a later one no longer sees. The most certain come first.
KINDS: dict[Kind, KindOfData] = {
    "secret": KindOfData("API keys, tokens, private keys and passwords", "mask", "[SECRET]"),
    "email": KindOfData("e-mail addresses", "mask", "[EMAIL]"),
    "iban": KindOfData("international bank account numbers, by length and check digits", "mask", "[IBAN]"),
    "card": KindOfData("payment card numbers, by brand, length and check digit", "mask", "[CARD]"),
    "national_id": KindOfData("national identity, tax and health numbers", "mask", "[NATIONAL_ID]"),
    "ip_address": KindOfData("IPv4 and IPv6 addresses of machines", "mask", "[IP_ADDRESS]"),
    "phone": KindOfData("telephone numbers", "mask", "[PHONE]"),
    "address": KindOfData("street addresses and post boxes (opt-in)", "mask", "[ADDRESS]"),
    "person": KindOfData("names of people, beside a title, a greeting or a signature (opt-in)", "mask", "[PERSON]"),
}

# Where a number is written without its country's code, it is tried as one of these.
REGIONS: tuple[str, ...] = (
    "US",
    "CA",
    "GB",
    "IE",
    "DE",
    "AT",
    "CH",
    "FR",
    "BE",
    "NL",
    "ES",
    "PT",
    "IT",
    "SE",
    "NO",
    "DK",
    "FI",
    "PL",
)
REGIONS += ("CZ", "HU", "AU", "NZ", "ZA", "IN", "BR", "MX", "JP")


class Span(NamedTuple):
    """A place in one text.

    Attributes:
        kind: of ``KINDS``.
        start: the first character.
        end: the character after the last.
        detail: the country, the card's brand, the key's issuer; never the value.
    """

    kind: Kind
    start: int
    end: int
    detail: str


class PersonalOptions(Config):
    """What is looked for in the texts, and what becomes of it."""

    policy: dict[str, Policy] = Field(default_factory=dict)
    """What becomes of each kind, or of 'all' the others: keep, mask ([EMAIL]), replace (by a made-up value, the same
    for the same value within a document) or drop the document. Where nothing is said, it is masked."""
    names: bool = False
    """Look for the names of people as well: only those beside a title, a greeting or a signature are found."""
    addresses: bool = False
    """Look for street addresses as well."""
    obfuscated: bool = False
    """Look for e-mail addresses written as 'name (at) example dot com' as well."""
    regions: tuple[str, ...] = REGIONS
    """Countries (ISO 3166, two letters) whose telephone numbers are known without the country's code."""
    allow: tuple[str, ...] = ()
    """Values that are never counted, such as your own support line, and domains whose e-mail addresses are not."""

    @field_validator("policy")
    @classmethod
    def _known_kinds(cls, policy: dict[str, Policy]) -> dict[str, Policy]:
        for kind in policy:
            if kind != "all" and kind not in KINDS:
                raise ValueError(f"'{kind}' is not a kind of personal data; {nearest(kind, [*KINDS, 'all'])}")
        return policy

    @field_validator("regions")
    @classmethod
    def _two_letters(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        for region in regions:
            if len(region) != 2 or not region.isascii() or not region.isupper():
                raise ValueError(f"'{region}' is not a country's code of two capital letters, such as DE")
        return regions

    def policy_of(self, kind: Kind) -> Policy:
        """What becomes of a kind."""
        return self.policy.get(kind) or self.policy.get("all") or KINDS[kind].policy

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that are looked for, in the order of the search."""
        left_out = {"address": not self.addresses, "person": not self.names}
        return tuple(kind for kind in KINDS if not left_out.get(kind, False))
