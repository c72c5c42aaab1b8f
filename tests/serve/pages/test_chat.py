"""The chat in a real browser: what is said, stopped, changed, said again, rated, kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ownlm.store import Store

Open = Callable[..., Any]
Say = Callable[..., None]
Until = Callable[[Callable[[], Any]], None]


def texts(page: Any) -> list[str]:
    """What is shown of each message."""
    return page.locator(".message > .text").all_inner_texts()


def said(page: Any) -> list[str]:
    """What was said in the conversation that is open, as it is kept."""
    return page.evaluate(
        """() => {
          const open = JSON.parse(localStorage['ownlm.open'] ?? 'null');
          const all = Object.keys(localStorage).filter((key) => key.startsWith('ownlm.conversation.'));
          const saved = JSON.parse(localStorage[`ownlm.conversation.${open}`] ?? localStorage[all[0]]);
          const path = [];
          for (let id = saved.chosen['']; id; id = saved.chosen[id]) path.push(saved.messages[id].text);
          return path;
        }"""
    )


def written(page: Any) -> int:
    """How much the last answer has by now."""
    return len(page.locator(".message > .text").last.inner_text()) if page.locator(".message.assistant").count() else 0


def bodies(page: Any) -> list[dict[str, Any]]:
    """Collects the requests for answers from now on."""
    found: list[dict[str, Any]] = []
    page.on("request", lambda r: found.append(json.loads(r.post_data)) if r.url.endswith("/completions") else None)
    return found


def test_an_answer_appears_as_it_is_written(chat: Open, say: Say):
    page = chat(settings={"max_tokens": 400})
    page.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver(() => {
            const text = document.querySelector('.assistant > .text')?.textContent ?? '';
            if (text.length > (window.seen.at(-1) ?? 0)) window.seen.push(text.length);
          }).observe(document.getElementById('messages'), { subtree: true, childList: true, characterData: true });
        }"""
    )
    page.fill("#prompt", "Tell me everything")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop", state="visible")
    assert page.get_attribute(".message.assistant", "aria-busy") == "true"
    page.wait_for_selector("#send", state="visible")
    seen = page.evaluate("window.seen")
    assert len(seen) > 5
    assert page.get_attribute(".message.assistant", "aria-busy") == "false"
    assert re.fullmatch(
        r"400 tokens · [\d.]+ tokens/s · first after [\d.]+ s · prompt \d+ tokens", page.inner_text(".facts")
    )
    assert "reached the most tokens" in page.inner_text(".note")
    assert page.input_value("#prompt") == ""
    assert page.inner_text("#title") == "Tell me everything"
    assert page.evaluate("document.activeElement.id") == "prompt"


def test_the_model_and_its_release_are_shown(chat: Open, server: Any):
    page = chat()
    release = json.loads(server.get("/v1/models")[2])["data"][0]["release"]
    assert page.inner_text("#served").strip() == f"talker release {release[:8]}"
    assert page.get_attribute("#release", "title") == release


