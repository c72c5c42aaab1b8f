"""How the page looks and who can use it: light and dark, on a phone, by keyboard alone, with a screen reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Open = Callable[..., Any]
Say = Callable[..., None]
Until = Callable[[Callable[[], Any]], None]

WIDE = """# A heading that is long: Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenverleihung und noch viel mehr

https://example.org/an/address/without/any/place/to/break/it/and/much/longer/than/a/telephone/is/wide/by/far

| first | second | third | fourth | fifth |
|---|---|---|---|---|
| some cells | with more text | than fits | beside each other | on a phone |

```python
line = "a line of code that goes on and on and on and on and on and on and on and on and on and on and on"
```

- one
  - two
    1. three `a_name_without_any_place_to_break_it_and_much_longer_than_a_telephone_is_wide_by_far`
"""


def put(page: Any, question: str, answer: str, **fields: Any) -> None:
    """Lets the page have a conversation that somebody had before, and opens it."""
    page.evaluate(
        """async ([question, answer, fields]) => {
          const { Conversation, Conversations } = await import('/assets/conversations.js');
          const conversation = new Conversation();
          const first = conversation.add(null, 'user', question);
          Object.assign(conversation.add(first.id, 'assistant', answer), { complete: true, answer: 'chatcmpl-none' }, fields);
          new Conversations(() => {}).save(conversation);
          localStorage.setItem('ownlm.open', JSON.stringify(conversation.id));
        }""",
        [question, answer, fields],
    )
    page.reload()
    page.wait_for_selector(".message.assistant")


def brightness(page: Any, selector: str = "body") -> float:
    """How bright an element's background is, from 0 to 255."""
    color = page.evaluate("(s) => getComputedStyle(document.querySelector(s)).backgroundColor", selector)
    return sum(map(float, color[color.index("(") + 1 : -1].split(",")[:3])) / 3


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_is_as_the_system_is_until_it_is_told_otherwise(chat: Open, scheme: str, dark: bool):
    page = chat(scheme=scheme)
    assert (brightness(page) < 60) == dark
    page.emulate_media(color_scheme="light" if dark else "dark")
    assert (brightness(page) < 60) != dark
    page.emulate_media(color_scheme=scheme)
    page.click("#toggle-theme")
    assert (brightness(page) < 60) != dark
    # What was chosen holds before anything is drawn: the first script sets it.
    page.reload()
    assert (brightness(page) < 60) != dark
    page.emulate_media(color_scheme="light" if dark else "dark")
    assert (brightness(page) < 60) != dark
    page.click("#toggle-options")
    page.select_option("#theme", "")
    page.emulate_media(color_scheme=scheme)
    assert (brightness(page) < 60) == dark


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(chat: Open, width: int):
    page = chat(width=width, height=700)

    def check() -> None:
        page.wait_for_timeout(250)
        wide = page.evaluate(
            """() => [...document.querySelectorAll('html, body, main, #messages, .message, dialog[open], #options, header, form')]
                 .filter((e) => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1).map((e) => e.id || e.tagName)"""
        )
        out = page.evaluate(
            """() => [...document.querySelectorAll('button, textarea, input, select, h1, .text > *')].filter((e) => {
                 const box = e.getBoundingClientRect();
                 return e.checkVisibility({ visibilityProperty: true }) && box.width && (box.left < -1 || box.right > innerWidth + 1)
                   && !e.closest('.skip') && !e.classList.contains('visually-hidden') && !e.closest('pre, .table');
               }).map((e) => e.outerHTML.slice(0, 120))"""
        )
        assert (wide, out) == ([], [])

    check()
    put(page, "word" * 200, WIDE)
    check()
    page.keyboard.press("Alt+O")
    check()
    page.keyboard.press("Escape")
    page.click("[aria-label='Bad answer']") if page.locator("[aria-label='Bad answer']").is_enabled() else None
    page.watched.expected += ["404 (Not Found)"]
    check()
    page.keyboard.press("Alt+U")
    check()
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+K")
    check()
    page.keyboard.press("Escape")
    if width < 700:
        page.click("#open-sidebar")
        check()


