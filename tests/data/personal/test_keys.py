"""Secrets by prefix, by structure and by what stands beside them. All are made up."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

import pytest

from ownlm.data.personal.keys import is_random

Finds = Callable[..., list[tuple[str, str, str]]]

_DRAW = random.Random(3)
_ANY = string.ascii_letters + string.digits


def _drawn(length: int, letters: str = _ANY) -> str:
    """Random letters with a digit among them."""
    return "".join(_DRAW.choices(letters, k=length - 1)) + "7"


TOKENS = [
    ("AWS", "AKIA" + _drawn(16, string.ascii_uppercase + "234567")),
    ("GitHub", "ghp_" + _drawn(36)),
    ("GitHub", "github_pat_" + _drawn(22) + "_" + _drawn(59)),
    ("GitLab", "glpat-" + _drawn(20)),
    ("Slack", "xoxb-" + _drawn(12, string.digits) + "-" + _drawn(24)),
    ("Stripe", "sk_live_" + _drawn(24)),
    ("Google", "AIza" + _drawn(35)),
    ("Google", "ya29." + _drawn(60)),
    ("SendGrid", "SG." + _drawn(22) + "." + _drawn(43)),
    ("Hugging Face", "hf_" + _drawn(34)),
    ("ownlm", f"ownlm_{_drawn(12, string.ascii_lowercase + string.digits)}_{_drawn(43)}"),
    ("npm", "npm_" + _drawn(36)),
    ("sk", "sk-" + _drawn(48)),
    ("sk", "sk-proj-" + _drawn(64)),
    ("Telegram", "110201543:AA" + _drawn(33)),
    ("JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0." + _drawn(43)),
]


@pytest.mark.parametrize(("issuer", "token"), TOKENS)
def test_token(finds: Finds, issuer: str, token: str) -> None:
    for text in (token, f"use {token}, please", f"key='{token}'", f"Authorization: Bearer {token}\n", f"钥匙{token}。"):
        assert finds(text) == [("secret", token, issuer)], text
    # The second part of a web token begins as the first does.
    assert issuer == "JWT" or finds(f"x{token}") == []


def test_private_key(finds: Finds) -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + (_drawn(64) + "\n") * 5 + "-----END RSA PRIVATE KEY-----"
    assert finds(f"see\n{key}\nend") == [("secret", key, "private key")]
    cut = key[: key.index("-----END")].rstrip()
    assert finds(cut) == [("secret", cut, "private key")]
    assert finds(key.replace("PRIVATE", "PUBLIC")) == []


@pytest.mark.parametrize(
    ("text", "value", "detail"),
    [
        ("postgres://bob:s3cr3tPw@db.corp.com/x", "bob:s3cr3tPw", "password in a URL"),
        ("https://:t0k3nvalue@host", ":t0k3nvalue", "password in a URL"),
        ('api_key = "aB3dE5gH7jK9mN1pQ2"', "aB3dE5gH7jK9mN1pQ2", "unknown"),
        ("SECRET_KEY: 9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015", "unknown"),
        ("client_secret=Zx9+Qw3/Er5Ty7Ui1Op0As==", "Zx9+Qw3/Er5Ty7Ui1Op0As==", "unknown"),
        ("password: hunter2x9", "hunter2x9", "password"),
        ("my password is Tr0ub4dor&3.", "Tr0ub4dor&3", "password"),
        ('"pwd":"q1w2e3r4t5"', "q1w2e3r4t5", "password"),
    ],
)
def test_beside_a_word(finds: Finds, text: str, value: str, detail: str) -> None:
    assert [found for found in finds(text) if found[0] == "secret"] == [("secret", value, detail)]


@pytest.mark.parametrize(
    "text",
    [
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "550e8400-e29b-41d4-a716-446655440000",
        "public_key = aB3dE5gH7jK9mN1pQ2",
        "primary_key: aB3dE5gH7jK9mN1pQ2",
        "api_key = YOUR_API_KEY_GOES_HERE_2024",
        "token = settings.SECRET_KEY_FALLBACK_2024",
        "password = os.environ['DB_PASS1']",
        "password: your-password1",
        "if password == 'hunter2x9':",
        "https://user:password@host/x",
        "http://host:8080/a@b",
        "sk-learn-style-names-are-not-keys",
        "AKIAxxxxxxxxxxxxxxxx",
        "the key is under the mat",
        "eyJ is how a token begins",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_no_secret(finds: Finds, text: str) -> None:
    assert [found for found in finds(text) if found[0] == "secret"] == []


def test_random_or_written() -> None:
    draw = random.Random(9)
    for letters in (_ANY, string.hexdigits.lower()):
        values = ["".join(draw.choices(letters, k=32)) for _ in range(1000)]
        assert sum(is_random(value.encode()) for value in values) > 980
    for written in ("PyUnicode_AsUTF8String", "2001-08-01T12:00:00", "test_that_it_works_2024_v2", "a" * 30 + "12"):
        assert not is_random(written.encode())
