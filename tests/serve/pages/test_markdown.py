"""Markdown: as markdown-it renders it, the same when it comes in pieces, and never a script."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

Open = Callable[..., Any]

SAMPLES = [
    "",
    "plain",
    "two\nlines",
    "two  \nlines broken",
    "two\\\nlines broken",
    "one paragraph\n\nand another",
    "# one\n## two\n###### six\n####### seven",
    "#not a heading",
    "## closed ##",
    "some *italic*, **bold**, ***both***, ~~struck~~ and `code`",
    "some _italic_, __bold__ and snake_case_names and 2*3*4",
    "**bold with *italic* inside** and *italic with **bold** inside*",
    "a * b * c and ** not bold ** and 5 ** 2",
    "*unclosed and **also",
    "`` code with ` inside `` and ` one `",
    "`unclosed code",
    "escaped \\*stars\\* and \\`ticks\\` and \\\\ and \\a",
    "- one\n- two\n- three",
    "* one\n* two",
    "+ one\n\n+ two\n\n+ three",
    "1. one\n2. two",
    "3) three\n4) four",
    "- one\n  - inner\n    - inmost\n- two",
    "1. first\n   - inner\n   - inner\n2. second",
    "- one\n\n  a second paragraph\n- two",
    "- with code\n\n  ```\n  x = 1\n  ```\n- two",
    "text\n- list at once",
    "text\n1. list at once",
    "text\n2. no list",
    "- lazy\ncontinuation\n- two",
    "> quoted\n> more\n\nnot quoted",
    "> quoted\nlazily",
    "> outer\n>\n> > inner\n> - list",
    "```python\ndef f():\n    return 1\n```",
    "```\nnever closed\n# no heading",
    "~~~\ntildes ``` inside\n~~~",
    "````\n```\n````",
    "before\n```\ncode\n```\nafter",
    "  ```\n  indented\n    more\n  ```",
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 |",
    "| a \\| b | `c` |\n|:--|--:|\n| **x** | y |",
    "a | b\n--|--\n1 | 2\n\nafter",
    "no | table\nhere",
    "---\n\n***\n\n_ _ _",
    "text\n***\ntext",
    "[link](https://example.org) and [with title](https://example.org/a 'title')",
    "[**bold** link](https://example.org/a_(b))",
    "<https://example.org/x> and <mailto:me@example.org>",
    "[not a link] and [neither](with spaces here) and ]( this",
    "<b>no html</b> &amp; <script>alert(1)</script>",
    "Ünïcödé **größer** 日本語 **太字** 👍🏽 *é*",
    "a very**bold**word and a very__not__word",
    "1\\. no list\n\\- neither",
    "line one\n\n\n\n\nline two",
    "tab\tin text",
    "trailing spaces   ",
    "   up to three spaces",
    "- [ ] a task\n- [x] done",
    "**Note:** this\n\n1. **Do** that:\n\n   ```sh\n   ls -l\n   ```\n\n2. **Then** this.",
]


class Tree(HTMLParser):
    """HTML as a list of what matters: tags, and text with its white space evened out."""

    def __init__(self, html: str, shift: int) -> None:
        super().__init__()
        self.out: list[str] = []
        self.shift = shift
        self.hidden = 0
        self.pre = False
        self.feed(html)
        merged: list[str] = []
        for part in self.out:
            if merged and not part.startswith("<") and not merged[-1].startswith("<"):
                merged[-1] += part
            else:
                merged.append(part)
        evened = [part if part.startswith("<") else " ".join(part.split()) for part in merged]
        self.parts = [part for part in evened if part]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "figcaption":
            self.hidden += 1
        name = self.name(tag)
        if not name or self.hidden:
            return
        shown = [f"{key}={str(given[key]).rstrip('/')}" for key in ("href", "start") if given.get(key)]
        self.out.append(f"<{' '.join([name, *shown])}>")

    def handle_endtag(self, tag: str) -> None:
        name = self.name(tag)
        if tag == "figcaption":
            self.hidden -= 1
        elif name and name not in ("br", "hr") and not self.hidden:
            self.out.append(f"</{name}>")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.out.append(data)

    def name(self, tag: str) -> str:
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            return f"h{min(6, int(tag[1]) + self.shift)}"
        return {"s": "del", "figure": "", "figcaption": "", "div": "", "span": "", "button": "", "svg": ""}.get(
            tag, tag
        )


@pytest.fixture
def drawn(visit: Open, server: Any) -> Callable[[list[str]], list[str]]:
    """The HTML that the page makes of texts."""
    page = visit(server)

    def draw(texts: list[str]) -> list[str]:
        return page.evaluate(
            """async (texts) => {
              const { Markdown } = await import('/assets/markdown.js');
              return texts.map((text) => {
                const place = document.createElement('div');
                new Markdown(place).update(text);
                return place.innerHTML;
              });
            }""",
            texts,
        )

    return draw


def test_what_models_write_is_rendered_as_markdown_it_renders_it(drawn: Callable[[list[str]], list[str]]):
    markdown_it = pytest.importorskip("markdown_it")
    reference = markdown_it.MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    # Ours has no blocks of code by indentation, no underlined headings and no references, which models hardly write.
    reference.disable(["code", "lheading", "reference", "image", "entity", "html_block", "html_inline"])
    different = {}
    for text, html in zip(SAMPLES, drawn(SAMPLES), strict=True):
        ours, theirs = Tree(html, 0).parts, Tree(reference.render(text), 2).parts
        if ours != theirs:
            different[text] = (ours, theirs)
    assert different == {}


def test_a_text_that_grows_ends_as_if_it_had_come_at_once(visit: Open, server: Any):
    page = visit(server)
    whole = "\n\n".join(SAMPLES)
    different = page.evaluate(
        """async (text) => {
          const { Markdown } = await import('/assets/markdown.js');
          const grown = document.createElement('div');
          const growing = new Markdown(grown);
          const different = [];
          for (let end = 0; end <= text.length; end += 1) {
            growing.update(text.slice(0, end));
            if (end % 40 && end < text.length) continue;
            const once = document.createElement('div');
            new Markdown(once).update(text.slice(0, end));
            if (once.innerHTML !== grown.innerHTML) different.push(end);
          }
          return different;
        }""",
        whole,
    )
    assert different == []


HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg/onload=window.hacked=1>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
    "[x](javascript:window.hacked=1)",
    "[x](JaVaScRiPt:window.hacked=1)",
    "[x](  javascript:window.hacked=1)",
    "[x](java\nscript:window.hacked=1)",
    "[x](&#106;avascript:window.hacked=1)",
    "[x](\x01javascript:window.hacked=1)",
    "[x](data:text/html,<script>window.hacked=1</script>)",
    "[x](vbscript:window.hacked=1)",
    "[x](//example.org/x)",
    "[x](/logout)",
    "[x](blob:https://example.org/1)",
    "<javascript:window.hacked=1>",
    "![x](x' onerror='window.hacked=1)",
    "![x](https://example.org/track.png)",
    '[x](https://example.org/"onmouseover="window.hacked=1)',
    '```"><script>window.hacked=1</script>\ncode\n```',
    "```<img src=x onerror=window.hacked=1>\ncode\n```",
    "| <script>window.hacked=1</script> | b |\n|---|---|\n| <img src=x onerror=window.hacked=1> | c |",
    "`<img src=x onerror=window.hacked=1>`",
    "<style>body{display:none}</style>",
    "<base href=https://example.org>",
    "<form action=https://example.org><button>x</button></form>",
    "<a href=https://example.org ping=https://example.org>x</a>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "{{constructor.constructor('window.hacked=1')()}}",
    "](javascript:window.hacked=1)[x](javascript:window.hacked=1",
]
# Everything that an answer may become, with the attributes it may have.
ALLOWED = {
    "p": {"dir"},
    **{f"h{level}": {"dir"} for level in (3, 4, 5, 6)},
    "ul": set(),
    "ol": {"start"},
    "li": {"dir"},
    "blockquote": set(),
    "hr": set(),
    "br": set(),
    "em": set(),
    "strong": set(),
    "del": set(),
    "code": {"dir"},
    "pre": {"tabindex"},
    "figure": {"class"},
    "figcaption": set(),
    "button": {"type", "class"},
    "svg": {"aria-hidden", "class"},
    "use": {"href"},
    "span": {"class"},
    "div": {"class", "tabindex", "role", "aria-label"},
    "table": set(),
    "thead": set(),
    "tbody": set(),
    "tr": set(),
    "th": {"class", "dir", "scope"},
    "td": {"class", "dir"},
    "a": {"href", "target", "rel"},
}
FOUND = """(place) => [...place.querySelectorAll('*')].map((e) => [
  e.tagName.toLowerCase(), [...e.attributes].map((a) => a.name), e.getAttribute('href')])"""


def check(found: list[Any]) -> None:
    """Nothing but what is allowed, and links to the web and to mailboxes alone."""
    for name, attributes, address in found:
        assert name in ALLOWED, name
        assert set(attributes) <= ALLOWED[name], (name, attributes)
        if name == "a":
            assert address.startswith(("http://", "https://", "mailto:")), address
        elif address is not None:
            assert address == "#icon-copy"


def test_nothing_that_a_model_writes_can_run_or_reach_out(visit: Open, server: Any):
    page = visit(server)
    draw = random.Random(7)
    pieces = [*HOSTILE, *SAMPLES, "`", "*", "_", "[", "](", ")", "<", ">", "|", "\n", "    ", "```", "- ", "1. ", "> "]
    mixed = ["".join(draw.choices(pieces, k=draw.randint(2, 8))) for _ in range(400)]
    for text in ("\n\n".join(HOSTILE), *HOSTILE, *mixed):
        found = page.evaluate(
            f"""async (text) => {{
              const {{ Markdown }} = await import('/assets/markdown.js');
              const place = document.createElement('div');
              document.getElementById('main').append(place);
              new Markdown(place).update(text);
              const found = ({FOUND})(place);
              place.remove();
              return found;
            }}""",
            text,
        )
        check(found)
    assert page.evaluate("window.hacked") is None
    assert page.locator("text=New conversation").count() > 0


def test_hostile_texts_in_every_place_that_shows_one(visit: Open, server: Any):
    page = visit(server)
    hostile = "\"><img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
    saved = {
        "id": "a1",
        "title": hostile,
        "messages": {
            "m1": {"id": "m1", "parent": None, "role": "user", "text": hostile, "created": 1},
            "m2": {
                "id": "m2",
                "parent": "m1",
                "role": "assistant",
                "text": hostile,
                "created": 2,
                "complete": True,
                "problem": {"text": hostile},
                "feedback": {"rating": "up", "reason": hostile, "correction": hostile},
            },
        },
        "chosen": {"": "m1", "m1": "m2"},
    }
    page.evaluate(
        "(text) => { localStorage['ownlm.conversation.a1'] = text; localStorage['ownlm.open'] = '\"a1\"'; }",
        json.dumps(saved),
    )
    page.reload()
    page.wait_for_selector(".message.assistant")
    page.click("#list [aria-label='Delete']")
    assert page.inner_text("#delete-name") == hostile
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+U")
    assert page.evaluate("document.activeElement.value") == hostile
    assert page.inner_text("#title") == hostile
    assert page.locator("img, iframe, object, embed, script:not([src])").count() == 0
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    "piece", ["[", "*", "**a ", "`", "` `` ", "_a", "![", "> ", "- ", "|", "<http", "\\", "~~", "([", "1. "]
)
def test_long_rows_of_marks_do_not_hold_the_page_up(drawn: Callable[[list[str]], list[str]], piece: str):
    text = piece * (19_000 // len(piece))
    (html,) = drawn([text])
    assert html
    (html,) = drawn(["\n".join([piece * 20] * 300)])
    assert html
