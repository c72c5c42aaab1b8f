"""What goes wrong is said in words, and can be tried again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from ownlm.store import Store

Open = Callable[..., Any]
Say = Callable[..., None]


def problem(page: Any) -> str:
    return page.locator(".message .problem p").last.inner_text()


def test_a_server_that_went_away_is_said_and_the_message_can_be_sent_again(
    chat: Open, serve: Any, answered: Callable[[Any], None]
):
    server = serve()
    page = chat(server)
    page.watched.expected += ["ERR_CONNECTION_REFUSED"]
    server.stop()
    page.fill("#prompt", "Are you there?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message .problem")
    assert problem(page).startswith("The server cannot be reached")
    assert page.inner_text("#alert") == problem(page)
    page.click("text=Try again")
    answered(page)
    assert problem(page).startswith("The server cannot be reached")
    server.start(server.port)
    page.click("text=Try again")
    answered(page)
    page.wait_for_selector(".message .problem", state="detached")
    assert page.locator(".message").count() == 2
    assert page.locator(".versions").count() == 0
    assert page.inner_text(".facts").startswith("12 tokens")


def test_a_server_that_dies_in_the_middle_leaves_what_had_come(chat: Open, serve: Any, until: Callable[..., None]):
    server = serve()
    page = chat(server, settings={"max_tokens": 8000})
    page.watched.expected += ["ERR_"]
    page.fill("#prompt", "Go on")
    page.keyboard.press("Enter")
    until(lambda: page.locator(".assistant > .text").count() and len(page.inner_text(".assistant > .text")) > 20)
    server.stop(signal.SIGKILL)
    page.wait_for_selector(".message .problem")
    assert "broke off" in problem(page)
    assert len(page.inner_text(".assistant > .text")) > 20
    # An answer that is not whole cannot be rated, and this server keeps none anyway.
    assert page.locator("[aria-label='Good answer']").count() == 0


def test_a_prompt_that_does_not_fit_is_said_before_anything_comes(chat: Open, say: Say):
    page = chat()
    page.watched.expected += ["400 (Bad Request)"]
    say(page, "word " * 9000)
    assert "8,192" in problem(page) or "8192" in problem(page)
    # The next message is sent together with it, and so does not fit either; edited, it does.
    page.click("[aria-label='Edit and go on from here']")
    page.keyboard.press("Control+A")
    page.keyboard.type("Short")
    page.keyboard.press("Enter")
    page.wait_for_selector(".facts >> text=12 tokens")


def test_a_key_that_is_used_too_often_waits_and_one_that_was_revoked_signs_in(
    chat: Open, say: Say, visit: Open, serve: Any, tmp_path: Any, answered: Callable[[Any], None]
):
    url = str(tmp_path / "store.db")
    with Store.open(url) as store:
        text, key = store.keys.create("Anna", requests_per_minute=4)
        server = serve("--store", url)
        server.key = text
        page = visit(server)
        page.watched.expected += ["401 (Unauthorized)", "429 (Too Many Requests)"]
        page.fill("#key", text)
        page.click("button")
        page.wait_for_selector("#model-name >> text=talker")
        page.click("#toggle-options")
        page.fill("#max_tokens", "3")
        for number in range(3):
            say(page, f"Question {number}")
        say(page, "One too many")
        assert "4 requests a minute" in problem(page) and "It may be tried again in" in problem(page)
        store.keys.revoke(key.id)
        page.click("text=Try again")
        answered(page)
        assert problem(page) == "Your key is no longer good here."
        page.click(".message >> text=Sign in")
        page.wait_for_selector("#key")
    # Nothing of what was said is lost.
    assert "One too many" in page.evaluate("JSON.stringify(localStorage)")


def test_a_store_that_has_forgotten_an_answer_says_so(chat: Open, say: Say, server: Any):
    page = chat()
    page.watched.expected += ["404 (Not Found)"]
    say(page, "Hello")
    with Store.open(str(server.store)) as store:
        assert store.purge(0).conversations > 0
    page.click("[aria-label='Good answer']")
    page.wait_for_selector(".problem.bar")
    assert "is kept here" in page.inner_text(".problem.bar p")
    assert page.get_attribute("[aria-label='Good answer']", "aria-pressed") == "false"
    page.click(".problem.bar >> text=Close")
    page.wait_for_selector(".problem.bar", state="detached")


def test_a_browser_without_room_keeps_talking_and_says_so(chat: Open, say: Say):
    page = chat()
    page.evaluate(
        "() => { for (let i = 0; i < 6; i++) try { localStorage.setItem('x' + i, 'y'.repeat(2 ** 20)); } catch {} }"
    )
    page.evaluate(
        "() => { for (let i = 0; i < 2 ** 12; i++) try { localStorage.setItem('z' + i, 'y'.repeat(2 ** 10)); } catch { break; } }"
    )
    say(page, "No room " * 200)
    assert "no room left" in page.inner_text(".problem.bar p")
    assert page.inner_text(".facts").startswith("12 tokens")