def test_stopping_ends_the_work_on_the_server(
    chat: Open, say: Say, server: Any, answered: Callable[[Any], None], until: Until
):
    page = chat(settings={"max_tokens": 8000})
    for way in ("button", "escape"):
        page.fill("#prompt", "Never end")
        page.keyboard.press("Enter")
        until(lambda: written(page) > 20)
        assert server.running() == 1
        if way == "button":
            page.click("#stop")
        else:
            page.keyboard.press("Escape")
        answered(page)
        until(lambda: server.running() == 0)
        assert page.locator(".message.assistant").last.locator(".note").inner_text() == "Stopped."
        assert len(texts(page)[-1]) > 20
    # What was written stays, and the conversation goes on from it.
    sent = bodies(page)
    page.locator("#max_tokens").evaluate(
        "field => { field.value = 5; field.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    say(page, "And now?")
    assert [message["role"] for message in sent[0]["messages"]] == ["user", "assistant"] * 2 + ["user"]
    assert len(sent[0]["messages"][1]["content"]) > 20


def test_the_options_are_sent(chat: Open, say: Say, answered: Callable[[Any], None], until: Until):
    page = chat()
    sent = bodies(page)
    page.click("#toggle-options")
    page.fill("#system", "Be brief.")
    page.locator("#temperature").fill("0.3")
    page.locator("#top_p").fill("0.5")
    page.fill("#max_tokens", "7")
    page.fill("#seed", "42")
    assert page.inner_text("#temperature-value") == "0.30"
    page.click("#close-options")
    say(page, "Hello")
    assert sent[0] == {
        "model": "talker",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "temperature": 0.3,
        "top_p": 0.5,
        "max_tokens": 7,
        "seed": 42,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    page.reload()
    page.click("#toggle-options")
    assert page.input_value("#system") == "Be brief."
    # What is no number counts as none, and so does nothing.
    page.fill("#max_tokens", "-3")
    page.fill("#seed", "")
    page.click("#close-options")
    page.fill("#prompt", "Hello again")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop", state="visible")
    until(lambda: len(sent) == 2 or page.wait_for_timeout(20))
    # It would go on to the context's end.
    page.keyboard.press("Escape")
    answered(page)
    assert "max_tokens" not in sent[1] and "seed" not in sent[1]
    page.click("#toggle-options")
    page.click("#reset")
    values = [page.input_value(f"#{name}") for name in ("system", "temperature", "top_p", "max_tokens", "seed")]
    assert values == ["", "0.7", "0.95", "1024", ""]


def test_answers_and_messages_have_versions_and_none_is_lost(chat: Open, say: Say, answered: Callable[[Any], None]):
    page = chat(settings={"temperature": 2, "seed": None})
    sent = bodies(page)
    say(page, "First question")
    first = texts(page)
    page.click("[aria-label='Answer again']")
    answered(page)
    again = texts(page)
    assert again[0] == first[0] and again[1] != first[1]
    assert page.inner_text(".assistant .versions").strip().endswith("2/2")
    page.click("[aria-label='Version before']")
    assert texts(page) == first
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Next version"
    say(page, "Second question")
    assert sent[-1]["messages"][1]["content"].strip() == first[1].strip()
    # Editing the first message begins another branch; what came after the old one is not sent.
    page.locator("[aria-label='Edit and go on from here']").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("First, asked better")
    page.keyboard.press("Enter")
    answered(page)
    assert sent[-1]["messages"] == [{"role": "user", "content": "First, asked better"}]
    assert len(texts(page)) == 2
    page.locator(".user [aria-label='Version before']").click()
    assert texts(page)[:3] == [*first, "Second question"]
    page.reload()
    page.wait_for_selector(".message")
    assert texts(page)[:3] == [*first, "Second question"]
    # Taken back, an edit leaves everything as it was.
    page.locator("[aria-label='Edit and go on from here']").first.click()
    page.keyboard.type("nonsense")
    page.keyboard.press("Escape")
    assert texts(page)[:3] == [*first, "Second question"]


def test_the_same_seed_gives_the_same_answer(chat: Open, say: Say, answered: Callable[[Any], None]):
    page = chat(settings={"temperature": 1.5, "seed": 11})
    say(page, "Hello")
    first = texts(page)
    page.click("[aria-label='Answer again']")
    answered(page)
    assert texts(page) == first


def test_feedback_reaches_the_store(chat: Open, say: Say, server: Any):
    page = chat()
    say(page, "How do I reach you?")
    page.click("[aria-label='Bad answer']")
    page.wait_for_selector(".sheet")
    with Store.open(str(server.store)) as store:
        (kept,) = store.conversations.newest(limit=1)
        # The thumb counts at once, whatever else is said or not.
        (entry,) = store.feedback.of(kept.id)
        assert (entry.rating, entry.reason, entry.correction) == ("down", "", "")
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        page.keyboard.type("It names no address")
        page.locator(".sheet textarea").nth(1).fill("Write to anna.schmidt@posteo.de.")
        page.click("text=Send feedback")
        page.wait_for_selector(".sheet", state="detached")
        (entry,) = store.feedback.of(kept.id)
        assert (entry.rating, entry.reason) == ("down", "It names no address")
        assert entry.correction == "Write to [EMAIL]."
        assert kept.messages == ({"role": "user", "content": "How do I reach you?"},)
        assert kept.answers[0].message["content"].strip() == texts(page)[1].strip()
        assert kept.release == page.get_attribute("#release", "title")
        # A change of mind: an answer that was left as it was is not corrected, and a good one needs no correction.
        page.click("[aria-label='Bad answer']")
        page.wait_for_selector(".sheet")
        assert page.locator(".sheet textarea").nth(1).input_value() == "Write to anna.schmidt@posteo.de."
        page.locator(".sheet textarea").nth(1).fill(said(page)[1])
        page.click("text=Send feedback")
        page.wait_for_selector(".sheet", state="detached")
        (entry,) = store.feedback.of(kept.id)
        assert (entry.rating, entry.reason, entry.correction) == ("down", "It names no address", "")
        page.click("[aria-label='Good answer']")
        page.wait_for_selector(".sheet")
        assert page.locator(".sheet textarea").count() == 1
        page.click("text=Leave it at that")
        (entry,) = store.feedback.of(kept.id)
        assert (entry.rating, entry.correction) == ("up", "")
    pressed = [page.get_attribute(f"[aria-label='{name} answer']", "aria-pressed") for name in ("Good", "Bad")]
    assert pressed == ["true", "false"]
    page.reload()
    page.wait_for_selector(".message")
    assert page.get_attribute("[aria-label='Good answer']", "aria-pressed") == "true"


def test_conversations_are_listed_renamed_exported_and_deleted(chat: Open, say: Say, until: Until):
    page = chat(settings={"system": "Be kind."})
    say(page, "About boats\nand sails")
    page.click("#new")
    say(page, "About trains")
    assert page.locator("#list .open").all_inner_texts() == ["About trains", "About boats"]
    page.click("#list .open >> text=About boats")
    assert texts(page)[0] == "About boats\nand sails"
    page.click("#list [aria-label='Rename']")
    page.fill("#new-title", "Ships")
    page.keyboard.press("Enter")
    page.wait_for_selector("#rename-dialog", state="hidden")
    # The dialog is gone a moment before it says what was written.
    until(lambda: page.inner_text("#title") == "Ships")
    assert page.title() == "Ships · ownlm"
    # Which one was used last has not changed.
    assert page.locator("#list .open").all_inner_texts() == ["About trains", "Ships"]
    with page.expect_download() as download:
        page.click("#list [aria-label='Export as JSON']")
    assert download.value.suggested_filename == "Ships.json"
    exported = json.loads(Path(download.value.path()).read_text())
    assert exported["messages"][:2] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "About boats\nand sails"},
    ]
    assert len(exported["tree"]["messages"]) == 2
    page.click("#list [aria-label='Delete']")
    page.click("#delete-dialog .cancel")
    assert page.locator("#list .open").count() == 2
    page.click("#list [aria-label='Delete']")
    page.click("#delete-dialog >> text=Delete >> nth=-1")
    until(lambda: page.locator("#list .open").count() == 1)
    assert texts(page)[0] == "About trains"
    page.reload()
    page.wait_for_selector(".message")
    assert page.locator("#list .open").all_inner_texts() == ["About trains"]
    assert "Ships" not in page.evaluate("JSON.stringify(localStorage)")


