"""Reading a unit: what its bytes are, and through the archives in it, the raw documents it holds."""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from ..read import split_articles
from .archives import Member, has_member, open_zip, printable, tar_members, zip_members
from .lines import read_json, read_json_lines
from .options import ReadLimits, SourceOptions
from .records import DOCX, HTML, MARKDOWN, PDF, RST, TEXT, Failure, Place, RawDocument, Unit, Unreadable
from .rows import read_rows
from .sniff import COMPRESSED, HEAD, inner_name, is_tar, kind_of_name, sniff
from .streams import Budget, ByteStream, Expansion, decompress, open_stream, seekable
from .tables import read_csv, read_parquet
from .warc import read_warc

_MEDIA = {"text": TEXT, "markdown": MARKDOWN, "rst": RST, "html": HTML, "pdf": PDF}
# Kinds that a name promises in more words than its bytes tell: they agree.
_AGREE = {("docx", "zip"), ("bare", "text"), ("warc", "arc"), ("json", "jsonl"), ("jsonl", "json")}

Found = Iterator[RawDocument | Failure]


def read_unit(unit: Unit, source: SourceOptions, limits: ReadLimits) -> Found:
    """The raw documents of a unit in their order, and a failure for everything in it that cannot be read.

    Never raises for what a file holds. At most one document, and some buffers, are in memory at a time.

    Args:
        unit: what to read.
        source: the recipe's words on it.
        limits: how large documents and archives may be.

    Raises:
        MissingExtra: the file's format needs a library that is not installed.
        StorageError: a temporary copy of an archive's member does not fit on the disk.
    """
    place = Place(unit.source, unit.name)
    reader = _Reader(source, limits, unit.size)
    if source.query is not None and not unit.size:
        yield place.failure("empty", "the query gives no row")
        return
    try:
        with open_stream(unit.path, unit.begin, None if unit.whole else unit.end) as stream:
            if unit.whole:
                yield from reader.file(stream, place, unit.name, unit.kind, depth=0)
            else:
                yield from reader.json_lines(stream, place, unit.line)
    except Unreadable as error:
        yield place.failed(error)
    except OSError as error:
        yield place.failure("unreadable", f"it cannot be read: {(error.strerror or str(error)).lower()}")


