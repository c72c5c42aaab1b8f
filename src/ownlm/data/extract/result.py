"""What extraction gives, or why it gives nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["empty", "encrypted", "damaged", "not-text", "no-text", "archive-bomb", "unsupported"]


@dataclass(frozen=True)
class Extracted:
    """The text of one document.

    Attributes:
        text: repaired and normalised, with ``\\n`` line ends and none at either end.
        title: where the document names one outside its text; a page's headline is its title and not in ``text``.
        note: what a reader of the report may want to know, each a short phrase such as ``decoded as cp1251``.
    """

    text: str
    title: str | None = None
    note: tuple[str, ...] = ()


class ExtractError(Exception):
    """Content that gives no text.

    Args:
        reason: a short stable code. ``empty``: no content, or nothing but white space; ``encrypted``: a password is
            needed; ``damaged``: not what its format demands; ``not-text``: binary content where text was said to be;
            ``no-text``: a document without a text layer, such as a scan, or a page without visible text;
            ``archive-bomb``: a compressed document that expands beyond measure;
            ``unsupported``: no reader for this kind.
        message: one sentence without a full stop.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
