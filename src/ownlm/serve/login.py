"""People with a browser show their key once, and a cookie shows it from then on."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Scope

from .errors import ApiError
from .pages import login_page
from .security import COOKIE
from .serving import serving_of

router = APIRouter(include_in_schema=False)

# In seconds: a month, after which the key is asked for again.
REMEMBERED = 30 * 24 * 3600
_MOST_BYTES = 4096


def refusal(scope: Scope, error: ApiError) -> ASGIApp | None:
    """The form in place of the error, for a browser that asks for a page and has no key."""
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    asks = scope["method"] == "GET" and b"text/html" in accept and not scope["path"].startswith("/v1/")
    return login_page("Sign in with an API key.", scope["path"]) if asks and error.status_code == 401 else None


@router.get("/login")
async def show(request: Request) -> Response:
    """The form."""
    return login_page("Sign in with an API key.")


@router.post("/login")
async def enter(request: Request) -> Response:
    """Takes a key from the form; the right one is remembered in a cookie that no script can read."""
    body = await request.body()
    fields = (
        parse_qs(body[:_MOST_BYTES].decode(errors="replace"), max_num_fields=10) if len(body) <= _MOST_BYTES else {}
    )
    key, following = fields.get("key", [""])[0].strip(), fields.get("next", ["/"])[0]
    keys = serving_of(request).keys
    if keys is not None and await keys.find(key) is None:
        return login_page("This key is not known here, or was revoked.", following, wrong=True)
    # Only within this server: "//elsewhere" and "/\\elsewhere" are other hosts to a browser.
    inside = following.startswith("/") and following.isprintable() and following[1:2] not in ("/", "\\")
    answer = RedirectResponse(following if inside else "/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, key, max_age=REMEMBERED, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout")
async def leave(request: Request) -> Response:
    """Forgets the key."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