def test_a_phone_has_its_list_in_a_drawer(chat: Open, say: Say):
    page = chat(width=390, height=844, has_touch=True, is_mobile=True)
    say(page, "Hello")
    assert not page.is_visible("#sidebar")
    page.tap("#open-sidebar")
    page.wait_for_selector("#sidebar", state="visible")
    assert page.evaluate("document.getElementById('stage').inert")
    assert page.get_attribute("#open-sidebar", "aria-expanded") == "true"
    page.tap("#new")
    page.wait_for_selector("#sidebar", state="hidden")
    assert page.is_visible("#welcome")
    page.tap("#open-sidebar")
    page.tap("#list .open >> text=Hello")
    page.wait_for_selector("#sidebar", state="hidden")
    assert page.locator(".message").count() == 2
    page.tap("#open-sidebar")
    page.wait_for_selector("#sidebar", state="visible")
    page.keyboard.press("Escape")
    page.wait_for_selector("#sidebar", state="hidden")
    assert page.evaluate("document.activeElement.id") == "open-sidebar"
    # Fingers need room (WCAG 2.5.8 asks for 24 pixels).
    small = page.evaluate(
        """() => [...document.querySelectorAll('button')].filter((e) => e.checkVisibility())
             .filter((e) => e.getBoundingClientRect().width < 24 || e.getBoundingClientRect().height < 24).length"""
    )
    assert small == 0


def focused(page: Any) -> str:
    """What has the focus: its name, its id, or its tag."""
    return page.evaluate(
        "(e => e.getAttribute('aria-label') || e.id || e.textContent.trim() || e.tagName)(document.activeElement)"
    )


def test_everything_can_be_done_by_keyboard(chat: Open, answered: Callable[[Any], None], until: Until):
    page = chat(settings={"temperature": 2, "seed": None})
    keys = page.keyboard
    assert focused(page) == "prompt"
    keys.type("First")
    keys.press("Shift+Enter")
    keys.type("line")
    assert page.input_value("#prompt") == "First\nline"
    keys.press("Enter")
    answered(page)
    assert focused(page) == "prompt"
    keys.press("Alt+R")
    answered(page)
    assert page.inner_text(".assistant .versions").strip().endswith("2/2")
    keys.press("Alt+U")
    assert focused(page) == "Edit your message"
    keys.press("Control+A")
    keys.type("Second")
    keys.press("Enter")
    answered(page)
    assert page.inner_text(".user > .text") == "Second"
    # Through the messages, and with Tab to what can be done with one.
    keys.press("Alt+I")
    keys.press("Alt+ArrowUp")
    assert page.evaluate("document.activeElement.matches('.message.assistant')")
    for name in ("Copy the answer", "Answer again", "Good answer", "Bad answer"):
        keys.press("Tab")
        assert focused(page) == name
    keys.press("Enter")
    page.wait_for_selector(".sheet")
    keys.type("No sense")
    keys.press("Tab")
    keys.press("Tab")
    assert focused(page) == "Leave it at that"
    keys.press("Tab")
    keys.press("Enter")
    page.wait_for_selector(".sheet", state="detached")
    until(lambda: focused(page) == "Bad answer")
    keys.press("Alt+ArrowUp")
    assert page.evaluate("document.activeElement.matches('.message.user')")
    keys.press("Alt+ArrowDown")
    keys.press("Alt+ArrowDown")
    assert focused(page) == "prompt"
    # Options, and back to where one came from.
    keys.press("Alt+O")
    assert focused(page) == "system"
    keys.press("Tab")
    keys.press("ArrowRight")
    assert page.inner_text("#temperature-value") != "2.00" or page.input_value("#temperature") == "2"
    keys.press("Escape")
    assert focused(page) == "Options" and not page.is_visible("#options")
    # The list: rename, delete.
    keys.press("Alt+N")
    keys.type("Third")
    keys.press("Enter")
    answered(page)
    keys.press("Alt+L")
    assert focused(page) == "Third"
    keys.press("Tab")
    assert focused(page) == "Rename"
    keys.press("Enter")
    keys.type("Named")
    keys.press("Enter")
    until(lambda: page.inner_text("#title") == "Named")
    until(lambda: focused(page) == "Rename")
    keys.press("Tab")
    keys.press("Tab")
    keys.press("Enter")
    page.wait_for_selector("#delete-dialog", state="visible")
    assert focused(page) == "Cancel"
    keys.press("Tab")
    keys.press("Enter")
    until(lambda: page.locator("#list .open").all_inner_texts() == ["First"])
    keys.press("Alt+K")
    page.wait_for_selector("#keys-dialog", state="visible")
    keys.press("Escape")
    page.wait_for_selector("#keys-dialog", state="hidden")
    before = brightness(page)
    keys.press("Alt+M")
    assert abs(brightness(page) - before) > 100


