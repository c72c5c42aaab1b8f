"""The user's own files as records: plain text, JSON Lines, JSON and tables.

| file | one record is |
|---|---|
| .txt, .md, .rst and any other | the whole file |
| wiki.*.tokens, wiki.*.raw | an article of WikiText |
| .jsonl, .ndjson | a line |
| .json | an object of the list |
| .csv, .tsv | a row; the header names the columns |

A record's keys, or a table's columns, are ``text``; or ``messages``; or a question and its answer: ``prompt`` with
``response`` or ``completion``, ``instruction`` (with ``input`` or not) with ``output`` or ``response``. ``system`` may
stand beside a question. Everything is UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError
from ..files import json_fault, read_json, read_text

Kind = Literal["text", "chat"]

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".tokens")
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
ANSWERS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
)
# A text and what is made from it, where nothing is said: the first of these that a file has.
TEXT_PAIRS = (
    ("source", "target"),
    ("src", "tgt"),
    ("input", "output"),
    ("document", "summary"),
    ("article", "highlights"),
    ("text", "summary"),
    ("question", "answer"),
    ("prompt", "completion"),
    ("instruction", "output"),
)
NESTED = "translation"
EXPECTED = "expected 'text', 'messages', 'prompt' and 'response', or 'instruction' and 'output'"


@dataclass(frozen=True)
class Record:
    """A document or a conversation.

    Attributes:
        text: a document's text, or None.
        messages: a conversation, each message with a role and a content; or None.
        source: the file.
        line: the line where it begins, from 1; in a .json file, its number in the list.
    """

    text: str | None
    messages: list[dict[str, Any]] | None
    source: str
    line: int

    @property
    def where(self) -> str:
        """The place, as errors name it."""
        return f"{self.source}:{self.line}"


def list_files(paths: Iterable[str | Path], kind: Kind | None = None) -> list[Path]:
    """The files that ``paths`` name: a folder is everything readable in it, at any depth, in sorted order.

    Args:
        paths: files and folders.
        kind: for conversations, a folder's plain texts are left out.

    Raises:
        DataError: a path is missing, or a folder has nothing to read.
    """
    suffixes = RECORD_SUFFIXES if kind == "chat" else TEXT_SUFFIXES + RECORD_SUFFIXES
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            several = str(path).split(",")
            hint = f"write several as a list: [{', '.join(several)}]" if len(several) > 1 else "check the path"
            raise DataError("there is no such file or folder", where=str(path), hint=hint)
        if not path.is_dir():
            files.append(path)
            continue
        inside = [p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file()]
        visible = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not visible:
            raise DataError("this folder has no file to read", where=str(path), hint="expected " + ", ".join(suffixes))
        files += sorted(visible, key=lambda p: p.relative_to(path).as_posix())
    return files


@dataclass(frozen=True)
class Row:
    """A line of JSON Lines, an object of a JSON list or a row of a table, as it stands.

    Attributes:
        values: by key or column; of a table, all texts.
        source: the file.
        line: the line where it begins, from 1; in a .json file, its number in the list.
    """

    values: Mapping[str, Any]
    source: str
    line: int

    @property
    def where(self) -> str:
        """The place, as errors name it."""
        return f"{self.source}:{self.line}"


def read_rows(paths: Iterable[str | Path], columns: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of JSON Lines, JSON lists and tables, for data that is more than a text or a conversation.

    Args:
        paths: files and folders.
        columns: the names of a table's columns, where its first line is a row and no header.

    Raises:
        DataError: names the file, the line and what is wrong: nothing there, empty, of another kind, not UTF-8, a broken
            line, a value that is no object.
    """
    for path in list_files(paths, "chat"):
        if path.suffix.lower() not in (*RECORD_SUFFIXES, ".json"):
            expected = ", ".join((*RECORD_SUFFIXES, ".json"))
            raise DataError("rows are expected here, not plain text", where=str(path), hint=f"expected {expected}")
        empty = True
        for value, line in _read_values(path, columns):
            empty = False
            if not isinstance(value, Mapping):
                raise DataError(f"an object was expected, not {type(value).__name__}", where=f"{path}:{line}")
            yield Row(value, str(path), line)
        if empty:
            raise DataError("this file is empty", where=str(path))


