"""Alerts to an address that the user named, as JSON; the only thing here that leaves the machine."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import OwnlmError, UserError

# Seconds that the other side has.
PATIENCE = 10.0


def check_webhook(url: str) -> None:
    """Checks that an address is one of HTTP.

    Raises:
        UserError: it is not.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise UserError("this is no address of HTTP", where="--webhook", hint="such as https://example.org/alerts")


def post(url: str, message: Mapping[str, Any]) -> None:
    """Posts a message.

    Raises:
        OwnlmError: it did not arrive; says no more of the address than its host, since the rest may be a secret.
    """
    body = json.dumps(message, allow_nan=False).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            return
    except urllib.error.HTTPError as error:
        reason = f"it answered {error.code}"
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
    raise OwnlmError(f"the alert did not arrive: {reason}", where=f"--webhook {urlsplit(url).hostname}")