class _Reader:
    """Reads streams of every kind; one for each unit, since the limits count for all of it."""

    def __init__(self, source: SourceOptions, limits: ReadLimits, size: int) -> None:
        self._source = source
        self._columns = source.columns
        self._limits = limits
        self._budget = Budget(limits, size)

    def file(self, stream: ByteStream, place: Place, name: str, promised: str, depth: int) -> Found:
        """The documents of a file, or of an archive's member.

        Args:
            stream: the bytes.
            place: how the file is reported.
            name: whose suffix tells what is inside, where it is compressed.
            promised: the kind that its name promises.
            depth: how many archives it lies in.

        Raises:
            Unreadable: the file as a whole cannot be read, or not further.
        """
        found = False
        for record in self._read(stream, place, name, promised, depth):
            found = True
            yield record
        if not found:
            yield place.failure("empty", "it holds no document")

    def _read(self, stream: ByteStream, place: Place, name: str, promised: str, depth: int) -> Found:
        head = stream.peek(HEAD)
        if not head:
            stream.read(1)  # raises where an error, not the end, is what comes
        kind = sniff(head, promised)
        if kind in COMPRESSED:
            yield from self._compressed(stream, kind, place, name, depth)
        elif kind == "zip":
            yield from self._zip(stream, place, promised, depth)
        elif kind == "tar":
            yield from self._members(tar_members(stream, place, self._budget), place, depth)
        elif kind in ("warc", "arc"):
            yield from read_warc(stream, kind, place, self._budget)
        else:
            notes = {} if kind == promised or (promised, kind) in _AGREE or not promised else {"named": promised}
            yield from self._documents(stream, kind, place, name, notes)

    def json_lines(self, stream: ByteStream, place: Place, line: int) -> Found:
        """The documents of JSON Lines, or of a piece of them whose first line has the number ``line``."""
        limit = self._limits.max_document_bytes
        yield from read_rows(read_json_lines(stream, limit, line), place, self._columns, limit)

    def _documents(self, stream: ByteStream, kind: str, place: Place, name: str, notes: dict[str, Any]) -> Found:
        limit = self._limits.max_document_bytes
        if kind == "jsonl":
            found = self.json_lines(stream, place, 1)
        elif kind == "json":
            found = read_rows(read_json(stream, limit), place, self._columns, limit)
        elif kind in ("csv", "tsv"):
            found = read_rows(read_csv(stream, kind, self._columns, limit), place, self._columns, limit)
        elif kind == "parquet":
            found = self._parquet(stream, place)
        elif kind == "text" and _is_wikitext(name):
            found = self._articles(stream, place)
        else:
            found = iter([_file(stream.read_all(limit), place, _MEDIA[kind])])
        for record in found:
            if isinstance(record, RawDocument):
                record.metadata.update(notes)
            yield record

    def _parquet(self, stream: ByteStream, place: Place) -> Found:
        limit = self._limits.max_document_bytes
        with seekable(stream) as file:
            yield from read_rows(read_parquet(file, self._columns), place, self._columns, limit)

    def _compressed(self, stream: ByteStream, kind: str, place: Place, name: str, depth: int) -> Found:
        """What a compressed file holds; with a tar in it, the two are one archive."""
        self._go_deeper(depth)
        inner = inner_name(name)
        expanded = decompress(stream, kind, self._budget)
        below = depth if is_tar(expanded.peek(HEAD)) else depth + 1
        yield from self._read(expanded, place, inner, kind_of_name(inner), below)

    def _zip(self, stream: ByteStream, place: Place, promised: str, depth: int) -> Found:
        """A zip's members, or the Word document that it is."""
        with seekable(stream) as file, open_zip(file, self._limits) as archive:
            if has_member(archive, "word/document.xml"):
                self._check_expanded(archive)
                file.seek(0)
                content = ByteStream(file.read).read_all(self._limits.max_document_bytes)
                document = _file(content, place, DOCX)
                document.metadata.update({} if promised == "docx" else {"named": promised})
                yield document
            elif has_member(archive, "[Content_Types].xml"):
                raise Unreadable("unsupported", "it is an office file other than a text, such as a table of figures")
            elif promised == "docx":
                raise Unreadable("mislabelled", "its name promises docx, but it is another kind of archive")
            else:
                yield from self._members(zip_members(archive, place, self._budget), place, depth)

    def _check_expanded(self, archive: zipfile.ZipFile) -> None:
        """A document's parts are expanded by whoever extracts its text, and never beyond the sizes stated here."""
        expanded = sum(info.file_size for info in archive.infolist())
        packed = sum(info.compress_size for info in archive.infolist())
        Expansion(self._budget).spend(expanded, packed)

    def _members(self, members: Iterator[Member | Failure], place: Place, depth: int) -> Found:
        self._go_deeper(depth)
        for member in members:
            if isinstance(member, Failure):
                yield member
                continue
            here = place.inside(printable(member.name))
            try:
                yield from self.file(member.stream, here, member.name, kind_of_name(member.name), depth + 1)
            except Unreadable as error:
                if self._budget.exhausted:
                    raise
                yield here.failed(error)

    def _go_deeper(self, depth: int) -> None:
        if depth >= self._limits.max_depth:
            limit = self._limits.max_depth
            raise Unreadable("too-deep", f"archives lie in one another more than {limit} deep (limits.max_depth)")

    def _articles(self, stream: ByteStream, place: Place) -> Found:
        """The articles of a WikiText file."""
        raw = stream.read_all(self._limits.max_document_bytes)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise Unreadable("not-utf8", f"byte 0x{raw[error.start]:02x} is not UTF-8") from None
        begins = list(itertools.accumulate((len(line) + 1 for line in raw.split(b"\n")), initial=0))
        for line, article in split_articles(text):
            begin = begins[line - 1]
            end = begin + len(article.rstrip().encode())
            yield RawDocument(place.source, place.file, begin, end, line, article)


def _file(content: bytes, place: Place, media: str) -> RawDocument:
    """A file that is one document."""
    return RawDocument(place.source, place.file, 0, len(content), content=content, media=media)


def _is_wikitext(name: str) -> bool:
    return re.fullmatch(r"wiki\.\w+\.(tokens|raw)", PurePosixPath(name).name) is not None