def read_records(paths: Iterable[str | Path], kind: Kind | None = None) -> Iterator[Record]:
    """Reads files and folders, a record at a time.

    Args:
        paths: files and folders.
        kind: what is wanted. It decides where a record holds both a text and a conversation, and a record that holds
            only the other is an error. None takes either.

    Raises:
        DataError: names the file, the line and what is wrong: nothing there, empty, binary, not UTF-8, a broken line,
            unknown keys, an empty text, a conversation without an answer.
    """
    for path in list_files(paths, kind):
        empty = True
        for record in _read_file(path, kind):
            empty = False
            yield record
        if empty:
            raise DataError("this file is empty", where=str(path))


def split_articles(text: str) -> Iterator[tuple[int, str]]:
    """The articles of a WikiText file, each with the line where it begins, from 1.

    An article begins with a heading of the first level, `` = Title = ``, between two blank lines; headings inside it
    have more signs.
    """
    lines = text.split("\n")
    begins = [i for i in range(len(lines)) if _is_title(lines, i)]
    if not begins or any(line.strip() for line in lines[: begins[0]]):
        begins.insert(0, 0)
    for start, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        article = "\n".join(lines[start:end]).rstrip()
        if article:
            yield start + 1, article + "\n"


def _is_title(lines: Sequence[str], i: int) -> bool:
    line = lines[i].rstrip()
    if not line.startswith(" = ") or not line.endswith(" =") or line.startswith(" = = "):
        return False
    before = i == 0 or not lines[i - 1].strip()
    return before and (i + 1 == len(lines) or not lines[i + 1].strip())


def _read_file(path: Path, kind: Kind | None) -> Iterator[Record]:
    if path.suffix.lower() in (*RECORD_SUFFIXES, ".json"):
        return (_record(value, kind, path, line) for value, line in _read_values(path))
    return _read_text(path, kind)


def _read_values(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[Any, int]]:
    """What a file of rows holds, and the line where each begins."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _read_lines(path)
    if suffix == ".json":
        return _read_list(path)
    return _read_table(path, "\t" if suffix == ".tsv" else ",", columns)


def _read_text(path: Path, kind: Kind | None) -> Iterator[Record]:
    text = read_text(path)
    if kind == "chat":
        raise DataError(
            "this is plain text, conversations were expected",
            where=str(path),
            hint="use the objective 'causal' for text",
        )
    if path.name.startswith("wiki.") and path.suffix in (".tokens", ".raw"):
        for line, article in split_articles(text):
            yield Record(article, None, str(path), line)
    elif text.strip():
        yield Record(text, None, str(path), 1)


def _read_lines(path: Path) -> Iterator[tuple[Any, int]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(
            f"this file cannot be read: {(error.strerror or str(error)).lower()}", where=str(path)
        ) from None
    with file:
        # A binary file is split on newlines only, as JSON Lines asks: other line ends may stand inside a text.
        for number, raw in enumerate(file, 1):
            where = f"{path}:{number}"
            if b"\0" in raw:
                raise DataError("this is a binary file, JSON Lines was expected", where=where)
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"this is not UTF-8 text: byte 0x{raw[error.start]:02x}", where=where, hint="convert the file first"
                ) from None
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"this line is not valid JSON: {json_fault(error)}", where=where) from None
            yield value, number


def _read_list(path: Path) -> Iterator[tuple[Any, int]]:
    values = read_json(path)
    if not isinstance(values, list):
        raise DataError(
            "a list of objects was expected", where=str(path), hint="for one object a line, name the file .jsonl"
        )
    for number, value in enumerate(values, 1):
        yield value, number


def _read_table(path: Path, delimiter: str, columns: Sequence[str]) -> Iterator[tuple[Any, int]]:
    # The csv module refuses fields beyond 128 KiB unless told otherwise; documents are longer.
    csv.field_size_limit(2**31 - 1)
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            header = list(columns) or next(rows, [])
            if any("\0" in name for name in header):
                raise DataError("this is a binary file, a table was expected", where=str(path))
            if twice := next((name for name in header if header.count(name) > 1), None):
                raise DataError(f"two columns are called {twice!r}", where=f"{path}:1", hint="rename one of them")
            while True:
                number = rows.line_num + 1
                row = next(rows, None)
                if row is None:
                    return
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"this row has {len(row)} fields, {'the columns are' if columns else 'the header'} {len(header)}",
                        where=f"{path}:{number}",
                        hint="a field that holds a line end or the delimiter must be quoted",
                    )
                yield dict(zip(header, row, strict=True)), number
    except UnicodeDecodeError:
        read_text(path)  # says where
        raise
    except csv.Error as error:
        raise DataError(f"this is not a valid table: {error}", where=f"{path}:{number}") from None


def _record(value: Any, kind: Kind | None, path: Path, line: int) -> Record:
    where = f"{path}:{line}"
    if not isinstance(value, Mapping):
        raise DataError(f"an object was expected, not {type(value).__name__}", where=where)
    answer = next((keys for keys in ANSWERS if all(value.get(key) is not None for key in keys)), None)
    chat = "messages" in value or answer is not None
    if not chat and "text" not in value:
        found = ", ".join(f"'{key}'" for key in value) or "nothing"
        raise DataError(f"found {found}; {EXPECTED}", where=where)
    if "text" in value and (kind == "text" or not chat):
        if kind == "chat":
            raise DataError(
                "this is a text, a conversation was expected", where=where, hint="use the objective 'causal'"
            )
        return Record(_text_of(value, "text", where), None, str(path), line)
    if kind == "text":
        raise DataError("this is a conversation, a text was expected", where=where, hint="use the objective 'chat'")
    if "messages" in value:
        messages = _messages_of(value["messages"], where)
    else:
        assert answer is not None
        messages = _question_and_answer(value, *answer, where)
    return Record(None, messages, str(path), line)


def _text_of(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value[key]
    if not isinstance(text, str):
        raise DataError(f"'{key}' is not a text but {type(text).__name__}", where=where)
    if not text.strip():
        raise DataError(f"'{key}' is empty", where=where)
    return _whole_characters(text, where)


def _whole_characters(text: str, where: str) -> str:
    """JSON can write half of a surrogate pair, which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"this text holds half a character: \\u{ord(text[error.start]):04x}", where=where) from None
    return text