def test_tab_goes_through_the_page_in_the_order_it_is_read(chat: Open, say: Say):
    page = chat()
    say(page, "Hello")
    begin = "document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')"
    page.evaluate(begin)
    order = []
    for _ in range(18):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        order.append(focused(page))
        assert page.evaluate(
            "(s => s.outlineStyle !== 'none' || document.activeElement.id === 'prompt')(getComputedStyle(document.activeElement))"
        ), order[-1]
    assert order == [
        "Skip to the message box",
        "new",
        "Hello",
        "Rename",
        "Export as JSON",
        "Delete",
        "show-keys",
        "Switch to dark",
        "Options",
        "Edit and go on from here",
        "Copy your message",
        "Copy the answer",
        "Answer again",
        "Good answer",
        "Bad answer",
        "prompt",
        "Send",
    ]
    page.evaluate(begin)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert focused(page) == "prompt"


def test_a_screen_reader_hears_the_answer_once_and_whole(chat: Open, say: Say):
    page = chat(settings={"max_tokens": 60})
    page.evaluate(
        """() => {
          window.heard = [];
          const status = document.getElementById('status');
          new MutationObserver(() => window.heard.push(status.textContent)).observe(status, { childList: true });
        }"""
    )
    say(page, "Hello")
    answer = page.inner_text(".assistant > .text")
    assert page.evaluate("window.heard") == ["The model is answering.", f"The answer: {answer}"]
    roles = page.evaluate("[...document.querySelectorAll('.message')].map(e => e.querySelector('h2').textContent)")
    assert roles == ["You", "Answer"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of(chat: Open, say: Say, scheme: str):
    axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = chat(scheme=scheme, bypass_csp=True)

    def check() -> None:
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        found = axe_playwright.Axe().run(page, options=options).response["violations"]
        assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []

    check()
    put(page, "Show me", WIDE + "\n> quoted\n\n~~gone~~ `code` [link](https://example.org)", finish="length")
    check()
    page.click("[aria-label='Answer again']")
    page.wait_for_selector("#send", state="visible")
    page.click("[aria-label='Bad answer']")
    page.wait_for_selector(".sheet")
    check()
    page.keyboard.press("Escape")
    put(page, "Show me", "", complete=False, problem={"text": "The server cannot be reached."})
    check()
    page.keyboard.press("Alt+O")
    check()
    page.keyboard.press("Escape")
    for keys, name in (("Alt+K", "#keys-dialog"),):
        page.keyboard.press(keys)
        page.wait_for_selector(name, state="visible")
        check()
        page.keyboard.press("Escape")
    page.click("#list [aria-label='Delete']")
    check()
    page.click("#delete-dialog .cancel")
    page.set_viewport_size({"width": 390, "height": 800})
    page.click("#open-sidebar")
    page.wait_for_timeout(300)
    check()


def test_who_wants_no_motion_gets_none(chat: Open):
    page = chat(reduced_motion="reduce")
    page.evaluate("document.getElementById('messages').hidden = false")
    page.evaluate(
        """() => { const dots = document.createElement('div'); dots.className = 'thinking';
             dots.append(document.createElement('i')); document.getElementById('messages').append(dots); }"""
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.thinking i')).animationName") == "none"
