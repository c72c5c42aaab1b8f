"""Web archives: WARC (ISO 28500) and its forerunner ARC.

Both are records one after another, each a header, a length and so many bytes. One broken record must not cost the
rest, so reading goes on at the next header behind it; public readers stop there, or give the broken record as whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .pages import HEADER_END, Page, content_type, header_fields, read_page
from .records import DOCX, HTML, MARKDOWN, PDF, TEXT, Failure, Place, RawDocument, Unreadable
from .sniff import HEAD, sniff
from .streams import CHUNK, Budget, ByteStream

MEDIA = {
    "text/html": HTML,
    "application/xhtml+xml": HTML,
    "application/html": HTML,
    "text/plain": TEXT,
    "text/markdown": MARKDOWN,
    PDF: PDF,
    DOCX: DOCX,
}
# A media type that servers give to anything.
_ANYTHING = (None, "application/octet-stream", "unk", "no-type")
_SNIFFED = {"html": HTML, "pdf": PDF, "text": TEXT}
_DOCUMENTS = ("response", "resource", "conversion")
# What crawlers note about their own work, and the addresses of hosts.
_OWN_SCHEMES = ("metadata:", "dns:", "filedesc:", "whois:")

_HEADER_BYTES = 1 << 16
_WARC = re.compile(rb"(?:^|(?<=\n))WARC/\d\.\d{1,2}[ \t]*\r?\n")
# URL, IP address, date, media type, length; in version 2 five more between the last two (archive.org's ARC format).
_ARC = re.compile(rb"(?:^|(?<=\n))([a-zA-Z][\w+.-]*:[^\n]*?) (\S+) (\d{8,18}) (\S+)((?: \S+){0,5}?) (-?\w+)[ \t]*\r?\n")


@dataclass(frozen=True, slots=True)
class _Header:
    """What both formats say before a record's bytes."""

    kind: str
    url: str | None
    length: int | None
    media: str | None
    date: str | None
    cut: str | None = None


def read_warc(stream: ByteStream, kind: str, place: Place, budget: Budget) -> Iterator[RawDocument | Failure]:
    """The pages of a web archive, and a failure for every record that should be one and is not.

    Args:
        stream: the decompressed bytes.
        kind: "warc" or "arc".
        place: of the file; a record's is "x.warc.gz!<number>".
        budget: of the file, with the limits of reading.
    """
    records = _Records(stream, kind, place, budget)
    while True:
        try:
            yield from records.read()
            return
        except Unreadable as error:
            yield records.here().failed(error, records.number)
            if not stream.resync():
                return