def _question_and_answer(value: Mapping[str, Any], asked: str, answered: str, where: str) -> list[dict[str, Any]]:
    question = _text_of(value, asked, where)
    if asked == "instruction" and value.get("input"):
        question += "\n\n" + _text_of(value, "input", where)
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": _text_of(value, answered, where)},
    ]
    if value.get("system"):
        messages.insert(0, {"role": "system", "content": _text_of(value, "system", where)})
    return messages


def _messages_of(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise DataError("'messages' must be a list of messages", where=where)
    messages = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, Mapping):
            raise DataError(f"message {number} is not an object with a role and a content", where=where)
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(_part_text(part, number, where) for part in content)
        if content is None and message.get("tool_calls"):
            content = ""
        if isinstance(content, str):
            _whole_characters(content, where)
            if not content.strip() and not message.get("tool_calls"):
                raise DataError(f"message {number} is empty", where=where)
        messages.append({**message, "content": content})
    if not any(message.get("role") == "assistant" for message in messages[1:]):
        raise DataError(
            "this conversation has no answer to learn from",
            where=where,
            hint="it needs an assistant message after the question",
        )
    return messages


def _part_text(part: Any, number: int, where: str) -> str:
    """The text of one part, where a message's content is a list of parts as OpenAI writes them."""
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise DataError(f"message {number} has a part that is not text", where=where)


def read_texts(paths: Sequence[str | Path]) -> Iterator[str]:
    """Every text of the files: documents, each message of conversations, and both texts of pairs (``TEXT_PAIRS``).

    Raises:
        DataError: as ``read_records``.
    """
    for path in list_files(paths):
        empty = True
        for texts in _texts_of_file(path):
            empty = False
            yield from texts
        if empty:
            raise DataError("this file is empty", where=str(path))


def _texts_of_file(path: Path) -> Iterator[list[str]]:
    """The texts of each record or pair."""
    if path.suffix.lower() not in (*RECORD_SUFFIXES, ".json"):
        yield from map(_texts_of_record, _read_text(path, None))
        return
    for value, line in _read_values(path):
        pair = _pair_of(value)
        if pair is None:
            yield _texts_of_record(_record(value, None, path, line))
        else:
            yield [_text_of(pair, key, f"{path}:{line}") for key in pair]


def _texts_of_record(record: Record) -> list[str]:
    return [record.text] if record.text is not None else [message["content"] for message in record.messages or []]


def _pair_of(value: Any) -> Mapping[str, Any] | None:
    """The two texts of a row that is neither a text nor a conversation."""
    if not isinstance(value, Mapping):
        return None
    if any(all(value.get(key) is not None for key in keys) for keys in (("text",), ("messages",), *ANSWERS)):
        return None
    if isinstance(value.get(NESTED), Mapping):
        return value[NESTED]
    names = next((names for names in TEXT_PAIRS if all(name in value for name in names)), None)
    return None if names is None else {name: value[name] for name in names}