def test_two_tabs_show_the_same_list(chat: Open, say: Say, server: Any, until: Until):
    page = chat()
    other = page.context.new_page()
    other.goto(server.address)
    say(page, "Only once")
    other.wait_for_selector("#list .open >> text=Only once")
    other.click("#list .open")
    assert texts(other) == texts(page)
    page.bring_to_front()
    say(page, "And twice")
    until(lambda: other.locator(".message").count() == 4 and other.locator(".facts").count() == 2)
    assert texts(other) == texts(page)


def test_a_page_that_is_closed_meanwhile_keeps_what_had_come(
    chat: Open, answered: Callable[[Any], None], server: Any, until: Until
):
    page = chat(settings={"max_tokens": 8000})
    page.fill("#prompt", "Never end")
    page.keyboard.press("Enter")
    until(lambda: written(page) > 50)
    page.reload()
    page.wait_for_selector(".message.assistant .note")
    assert page.inner_text(".assistant .note") == "Stopped."
    assert len(texts(page)[1]) > 20
    answered(page)
    until(lambda: server.running() == 0)


def test_copying_gives_the_text_as_the_model_wrote_it(chat: Open, say: Say, until: Until):
    page = chat(permissions=["clipboard-read", "clipboard-write"])
    say(page, "Hello")
    page.click("[aria-label='Copy the answer']")
    until(lambda: page.inner_text("#status") == "Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == said(page)[1]


def test_another_conversation_may_be_read_while_one_is_answered(
    chat: Open, say: Say, answered: Callable[[Any], None], until: Until
):
    page = chat()
    say(page, "Before")
    page.click("#toggle-options")
    page.fill("#max_tokens", "600")
    page.click("#close-options")
    page.click("#new")
    page.fill("#prompt", "A long one")
    page.keyboard.press("Enter")
    until(lambda: written(page) > 5)
    page.click("#list .open >> text=Before")
    assert texts(page)[0] == "Before"
    # One at a time: what is written waits.
    page.fill("#prompt", "Too early")
    page.keyboard.press("Enter")
    assert page.input_value("#prompt") == "Too early"
    answered(page)
    assert len(texts(page)) == 2
    page.click("#list .open >> text=A long one")
    assert page.inner_text(".facts").startswith("600 tokens")
