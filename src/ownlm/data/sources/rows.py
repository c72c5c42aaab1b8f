"""Records with columns or keys, from JSON and tables, as documents and conversations."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .chats import KEYS, find_conversation, known_role, whole_characters
from .lines import Broken, Record, too_large
from .options import Columns
from .records import HTML, TEXT, Failure, Place, RawDocument, Unreadable

TEXTS = ("text", "content", "raw_content", "document", "article", "body")
# Every column that may be looked at without having been named.
USUAL = KEYS | {*TEXTS, "html", "url", "title"}
_NOTES = "columns.text, columns.messages, or columns.prompt and columns.response name them"


def read_rows(
    records: Iterable[Record | Broken], place: Place, columns: Columns, limit: int
) -> Iterator[RawDocument | Failure]:
    """Documents and conversations, in the order of the records.

    Args:
        records: each a mapping of columns to values, or the reason why it could not be read.
        place: of the file.
        columns: what the recipe names.
        limit: the most bytes of a document.
    """
    if columns.conversation:
        yield from _fold(records, place, columns, limit)
        return
    for record in records:
        if isinstance(record, Broken):
            yield place.failure(record.reason, record.message, record.line)
            continue
        try:
            yield _document(record, place, columns, limit)
        except Unreadable as error:
            yield place.failed(error, record.line)


def has_content(names: Iterable[str], columns: Columns) -> bool:
    """Whether columns of these names can hold a document or a conversation."""
    known = dict.fromkeys(names, "")
    if columns.conversation:
        return {columns.conversation, columns.role, columns.content} <= known.keys()
    if named := columns.text or columns.messages or columns.prompt:
        return named in known
    if _text_key(known, columns):
        return True
    try:
        # Empty values break a conversation's rules, so that one is there shows by its complaint.
        return find_conversation(known, columns) is not None
    except Unreadable:
        return True


def unknown_columns(names: Iterable[str]) -> Unreadable:
    """No column holds anything that is known."""
    found = [f"'{name}'" for name in names]
    shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    return Unreadable("unknown-columns", f"found {shown or 'nothing'}; {_NOTES}")


def _null(key: str) -> Unreadable:
    """The column is known, and this record has nothing in it."""
    return Unreadable("empty", f"'{key}' is null")


def _text_key(value: Mapping[str, Any], columns: Columns) -> str | None:
    if columns.text:
        return columns.text
    return next((key for key in (*TEXTS, "html") if value.get(key) is not None), None)


def _document(record: Record, place: Place, columns: Columns, limit: int) -> RawDocument:
    value = record.value
    metadata, group = _carried(value, columns)
    messages, content, media = None, None, TEXT
    conversation = None if columns.text else find_conversation(value, columns)
    if conversation is not None:
        messages = conversation.messages
        metadata.update(conversation.notes)
    else:
        key = _text_key(value, columns)
        if key is None or key not in value:
            known = (*TEXTS, "html", *sorted(KEYS - {"input", "system"}))
            null = None if columns.text else next((name for name in known if value.get(name, "") is None), None)
            raise unknown_columns(value) if null is None else _null(null)
        content = _content(value[key], key, limit)
        media = HTML if key == "html" else TEXT
    url, title = value.get("url"), value.get("title")
    return RawDocument(
        source=place.source,
        file=place.file,
        begin=record.begin,
        end=record.end,
        line=record.line,
        content=content,
        media=media,
        messages=messages,
        url=url if isinstance(url, str) else None,
        title=title if isinstance(title, str) else None,
        group=group,
        metadata=metadata,
    )


def _content(value: Any, key: str, limit: int) -> str | bytes:
    """A text; or its bytes where they are not UTF-8, for whoever finds out the encoding."""
    if value is None:
        raise _null(key)
    if not isinstance(value, str | bytes):
        raise Unreadable("damaged-record", f"'{key}' is not a text but {type(value).__name__}")
    if not value.strip():
        raise Unreadable("empty", f"'{key}' is empty")
    if len(value) > limit:
        broken = too_large(0, len(value), limit)
        raise Unreadable(broken.reason, broken.message)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if not whole_characters(value):
        raise Unreadable("not-utf8", f"'{key}' holds half a character")
    return value


def _carried(value: Mapping[str, Any], columns: Columns) -> tuple[dict[str, Any], str | None]:
    """The metadata and the group that a record carries."""
    metadata = {name: plain(value[name]) for name in columns.metadata if name in value}
    if columns.id and value.get(columns.id) is not None:
        metadata["id"] = plain(value[columns.id])
    group = value.get(columns.group) if columns.group else None
    return metadata, None if group is None else str(plain(group))


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dates in ISO's form, bytes as text, other kinds as their text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        # What is not UTF-8 stays recognisable as that: half characters, which no text has.
        return bytes(value).decode(errors="surrogateescape")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _fold(
    records: Iterable[Record | Broken], place: Place, columns: Columns, limit: int
) -> Iterator[RawDocument | Failure]:
    """Rows with a message each as conversations: rows of one id stand together."""
    current: _Folded | None = None
    seen: set[str] = set()
    for record in records:
        if isinstance(record, Broken):
            yield place.failure(record.reason, record.message, record.line)
            continue
        try:
            name = _conversation_id(record, columns)
        except Unreadable as error:
            yield place.failed(error, record.line)
            continue
        if current is None or name != current.name:
            if current is not None:
                yield current.finish(place, columns)
            current = _Folded(name, record, again=name in seen)
            seen.add(name)
        current.add(record, columns, limit)
    if current is not None:
        yield current.finish(place, columns)


def _conversation_id(record: Record, columns: Columns) -> str:
    assert columns.conversation and columns.role and columns.content
    if not {columns.conversation, columns.role, columns.content} <= record.value.keys():
        raise unknown_columns(record.value)
    if record.value[columns.conversation] is None:
        raise Unreadable("damaged-record", f"'{columns.conversation}' is null, so this message has no conversation")
    return str(plain(record.value[columns.conversation]))


class _Folded:
    """A conversation that is being put together from its rows."""

    def __init__(self, name: str, first: Record, *, again: bool) -> None:
        self.name = name
        self.first = self.last = first
        self.messages: list[dict[str, Any]] = []
        self.empty = self.size = 0
        self.error: Unreadable | None = None
        if again:
            hint = "order the rows by conversation and time"
            self.error = Unreadable("invalid-chat", f"the conversation {name} goes on behind another one; {hint}")

    def add(self, row: Record, columns: Columns, limit: int) -> None:
        """Takes in a row's message; one without a text, such as a picture, is only counted."""
        assert columns.role and columns.content
        self.last = row
        said, content = row.value[columns.role], row.value[columns.content]
        role = known_role(said, columns.roles)
        if self.error is not None:
            return
        if content is None or (isinstance(content, str) and not content.strip()):
            self.empty += 1
        elif role is None:
            self.error = Unreadable("invalid-chat", f"'{said}' is no known role; columns.roles says what it means")
        elif isinstance(content, bytes):
            self.error = Unreadable("not-utf8", f"the message in row {row.line} is not UTF-8")
        else:
            self.messages.append({"role": role, "content": content})
            self.size += len(content) if isinstance(content, str) else 0
        if self.size > limit:
            broken = too_large(row.line, self.size, limit)
            self.error = Unreadable(broken.reason, broken.message)
            self.messages = []

    def finish(self, place: Place, columns: Columns) -> RawDocument | Failure:
        """The conversation, or why it is none."""
        try:
            if self.error is not None:
                raise self.error
            conversation = find_conversation({"messages": self.messages}, Columns())
            assert conversation is not None
        except Unreadable as error:
            return place.failed(error, self.first.line)
        metadata, group = _carried(self.first.value, columns)
        notes = conversation.notes | ({"empty": self.empty} if self.empty else {})
        return RawDocument(
            source=place.source,
            file=place.file,
            begin=self.first.begin,
            end=self.last.end,
            line=self.first.line,
            messages=conversation.messages,
            group=self.name if group is None else group,
            metadata={"conversation": self.name} | metadata | notes,
        )