class _Records:
    """Reads records, and knows the number of the one it is at."""

    def __init__(self, stream: ByteStream, kind: str, place: Place, budget: Budget) -> None:
        self._stream = stream
        self._pattern = _WARC if kind == "warc" else _ARC
        self._parse = _warc_header if kind == "warc" else _arc_header
        self._place = place
        self._budget, self._limits = budget, budget.limits
        self.number = 0

    def here(self) -> Place:
        return self._place.inside(str(self.number))

    def read(self) -> Iterator[RawDocument | Failure]:
        """The documents and failures from here to the end.

        Raises:
            Unreadable: the stream itself breaks off.
        """
        while self._to_next_line():
            self.number += 1
            begin = self._stream.offset
            if not self._pattern.match(self._stream.peek(_HEADER_BYTES)):
                yield self.here().failure("damaged-record", "no record begins where one should", self.number)
                self._find_header(begin)
                continue
            try:
                header = self._parse(self._stream)
                if header.length is None or header.length < 0:
                    raise Unreadable("damaged-record", "its length is missing or is no number")
            except Unreadable as error:
                yield self.here().failed(error, self.number)
                self._find_header(begin)
                continue
            found = self._block(header, begin)
            if found is not None:
                yield found

    def _to_next_line(self) -> bool:
        """Leaves out the empty lines between records; whether anything follows."""
        while (ahead := self._stream.peek(1)) in (b"\r", b"\n"):
            self._stream.read(1)
        if not ahead:
            self._stream.read(1)  # raises where an error, not the end, is what comes
        return bool(ahead)

    def _find_header(self, broken: int) -> None:
        """Goes to the next header, or to the end; the one at ``broken`` is not meant.

        Raises:
            Unreadable: the stream itself breaks off.
        """
        start = 1 if self._stream.offset == broken else 0
        while ahead := self._stream.peek(CHUNK):
            found = self._pattern.search(ahead, start)
            if found:
                self._stream.skip(found.start())
                return
            # A header may lie across the end of what is looked at.
            last = ahead.rfind(b"\n", 1) if len(ahead) == CHUNK else -1
            self._stream.skip(last if last > 0 else len(ahead))
            start = 1
        self._stream.read(1)

    def _block(self, header: _Header, begin: int) -> RawDocument | Failure | None:
        """A record's bytes, as a document where it should be one.

        Raises:
            Unreadable: the stream itself breaks off.
        """
        assert header.length is not None
        wanted = header.kind in _DOCUMENTS and not (header.url or "").startswith(_OWN_SCHEMES)
        large = header.length > self._limits.max_document_bytes
        if wanted and not large:
            block = self._stream.read_exactly(header.length)
            size = len(block)
        else:
            block = b""
            size = self._stream.skip(header.length)
        end = self._stream.offset
        if size < header.length:
            return self.here().failure(
                "truncated", f"the file ends after {size:,} of the record's {header.length:,} bytes", self.number
            )
        if not self._ends_here():
            # Its length is wrong; what it really holds cannot be known.
            failure = self.here().failure("damaged-record", "its length is not that of its content", self.number)
            self._find_header(begin)
            return failure
        if not wanted:
            return None
        try:
            if large:
                limit = self._limits.max_document_bytes
                raise Unreadable("too-large", f"it has {size:,} bytes, more than limits.max_document_bytes ({limit:,})")
            return self._document(header, block, begin, end)
        except Unreadable as error:
            return self.here().failed(error, self.number)

    def _ends_here(self) -> bool:
        ahead = self._stream.peek(_HEADER_BYTES)
        return not ahead or ahead.startswith((b"\r\n", b"\n")) or self._pattern.match(ahead) is not None

    def _document(self, header: _Header, block: bytes, begin: int, end: int) -> RawDocument:
        page = _page(header, block, self._budget)
        if page.status != 200:
            raise Unreadable("http-status", f"the server answered with status {page.status}")
        if page.media not in MEDIA and page.media not in _ANYTHING:
            raise Unreadable("other-media", f"it is {page.media}")
        if not page.body.strip():
            raise Unreadable("empty", "the page is empty")
        found = _SNIFFED.get(sniff(page.body[:HEAD], "bare"))
        media = MEDIA.get(page.media or "", found)
        if media is None:
            raise Unreadable("other-media", "its media type is not declared, and its bytes tell of none that is read")
        metadata: dict[str, Any] = {"date": header.date} if header.date else {}
        if header.cut:
            metadata["truncated"] = header.cut
        if found in (HTML, PDF) and found != media:
            metadata["declared"] = page.media
            media = found
        return RawDocument(
            source=self._place.source,
            file=self.here().file,
            begin=begin,
            end=end,
            line=self.number,
            content=page.body,
            media=media,
            charset=page.charset,
            url=header.url,
            metadata=metadata,
        )


def _page(header: _Header, block: bytes, budget: Budget) -> Page:
    """A record's page: out of an HTTP answer, or the block itself."""
    media, charset = content_type(header.media)
    if header.kind == "response" and (media == "application/http" or block.startswith(b"HTTP/")):
        return read_page(block, budget)
    return Page(200, media, charset, block)


def _warc_header(stream: ByteStream) -> _Header:
    ahead = stream.peek(_HEADER_BYTES)
    end = HEADER_END.search(ahead)
    if end is None:
        raise Unreadable("damaged-record", "its header has no end")
    fields = header_fields(ahead[: end.start()])
    stream.skip(end.end())
    length = fields.get("content-length", "")
    return _Header(
        kind=fields.get("warc-type", "").lower(),
        url=fields.get("warc-target-uri", "").strip("<>") or None,
        length=int(length) if length.isdecimal() else None,
        media=fields.get("content-type"),
        date=fields.get("warc-date"),
        cut=fields.get("warc-truncated"),
    )


def _arc_header(stream: ByteStream) -> _Header:
    found = _ARC.match(stream.peek(_HEADER_BYTES))
    assert found is not None
    stream.skip(found.end())
    url, _, date, media, _, length = (part.decode(errors="replace") for part in found.groups())
    kind = "warcinfo" if url.startswith("filedesc:") else "response"
    return _Header(kind, url, int(length) if length.isdecimal() else None, media, date)
