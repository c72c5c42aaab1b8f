"""Web pages: the text of the article, or all that is visible.

The article is what trafilatura and resiliparse agree on (``agreement.py``) without the lines around it
(``boilerplate.py``). Pages that would take trafilatura long (it compares elements with each other) or that no tree can
hold are read in simpler ways, with a note.
"""

from __future__ import annotations

import functools
import html
import logging
import re
from typing import TYPE_CHECKING, Any

from ...errors import MissingExtra
from .agreement import combine, compared
from .boilerplate import trim
from .options import ExtractOptions
from .result import Extracted, ExtractError

if TYPE_CHECKING:
    from lxml.html import HtmlElement

# Trafilatura takes some 4 s for a page of this many elements, and four times as long for twice as many.
_MANY_ELEMENTS = 30_000
# Both extractors look at all elements that an element stands in. Ordinary pages have some ten thousand such pairs.
_MANY_PAIRS = 2_000_000
# Only a page with elements as deep as this can have so many.
_DEEP = 64
# A hidden or pop-up element with more text than this is the page's own content, shown by a script.
_POPUP = 600

_DOCTYPE = re.compile(r"^\s*<!doctype[^>]{0,1000}>", re.I)
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_POPUP_CLASS = re.compile(r"rollover\S*block|tooltip|popover|read-?more", re.I)
# Class names are only looked for where XPath finds one of these words.
_CANDIDATES = (
    "//*[@hidden or contains(@style, 'none') or contains(@style, 'hidden') or contains(@class, 'rollover') "
    "or contains(@class, 'tooltip') or contains(@class, 'popover') or contains(@class, 'more')]"
)
_WRAPPERS = ("div", "span", "section")
_NO_TEXT = ("style", "template", "svg", "noscript", "noframes")
# Trafilatura drops the joiners that Persian and the scripts of India are spelled with, so they travel as two letters
# that no page holds: the last of the Anatolian hieroglyphs.
_JOINERS = {"\u200c": "\U00014645", "\u200d": "\U00014646"}
_JOINER_ENTITY = re.compile(r"&(zwn?j|#820[45]|#[xX]200[cCdD]);")

# Parsers compare each attribute of an element with all before it. Long values, such as pictures, do no harm.
_LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{20000,}")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")

_BLOCK = re.compile(r"</?(?:p|div|br|li|ul|ol|h[1-6]|tr|table|section|article|blockquote|pre|hr|dd|dt)\b[^<>]*>?", re.I)
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>?")


def extract_page(markup: str, options: ExtractOptions) -> Extracted:
    """The text of an HTML page, with its headline as the title.

    Raises:
        ExtractError: ``no-text`` where nothing is visible: only scripts, frames or pictures.
    """
    title: str | None = None
    note: tuple[str, ...] = ()
    tree = _parse(_hide_joiners(markup))
    if tree is None or not _is_shallow(tree):
        text, note = _flat_text(markup), ("too deeply nested: all visible text was kept",)
    else:
        _tidy(tree)
        titles = _titles(tree)
        title = _show_joiners(titles[0]) if titles else None
        source = _serialised(tree)
        text = ""
        if options.html == "main":
            text, note = _main_text(tree, source, titles, options)
        if not text.strip():
            text = _resiliparse(source, main=False, comments=True)
            if options.html == "main":
                note = ("no main text was found: all visible text was kept",)
        text = _show_joiners(text)
    if not text.strip():
        raise ExtractError("no-text", "the page has no visible text")
    return Extracted(text, title, note)


def _main_text(
    tree: HtmlElement, source: str, titles: list[str], options: ExtractOptions
) -> tuple[str, tuple[str, ...]]:
    links = {compared(link.text_content()) for link in tree.iter("a")}
    note: tuple[str, ...] = ()
    whole = _resiliparse(source, main=True, comments=options.comments)
    if tree.xpath("count(//*)") > _MANY_ELEMENTS:
        text, note = whole, ("a very large page: its main text was found in a simpler way",)
    else:
        text = combine(_trafilatura(tree, options), whole, links) or whole
    return trim(text, {compared(title) for title in titles}, links), note


