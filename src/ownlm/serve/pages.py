"""The pages for people: the chat at ``/``, its script and style, and the form that asks for a key.

A page is made on the server, its script is a few modules as they are written, and nothing is fetched from elsewhere. The
policy (CSP level 3) lets no script run but those files, and no text become HTML by one.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from .errors import ApiError
from .serving import key_of, serving_of

router = APIRouter(include_in_schema=False)

WEB = Path(__file__).parent / "web"
# Everything that is given out, by name: there is no way from a name to another file.
ASSETS: Mapping[str, str] = {
    "base.css": "text/css",
    "chat.css": "text/css",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript"
        for name in (
            "api",
            "chat",
            "conversations",
            "dom",
            "markdown",
            "messages",
            "settings",
            "shortcuts",
            "sidebar",
            "theme",
        )
    },
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A browser asks whether what it has is still the newest; an update of ownlm is seen at once.
CHECKED = {"Cache-Control": "no-cache"}
SHORTCUTS = (
    (("Enter",), "Send"),
    (("Shift", "Enter"), "Begin a new line"),
    (("Esc",), "Stop the answer, or close what is open"),
    (("Alt", "N"), "New conversation"),
    (("Alt", "I"), "To the message box"),
    (("Alt", "R"), "Answer again"),
    (("Alt", "U"), "Edit your last message"),
    (("Alt", "C"), "Copy the last answer"),
    (("Alt", "↑"), "To the message before"),
    (("Alt", "↓"), "To the next message"),
    (("Alt", "L"), "To the list of conversations"),
    (("Alt", "O"), "Options"),
    (("Alt", "M"), "Light or dark"),
    (("Alt", "K"), "These shortcuts"),
)


@router.get("/")
async def show_chat(request: Request) -> Response:
    """The chat."""
    serving = serving_of(request)
    page = render(
        "chat.html.jinja",
        # An answer that is not kept cannot be rated.
        feedback=serving.store is not None and serving.config.keep_conversations,
        signed_in=key_of(request) is not None,
        shortcuts=SHORTCUTS,
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, **SAFE, **CHECKED})


@router.get("/assets/{name}")
async def show_asset(request: Request, name: str) -> Response:
    """A script, a style or a drawing."""
    if name not in ASSETS:
        raise ApiError(404, "there is nothing at this address", code="unknown_url")
    content = read(name)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, **SAFE, **CHECKED}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=ASSETS[name])


def login_page(message: str, following: str = "/", *, wrong: bool = False) -> Response:
    """The form that asks for a key, as an answer with 401; it needs no other file, since those need a key.

    Args:
        message: why it is shown.
        following: the address that is gone to with the right key.
        wrong: whether the message says that something was wrong.
    """
    style = (read("base.css") + read("login.css")).decode()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; base-uri 'none'"
    page = render("login.html.jinja", message=message, following=following, wrong=wrong, style=style)
    headers = {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'", "WWW-Authenticate": "Bearer"}
    return HTMLResponse(page, 401, {**headers, **SAFE, "Cache-Control": "no-store"})


def render(name: str, **values: Any) -> str:
    """A page made of its template."""
    return _templates().get_template(name).render(**values)


@functools.cache
def read(name: str) -> bytes:
    """A file of the folder ``web``."""
    return (WEB / name).read_bytes()


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(WEB)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
