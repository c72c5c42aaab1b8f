"""Who may do what, and how often: keys, roles and rates.

A key comes as ``Authorization: Bearer KEY``, or in the cookie that the login page sets for people with a browser. The
cookie is ``SameSite=Strict``, and no change is made for another site's page; a server without keys, which listens on this
machine alone, answers to its own names only, so that no page can reach it by a name that it had made to point here.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ..store.records import ApiKey, Role
from ..store.store import Store
from .config import is_loopback
from .errors import ApiError

COOKIE = "ownlm_key"
# Methods that change nothing.
_SAFE = ("GET", "HEAD", "OPTIONS")
# What answers without a key: whether the server lives, whether it is ready, and where a key is given in.
OPEN = ("/health", "/ready", "/login")
# Buckets that are full again are forgotten once there are so many.
_MOST_BUCKETS = 10_000


class Keys:
    """The keys that open this server.

    Args:
        given: keys of the command line or the environment, which may do everything.
        store: whose keys open it too.
    """

    def __init__(self, given: Sequence[str] = (), store: Store | None = None) -> None:
        self._given = [_digest(key) for key in given]
        self._store = store
        # Apart from the other threads: nobody's long text keeps others from being let in.
        self._threads = ThreadPoolExecutor(2, "ownlm-keys")
        self._key = ApiKey("given", "given at the start", "admin", None, None, datetime.now(UTC))

    async def find(self, text: str) -> ApiKey | None:
        """Whose key a text is; takes as long for a wrong one."""
        digest = _digest(text)
        # Every one is compared, in constant time.
        if sum(hmac.compare_digest(digest, given) for given in self._given):
            return self._key
        if self._store is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._store.keys.find, text)


class Security:
    """Asks for a key, and counts requests by it.

    Args:
        app: what is behind it.
        keys: None where everybody may do everything.
        hosts: names that a server without keys answers to, besides this machine's own.
        refusal: makes the answer to a browser without a key; None is the error as everybody gets it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        hosts: Sequence[str] = (),
        refusal: Callable[[Scope, ApiError], ASGIApp | None] = lambda scope, error: None,
    ) -> None:
        self._app, self._keys, self._hosts, self._refusal = app, keys, hosts, refusal
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["key"] = None
        if scope["path"] in OPEN:
            pass
        elif self._keys is None:
            self._check_host(scope)
        else:
            try:
                scope["state"]["key"] = await self._who(scope, self._keys)
            except ApiError as error:
                if (page := self._refusal(scope, error)) is not None:
                    await page(scope, receive, send)
                    return
                raise
        key = scope["state"]["key"]
        if scope["method"] not in _SAFE and (key is None or _header(scope, b"authorization") is None):
            # With a key of its own in a header it is nobody's page that guesses what others' browsers send along.
            check_origin(scope)
        await self._app(scope, receive, send)

    async def _who(self, scope: Scope, keys: Keys) -> ApiKey:
        text = key_text(scope)
        challenge = {"WWW-Authenticate": "Bearer"}
        if text is None:
            message = "a key is needed: Authorization: Bearer KEY"
            raise ApiError(401, message, code="missing_api_key", headers=challenge)
        key = await keys.find(text)
        if key is None:
            raise ApiError(401, "this key is not known here, or was revoked", code="invalid_api_key", headers=challenge)
        if key.requests_per_minute is not None and scope["path"].startswith("/v1/"):
            wait = self._rates.take(key.id, key.requests_per_minute)
            if wait:
                message = f"this key may make {key.requests_per_minute} requests a minute"
                raise ApiError(429, message, code="rate_limit_exceeded", retry_after=math.ceil(wait))
        return key

    def _check_host(self, scope: Scope) -> None:
        named = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        name = named.rpartition(":")[0] if named.rpartition(":")[2].isdigit() else named
        if not is_loopback(name) and name.lower() not in {host.lower() for host in self._hosts}:
            message = "a server without keys answers to its own machine's names only; see ownlm serve --allow-host"
            raise ApiError(403, message, code="unknown_host")


class Rates:
    """Token buckets, one for each key: a minute's requests at once, and then as they grow again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, per_minute: int) -> float:
        """Takes one request of a key's; 0 if there was one, otherwise the seconds until there is."""
        now = self._clock()
        left, since = self._buckets.get(name, (float(per_minute), now))
        left = min(float(per_minute), left + (now - since) * per_minute / 60)
        taken = left >= 1
        self._buckets[name] = (left - taken, now)
        if len(self._buckets) > _MOST_BUCKETS:
            # A minute is enough to fill any.
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < 60}
        return 0 if taken else (1 - left) * 60 / per_minute


def check_origin(scope: Scope) -> None:
    """Refuses what another site's page has had a browser send.

    Browsers say which page it comes from (Fetch Metadata, or ``Origin`` where that is not sent); programs that are none
    say nothing, and carry nobody's cookies.

    Raises:
        ApiError: 403.
    """
    site, origin = _header(scope, b"sec-fetch-site"), _header(scope, b"origin")
    if site is not None:
        same = site in ("same-origin", "none")
    else:
        # A browser writes the scheme, the host and nothing more.
        same = origin is None or origin.partition("://")[2] == _header(scope, b"host")
    if not same:
        raise ApiError(403, "this was sent by another site's page", code="cross_site")


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def key_text(scope: Scope) -> str | None:
    """The key that a request came with.

    Raises:
        ApiError: 400; two were shown.
    """
    if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
        # Whoever stands before this server may have looked at the other one.
        raise ApiError(400, "the request shows two keys", code="ambiguous_key")
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    scheme, _, key = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    try:
        cookies = SimpleCookie(headers.get(b"cookie", ""))
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None


def needs(role: Role) -> Callable[[Request], None]:
    """A dependency of routes: whoever asks must have this role.

    Raises:
        ApiError: 403.
    """

    def check(request: Request) -> None:
        key: ApiKey | None = request.scope["state"].get("key")
        if key is not None and not key.may(role):
            message = f"this needs a key with the role '{role}', and this one has '{key.role}'"
            raise ApiError(403, message, code="insufficient_role")

    return check


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