def _parse(markup: str) -> HtmlElement | None:
    """The page's tree, or None where elements are nested more than 2,048 deep, which libxml2 stops at."""
    try:
        from lxml import etree
        from lxml.html import HTMLParser, document_fromstring
    except ImportError:
        raise MissingExtra("reading web pages", "data") from None
    parser = HTMLParser(
        encoding="utf-8",
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
        default_doctype=False,
        collect_ids=False,
    )
    # libxml2 ends a document at NUL, and makes a page with some doctypes into one without a body.
    markup = _LONG_TAG.sub(_without_attributes, _DOCTYPE.sub("", markup.replace("\0", ""), count=1))
    try:
        tree = document_fromstring(markup.encode("utf-8", "ignore"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError):
        raise ExtractError("no-text", "the page has no elements") from None
    return None if any("xcessive depth" in entry.message for entry in parser.error_log) else tree


def _is_shallow(tree: HtmlElement) -> bool:
    """Whether its elements stand in few others, once those that only wrap another one are taken out."""
    if not tree.xpath(f"boolean({'/*' * _DEEP})") or _pairs(tree) <= _MANY_PAIRS:
        return True
    gone: set[HtmlElement] = set()
    for element in list(tree.iter(*_WRAPPERS)):
        parent, inner = element.getparent(), element
        # A chain of them goes at once, since whatever is moved is walked through.
        while parent is not None and inner not in gone and _is_wrapper(inner):
            gone.add(inner)
            inner = inner[0]
        if parent is not None and inner is not element:
            inner.tail = element.tail
            parent.replace(element, inner)
    return _pairs(tree) <= _MANY_PAIRS


def _is_wrapper(element: HtmlElement) -> bool:
    """Whether it says nothing of its own about the one element in it."""
    plain = element.tag in _WRAPPERS and not element.attrib and not _is_text(element.text)
    return plain and len(element) == 1 and not _is_text(element[0].tail)


def _pairs(tree: HtmlElement) -> int:
    """How many pairs of an element and one that it stands in there are."""
    depths = {tree: 0}
    for element in tree.iterdescendants():
        depths[element] = depths[element.getparent()] + 1
    return sum(depths.values())


def _is_text(text: str | None) -> bool:
    return bool(text and not text.isspace())


def _without_attributes(tag: re.Match[str]) -> str:
    return tag[0] if len(_QUOTED.sub("", tag[0])) < 20_000 else tag[0].split(None, 1)[0]


def _tidy(tree: HtmlElement) -> None:
    """Drops what is not visible, and makes room for what trafilatura would drop."""
    from lxml import etree

    for script in tree.xpath("//script[not(contains(@type, 'ld+json'))]"):
        script.drop_tree()
    etree.strip_elements(tree, *_NO_TEXT, with_tail=False)
    for element in tree.xpath(_CANDIDATES):
        if element.tag in ("html", "body", "main", "article") or element.getparent() is None:
            continue
        hidden = element.get("hidden") is not None or _HIDDEN_STYLE.search(element.get("style") or "")
        popup = _POPUP_CLASS.search(element.get("class") or "")
        if hidden or (popup and _is_short(element)):
            element.drop_tree()
    # Quotations from social media are part of an article, whatever the class of their frame says.
    for quotation in tree.iter("blockquote"):
        frame = quotation.getparent()
        if frame is not None and "embed" in (frame.get("class") or ""):
            del frame.attrib["class"]


def _is_short(element: HtmlElement) -> bool:
    """Whether its text is a pop-up's; no more of it is looked at, since elements stand in one another."""
    size = 0
    for text in element.itertext():
        size += len(text)
        if size > _POPUP:
            return False
    return True


def _titles(tree: HtmlElement) -> list[str]:
    """What the page calls itself, the best first: its metadata, its headlines, its window title."""
    metadata: list[str] = []
    headlines: list[str] = []
    window: list[str] = []
    for element in tree.iter("meta", "h1", "title"):
        if element.tag == "meta":
            if (element.get("property") or element.get("name") or "").lower() in ("og:title", "twitter:title"):
                metadata.append(element.get("content") or "")
        else:
            (headlines if element.tag == "h1" else window).append(element.text_content())
    # With several headlines none need be the page's.
    found = [*metadata, *(headlines if len(headlines) == 1 else []), *window, *headlines]
    return [title for title in dict.fromkeys(" ".join(title.split()) for title in found) if title]


def _serialised(tree: HtmlElement) -> str:
    from lxml.html import tostring

    return tostring(tree, encoding="unicode")


@functools.cache
def _extractor() -> Any:
    try:
        import trafilatura
    except ImportError:
        raise MissingExtra("reading web pages", "data") from None
    # It reports pages without an article as errors; without a handler Python would print them.
    logging.getLogger("trafilatura").addHandler(logging.NullHandler())
    return trafilatura.extract


def _trafilatura(tree: HtmlElement, options: ExtractOptions) -> str:
    extract = _extractor()
    try:
        # Its slow second opinions are not needed where resiliparse gives one.
        found = extract(
            tree, fast=True, favor_precision=True, include_comments=options.comments, include_tables=options.tables
        )
    except (RecursionError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        return ""
    return found or ""


def _resiliparse(source: str, *, main: bool, comments: bool) -> str:
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree
    except ImportError:
        raise MissingExtra("reading web pages", "data") from None
    captions = ["figcaption", "[class*=caption]"] if main else None
    return extract_plain_text(
        HTMLTree.parse(source),
        preserve_formatting=True,
        main_content=main,
        list_bullets=False,
        alt_texts=False,
        comments=comments,
        post_meta=not main,
        skip_elements=captions,
    )


def _flat_text(markup: str) -> str:
    """All text of a page that no tree can hold, in one pass."""
    for name in ("script", "style"):
        lowered = markup.lower()
        pieces: list[str] = []
        place = 0
        while (start := lowered.find(f"<{name}", place)) >= 0:
            pieces.append(markup[place:start])
            end = lowered.find(f"</{name}", start)
            place = len(markup) if end < 0 else end
        markup = "".join([*pieces, markup[place:]])
    text = html.unescape(_TAG.sub("", _BLOCK.sub("\n", markup)))
    return "\n".join(line for line in (" ".join(line.split()) for line in text.split("\n")) if line)


def _hide_joiners(markup: str) -> str:
    if "&" in markup:
        markup = _JOINER_ENTITY.sub(lambda entity: html.unescape(entity[0]), markup)
    for joiner, letter in _JOINERS.items():
        markup = markup.replace(joiner, letter)
    return markup


def _show_joiners(text: str) -> str:
    for joiner, letter in _JOINERS.items():
        text = text.replace(letter, joiner)
    return text
