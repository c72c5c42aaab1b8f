"""Questions about a text, with their answers in it: SQuAD's own files (1.1 and 2.0), and rows of JSON Lines and tables.

A row has ``question``, ``context`` and, as far as it has them, ``id`` and its answers: ``answers`` as SQuAD's list of
``{"text", "answer_start"}``, as ``{"text": [...], "answer_start": [...]}`` or as a list of texts, or ``answer`` with
``answer_start``. No answers at all, or ``is_impossible``, is a question without one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.read import list_files, read_rows
from ..errors import DataError, nearest
from ..files import read_json
from .labels import whole_characters

# An answer that does not stand where its file says may stand this many characters away.
NEAR = 50
# A place in a text has fewer digits.
_DIGITS = 20


@dataclass(frozen=True)
class Answer:
    """A right answer.

    Attributes:
        text: as it stands in the context.
        start: its first character's place there.
    """

    text: str
    start: int

    @property
    def end(self) -> int:
        """The place after its last character."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Question:
    """A question about a text.

    Attributes:
        id: as its file names it.
        question, context: the texts.
        answers: the right answers; none where it has none.
        where: the file, and the line or the id.
        moved: how many answers stand elsewhere than the file says.
        wrong: an answer that is not in the context; such a question cannot be learned from.
        given: the texts of all answers, as the file has them.
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    where: str
    moved: int = 0
    wrong: str | None = None
    given: tuple[str, ...] = ()

    @property
    def key(self) -> int:
        """A number that stands for it in a tokenized dataset, from its content alone."""
        content = json.dumps([self.id, self.question, self.context]).encode()
        return int.from_bytes(hashlib.sha256(content).digest()[:8]) >> 1


def read_questions(paths: Iterable[str | Path], *, answered: bool = True) -> Iterator[Question]:
    """The questions of files and folders.

    Args:
        paths: files and folders.
        answered: whether each says what its answers are; otherwise they are not looked at.

    Raises:
        DataError: names the file, and the line or the question's id: no question or context, an answer that is no text,
            and whatever ``read_rows`` raises.
    """
    for path in list_files(paths, "chat"):
        value = read_json(path) if path.suffix.lower() == ".json" else None
        if isinstance(value, Mapping):
            yield from _squad(value, path, answered)
            continue
        for row in read_rows([path]):
            yield _question(row.values, row.values.get("context"), row.where, str(row.line), answered)


def locate(text: str, start: int | None, context: str) -> Answer | None:
    """Where an answer stands in its context: at ``start``, or at the one place near it that differs in spaces only.

    Without a ``start``, the one place in the whole context; None where there is none, or more than one.
    """
    if start is not None and start >= 0 and context[start : start + len(text)] == text:
        kept = text.strip()
        return Answer(kept, start + len(text) - len(text.lstrip())) if kept else None
    words = text.split()
    if not words:
        return None
    # Looked for at every place, so that overlapping ones count too.
    pattern = re.compile("(?=(" + r"\s+".join(map(re.escape, words)) + "))")
    found = [match for match in pattern.finditer(context) if start is None or abs(match.start() - start) <= NEAR]
    return Answer(found[0][1], found[0].start()) if len(found) == 1 else None


def _squad(value: Mapping[str, Any], path: Path, answered: bool) -> Iterator[Question]:
    """The questions of a file as SQuAD has them: data, paragraphs, qas."""
    count = 0
    for paragraph in _members({"data": _member(value, "data", str(path))}, "data", str(path)):
        for part in _members(paragraph, "paragraphs", str(path)):
            context = _member(part, "context", str(path))
            for item in _members(part, "qas", str(path)):
                count += 1
                name = str(item.get("id", count))
                yield _question(item, context, f"{path}: question '{name}'", name, answered)
    if not count:
        raise DataError("this file has no questions", where=str(path))


def _member(value: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in value:
        found = ", ".join(f"'{name}'" for name in value) or "nothing"
        raise DataError(f"there is no '{key}' here, only {found}", where=where, hint=nearest(key, value))
    return value[key]


def _members(value: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    members = _member(value, key, where)
    if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
        raise DataError(f"'{key}' must be a list of objects", where=where)
    return members


def _question(values: Mapping[str, Any], context: Any, where: str, name: str, answered: bool) -> Question:
    texts = {"question": _member(values, "question", where), "context": context}
    if context is None:
        _member(values, "context", where)
    for key, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            what = "is empty" if isinstance(text, str) else f"is not a text but {type(text).__name__}"
            raise DataError(f"'{key}' {what}", where=where)
        whole_characters(text, where)
    name = str(values.get("id") or name)
    answers: list[Answer] = []
    moved, wrong = 0, None
    given = _given(values, where) if answered else []
    for text, start in given:
        answer = locate(text, start, texts["context"])
        if answer is None:
            wrong = text if wrong is None else wrong
            continue
        moved += start is not None and texts["context"][start : start + len(text)] != text
        answers.append(answer)
    return Question(
        name, texts["question"], texts["context"], tuple(answers), where, moved, wrong, tuple(t for t, _ in given)
    )


def _given(values: Mapping[str, Any], where: str) -> list[tuple[str, int | None]]:
    """The answers of a question as it has them: text, and the place where one is said."""
    if values.get("is_impossible") in (True, "true", "True"):
        return []
    if "answers" not in values and "answer" not in values:
        _member(values, "answers", where)
    given = values.get("answers", values.get("answer"))
    if isinstance(given, Mapping):
        texts, starts = given.get("text", []), given.get("answer_start", [])
        if not isinstance(texts, list) or not isinstance(starts, list) or len(starts) not in (0, len(texts)):
            raise DataError("'answers' must have as many places as texts", where=where)
        return [_checked(t, s, where) for t, s in zip(texts, starts or [None] * len(texts), strict=True)]
    if isinstance(given, list):
        return [_entry(entry, where) for entry in given]
    if given is None or given == "":
        return []
    return [_checked(given, values.get("answer_start"), where)]


def _entry(entry: Any, where: str) -> tuple[str, int | None]:
    if isinstance(entry, Mapping):
        return _checked(_member(entry, "text", where), entry.get("answer_start"), where)
    return _checked(entry, None, where)


def _checked(text: Any, start: Any, where: str) -> tuple[str, int | None]:
    if not isinstance(text, str):
        raise DataError(f"an answer is not a text but {type(text).__name__}", where=where)
    whole_characters(text, where)
    if start in (None, ""):
        return text, None
    if isinstance(start, str) and start.strip().removesuffix(".0").isdecimal() and len(start) < _DIGITS:
        start = int(start.strip().removesuffix(".0"))
    if isinstance(start, float) and start.is_integer():
        # A table that lacks some of them has the others as 35.0.
        start = int(start)
    if not isinstance(start, int) or isinstance(start, bool):
        raise DataError(f"'answer_start' must be a whole number, not {repr(start)[:80]}", where=where)
    return text, start


def right_answers(question: Question) -> Sequence[str]:
    """The texts of a question's right answers, which need not stand in the context to be compared with."""
    return question.given
