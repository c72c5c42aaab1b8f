"""Lines around an article that are not of it: its headline, the date line, "Read more", "Sign up for our newsletter".

The rules are the labels and phrases that news and blog software prints; each is only applied where it stands in such
places: labels begin a short line, and appeals, credits and bare links count at the article's end alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from .agreement import compared

# A headline is looked for among the first lines; what stands before it is dropped with it unless it is a paragraph.
_HEAD_LINES = 4
_SHORT = 100
_LABELLED = 150
_APPEAL = 150

_DATE_LINE = re.compile(
    r"\b(?:19|20)\d\d\b.*\b\d{1,2}[:h.]\d\d\b|^(?:by|published|updated|posted|last updated)\b", re.I
)
_SENTENCE_END = re.compile(r"[.!?…:\"”’»)\]。！？]$")
_LABEL = re.compile(
    r"""^\W{0,5}(?:
    related(?:\ (?:post|article|stor|coverage|content|news|video|link|reading|topic)\w*)?
    | read\ (?:more|also|next|this) | also\ read | see\ (?:more|also) | watch
    | more(?:\ (?:from|on)[^:]{0,40})? | don'?t\ miss | you\ (?:may|might)\ (?:also\ )?(?:like|enjoy)
    | recommended(?:\ for\ you)? | must[-\ ]read | what\ to\ read\ next | up\ next | trending | most\ (?:read|popular)
    | filed\ under | tags? | tagged | posted\ (?:in|by|on) | categor(?:y|ies) | source | share\ this(?:\ \w+)?
    | advertisement | comments? | leave\ a\ (?:comment|reply) | also\ on\ [^:]{1,30}
    | lesen\ sie\ auch | mehr\ zum\ thema | (?:à\ )?lire\ aussi | lea\ también | leia\ (?:também|mais) | saiba\ mais
    | leggi\ anche | читайте\ также
    )\s*(?:[:|\]….!?-]|$)""",
    re.I | re.X,
)
_APPEAL_FIRST = re.compile(
    r"^\W{0,5}(?:get|join|subscribe|sign up|follow|like|share|click|download|copyright|©|e-?mail|contact)\b", re.I
)
_APPEAL_ANYWHERE = re.compile(
    r"""\b(?:subscribe | subscription | sign(?:ing)?\ up | newsletter
    | follow\ (?:us|him|her|them|me|[@\w][\w.@]*(?:\ \w+){0,4})\ on | (?:share|like)\ (?:this|it|us)
    | all\ rights\ reserved | copyright | click\ here | (?:may|can)\ be\ reached | tell\ us\ what\ you\ think
    | download\ (?:our|the)\ app | join\ (?:our|the)\ (?:conversation|newsletter|discussion)
    | privacy\ policy | terms\ of\ (?:use|service))\b | © | \(c\)\ \d{4}""",
    re.I | re.X,
)
_CREDIT = re.compile(
    r"""^\W{0,5}(?:additional\ )?(?:reporting|editing|writing|compiled|edited|written|reported)
    \ (?:and\ (?:writing|editing|reporting)\ )?by\b
    | \bcontributed\ to\ this\ (?:report|article|story|post)\W{0,5}$""",
    re.I | re.X,
)


def trim(text: str, titles: Collection[str], links: Collection[str]) -> str:
    """An article without the lines around it.

    Args:
        text: the article, a paragraph a line.
        titles: the page's names for itself, as compared lines.
        links: the texts of its links, as compared lines.
    """
    lines = [(line, compared(line)) for line in text.split("\n")]
    lines = _without_headline(lines, titles)
    while len(lines) > 1 and _is_date_line(*lines[0]):
        lines = lines[1:]
    lines = _without_labels(lines, links)
    while len(lines) > 1 and _is_tail(*lines[-1], links):
        lines.pop()
    return "\n".join(line for line, _ in lines)


def _without_headline(lines: list[tuple[str, str]], titles: Collection[str]) -> list[tuple[str, str]]:
    for i, (_, words) in enumerate(lines[: min(_HEAD_LINES, len(lines) - 1)]):
        # A title may go on with the site's name.
        begins = words.count(" ") >= 3 and any(title.startswith(words) for title in titles)
        if words and (begins or words in titles):
            return [line for line in lines[:i] if len(line[1]) >= _SHORT] + lines[i + 1 :]
    return lines


def _is_date_line(line: str, words: str) -> bool:
    return (len(words) < _SHORT and bool(_DATE_LINE.search(line)) and not _SENTENCE_END.search(line)) or not words


def _without_labels(lines: list[tuple[str, str]], links: Collection[str]) -> list[tuple[str, str]]:
    kept = []
    listing = False
    for line, words in lines:
        if len(words) <= _LABELLED and _LABEL.match(line):
            # After a label on its own come the links that it announces.
            listing = len(words) <= 30
        elif not (listing and _begins_with_link(words, links)):
            listing = False
            kept.append((line, words))
    return kept or lines


def _begins_with_link(words: str, links: Collection[str]) -> bool:
    """Whether a line is a link, but for a word or two such as "[VIDEO]"."""
    return len(words) >= 20 and any(words[:end] in links for end in range(len(words), max(len(words) - 13, 19), -1))


def _is_tail(line: str, words: str, links: Collection[str]) -> bool:
    if not words or _CREDIT.search(line):
        return True
    limit = 2 * _APPEAL if _APPEAL_FIRST.search(line) else _APPEAL
    if len(words) <= limit and _APPEAL_ANYWHERE.search(line):
        return True
    # An address that is spelled out is a reference, other bare links are teasers.
    return words in links and "://" not in line
