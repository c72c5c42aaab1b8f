"""With keys on, nothing but the form is shown without one; and no other site can sign people in or out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from ownlm.serve.pages import ASSETS, WEB

Open = Callable[..., Any]
HTML = "text/html,application/xhtml+xml"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def locked(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield serve("--store", str(tmp_path_factory.mktemp("locked") / "store.db"), key="a key of the test's own")


def test_without_a_key_there_is_a_form_or_nothing(locked: Any):
    for path in ("/", "/login", "/nothing"):
        status, headers, page = locked.get(path, Accept=HTML)
        assert (status, "API key" in page, "<script" in page) == (401, True, False)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
    for name in ASSETS:
        status, _, body = locked.get(f"/assets/{name}")
        assert status == 401
        assert "API key" not in body and "missing_api_key" in body
    assert locked.get("/v1/models", Accept=HTML)[0] == 401
    assert '"error"' in locked.get("/")[2]


def test_a_person_signs_in_talks_and_signs_out(locked: Any, visit: Open):
    page = visit(locked)
    page.watched.expected += ["401 (Unauthorized)"]
    page.fill("#key", "another key")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")
    assert "not known here" in page.inner_text("[role=alert]")
    assert page.evaluate("document.activeElement.id") == "key"
    page.fill("#key", locked.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#model-name >> text=talker")
    # No script can read the key.
    assert page.evaluate("document.cookie") == ""
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    page.fill("#prompt", "Hello")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop")
    page.keyboard.press("Escape")
    page.click("text=Sign out")
    page.wait_for_selector("#key")
    assert page.context.cookies() == []
    page.goto(locked.address)
    page.wait_for_selector("#key")


def test_the_form_leads_back_to_where_one_was_and_nowhere_else(locked: Any):
    asked = locked.get("/review?page=2", Accept=HTML)[2]
    assert 'name="next" value="/review"' in asked
    hostile = '/"><script>alert(1)</script>'
    assert "<script>alert" not in locked.get("/" + hostile[1:].replace('"', "%22").replace(" ", "%20"), Accept=HTML)[2]
    targets = {
        "/review": "/review",
        "//example.org": "/",
        "/\\example.org": "/",
        "https://example.org": "/",
        "javascript:alert(1)": "/",
        "/\r\nSet-Cookie: a=b": "/",
        "": "/",
    }
    for following, expected in targets.items():
        form = urlencode({"key": locked.key, "next": following}).encode()
        status, headers, _ = locked.post("/login", form, **{"Content-Type": FORM})
        assert (status, headers["Location"]) == (303, expected), following
        cookie = SimpleCookie(headers["Set-Cookie"])["ownlm_key"]
        assert cookie["httponly"] and cookie["samesite"].lower() == "strict" and cookie["path"] == "/"


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_another_sites_page_can_send_no_form(locked: Any, path: str):
    form = urlencode({"key": locked.key}).encode()
    headers = {"Content-Type": FORM, "Cookie": f'ownlm_key="{locked.key}"'}
    others = [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://example.org"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://other.127.0.0.1"},
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{locked.port + 1}"},
    ]
    for more in others:
        status, answer, _ = locked.post(path, form, **headers, **more)
        assert (status, answer["Set-Cookie"]) == (403, None), more
    for more in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": locked.address}, {}):
        assert locked.post(path, form, **headers, **more)[0] == 303, more


def test_a_form_of_another_site_in_a_real_browser(locked: Any, visit: Open, server: Any):
    page = visit(locked)
    page.watched.expected += ["401 (Unauthorized)", "403 (Forbidden)", "form-action"]
    # Another port is another origin to a browser; a page without a policy of its own stands for the other site.
    other = page.context.new_page()
    other.route("http://localhost:9/", lambda route: route.fulfill(body="<p>elsewhere</p>", content_type="text/html"))
    page.watched.addresses.clear()
    other.goto("http://localhost:9/")
    page.watched.addresses.clear()
    other.evaluate(
        """([address, key]) => {
          const form = document.createElement('form');
          Object.assign(form, { method: 'post', action: address + '/login' });
          const field = document.createElement('input');
          Object.assign(field, { name: 'key', value: key });
          form.append(field);
          document.body.append(form);
          form.submit();
        }""",
        [locked.address, locked.key],
    )
    other.wait_for_selector("text=cross_site")
    assert page.context.cookies() == []


def test_files_are_given_out_by_name_alone_and_checked_again(server: Any):
    for name, kind in ASSETS.items():
        status, headers, body = server.get(f"/assets/{name}")
        assert status == 200
        assert headers["Content-Type"].split(";")[0] == kind
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert body == (WEB / name).read_text()
        assert server.get(f"/assets/{name}", **{"If-None-Match": headers["ETag"]})[0] == 304
    given = {path.name for path in WEB.iterdir()}
    assert given - set(ASSETS) == {"chat.html.jinja", "login.html.jinja", "login.css", "icons.svg"}
    for path in ("..%2fpages.py", "../pages.py", "%2e%2e/app.py", "chat.html.jinja", "nothing.js", "", "chat.js%00"):
        assert server.get(f"/assets/{path}")[0] == 404, path


def test_the_pages_policy_lets_nothing_in(server: Any):
    policy = server.get("/")[1]["Content-Security-Policy"]
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == "'none'"
    assert parts["script-src"] == parts["style-src"] == parts["connect-src"] == "'self'"
    assert "unsafe" not in policy and "*" not in policy
    page = server.get("/")[2]
    assert " on" + "click" not in page and "style=" not in page and "<style" not in page
    assert "http://" not in page and "https://" not in page


def test_a_server_that_keeps_nothing_asks_for_no_opinion(
    serve: Callable[..., Any], chat: Open, say: Any, tmp_path: Path
):
    page = chat(serve())
    say(page, "Hello")
    assert page.locator("[aria-label='Good answer']").count() == 0
    assert page.locator("[aria-label='Answer again']").count() == 1
    assert page.locator("text=Sign out").count() == 0
