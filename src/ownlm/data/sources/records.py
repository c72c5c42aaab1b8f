"""The types that travel from a source to extraction: units of reading, raw documents, and failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TEXT = "text/plain"
MARKDOWN = "text/markdown"
RST = "text/x-rst"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that is read on its own: a file, or a piece of a large JSON Lines file.

    Attributes:
        source: the name of its source.
        name: the path from the source's root with "/" between its parts, the same on every machine.
        path: where the file is on this machine.
        kind: what its name says it holds ("jsonl", "zip", ...), "" where that says nothing; its bytes decide.
        begin, end: the byte range to read.
        line: the number of the first line in that range, from 1.
        size: bytes of the whole file.
    """

    source: str
    name: str
    path: str
    kind: str
    begin: int
    end: int
    line: int
    size: int

    @property
    def whole(self) -> bool:
        """Whether this is a whole file."""
        return self.begin == 0 and self.end == self.size


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document or a conversation as its container holds it, before any text is extracted.

    Attributes:
        source: the name of its source.
        file: the unit's name; "a.zip!inner/b.txt" for an archive's member, "x.warc.gz!7" for a web record.
        begin, end: its byte range in the decompressed file or member; -1 where that is unknown.
        line: its line, row or record number, from 1; 0 where there is none.
        content: the bytes or the text to extract from; None for a conversation.
        media: what ``content`` is, one of this module's media types.
        charset: the encoding that the container declares, or None.
        messages: a conversation, each message with a role and a content; or None.
        url, title: where the container tells them.
        group: records with the same group stay on the same side of a split; or None.
        metadata: what else is known, as values that JSON can hold.
    """

    source: str
    file: str
    begin: int = -1
    end: int = -1
    line: int = 0
    content: bytes | str | None = None
    media: str = TEXT
    charset: str | None = None
    messages: list[dict[str, Any]] | None = None
    url: str | None = None
    title: str | None = None
    group: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was not read, and why.

    Attributes:
        source, file, line: as in ``RawDocument``.
        reason: a short stable code, a key of ``REASONS``.
        message: one sentence.
    """

    source: str
    file: str
    line: int
    reason: str
    message: str


REASONS = {
    "archive-bomb": "an archive expands to more than the limits allow",
    "damaged-record": "a record, a row or a file's structure is broken",
    "empty": "nothing is there to read",
    "encrypted": "a password is needed",
    "http-status": "a web record that holds no page but another answer",
    "invalid-chat": "a conversation breaks the rules of one",
    "invalid-json": "text that is not JSON, or not an object",
    "mislabelled": "a file is not what its name says, nor anything else that can be read",
    "missing": "a path or a pattern names nothing",
    "not-utf8": "text in another encoding where only UTF-8 is allowed",
    "other-media": "a web record of another kind than text, such as a picture",
    "symlink-loop": "links that lead back to themselves",
    "too-deep": "archives in archives beyond the limit",
    "too-large": "a document larger than the limit",
    "truncated": "a file or a record ends too early",
    "unknown-columns": "no column that is known to hold a text or a conversation",
    "unreadable": "the operating system does not let it be read",
    "unsafe-path": "a name or a link in an archive that leads out of it",
    "unsupported": "a kind of file that is not read",
}


class Unreadable(Exception):
    """What is being read cannot be read further; whoever knows its name turns this into a ``Failure``.

    Args:
        reason: a key of ``REASONS``.
        message: one sentence without a full stop.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader is: names what it finds and what it cannot read."""

    source: str
    file: str

    def inside(self, member: str) -> Place:
        """The place of an archive's member."""
        return Place(self.source, f"{self.file}!{member}")

    def failure(self, reason: str, message: str, line: int = 0) -> Failure:
        assert reason in REASONS
        return Failure(self.source, self.file, line, reason, message)

    def failed(self, error: Unreadable, line: int = 0) -> Failure:
        """The failure that an error stands for."""
        return self.failure(error.reason, error.message, line)
