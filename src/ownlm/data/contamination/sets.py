"""Evaluation sets of any usual shape as items: a question, its answers, and the passage it is about.

The fields are guessed from the names that public sets use, and can be named where a guess is wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from .options import DecontaminationOptions, EvaluationSet
from .records import read_rows

QUESTIONS = (
    "premise", "question", "query", "question_stem", "prompt", "instruction", "problem", "goal", "sentence",
    "context_options", "ctx", "context", "text",
)  # fmt: skip
ANSWERS = (
    "answer", "answers", "answerKey", "correct_answer", "best_answer", "target", "solution", "canonical_solution",
    "output", "completion", "response", "continuation", "code", "label", "gold",
)  # fmt: skip
PASSAGES = ("passage", "context", "article", "support", "story", "document", "background")
CHOICES = ("choices", "options", "endings")
IDS = ("id", "_id", "qid", "idx", "ind", "task_id", "question_id")
# These name a choice by its place from 0, or a class, never an answer in words.
PLACES = ("label", "gold")

# "option1", "choice2", "sol1", "ending0", or bare letters as in MMLU's tables.
_NUMBERED = re.compile(r"(?:option|choice|sol|ending)_?([0-9])|([A-H])")
_INSIDE = re.compile(r"\s*(?:passage|context|paragraph|article)\s*:\s*(.+?)\n\s*(?:question|q)\s*:\s*(.+)", re.I | re.S)
_LABELS = re.compile(r"^\s*(?:question|q)\s*:\s*|\s*\n\s*(?:answer|a)\s*:\s*$", re.I)


@dataclass(frozen=True)
class Item:
    """One item of an evaluation set.

    Attributes:
        set: the set's name.
        id: the item's own id, or where it stands in its file.
        question: what is asked; for a set of plain texts, the text.
        answers: every accepted answer, in words.
        passage: the text the question is about, or nothing.
        choices: what can be chosen from; they stand between a question and its answer.
        letter: the letter of the right choice, or nothing.
    """

    set: str
    id: str
    question: str
    answers: tuple[str, ...] = ()
    passage: str = ""
    choices: tuple[str, ...] = ()
    letter: str = ""


def read_sets(options: DecontaminationOptions) -> list[Item]:
    """Reads every evaluation set.

    Raises:
        DataError: names the file, the line and what is wrong.
    """
    return [item for chosen in options.sets for item in read_set(chosen)]


def read_set(chosen: EvaluationSet) -> Iterator[Item]:
    """Reads one evaluation set.

    Raises:
        DataError: names the file, the line and what is wrong.
    """
    for path in [chosen.path] if isinstance(chosen.path, str) else chosen.path:
        for where, row in read_rows(Path(path)):
            yield _item(chosen, row, where)


def item_of(name: str, row: Mapping[str, Any], where: str) -> Item:
    """One row of an evaluation set of that name as an item, its fields guessed.

    Raises:
        DataError: no field looks like a question.
    """
    return _item(EvaluationSet(name=name, path=""), row, where)


def _item(chosen: EvaluationSet, row: Any, where: str) -> Item:
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, Mapping):
        raise DataError(f"an object or a text was expected, not {type(row).__name__}", where=where)
    if chosen.question is None and isinstance(row.get("messages"), list):
        row = {**row, **_conversation(row["messages"], where)}
    asked = _field(row, chosen.question, QUESTIONS, where, "question")
    if asked is None:
        found = ", ".join(f"'{key}'" for key in row) or "nothing"
        raise DataError(f"no question among {found}", where=where, hint="name its field: question: FIELD")
    told = _field(row, chosen.passage, [name for name in PASSAGES if name != asked], where, "passage")
    right = _field(row, chosen.answer, [name for name in ANSWERS if name != asked], where, "answer")
    listed = _field(row, chosen.choices, CHOICES, where, "choices")
    choices, labels = _choices(row, listed, where)
    answers, place = _answers(row.get(right) if right else None, right in PLACES, choices, labels)
    question = _question(row, asked, where)
    passage = "" if told is None or row[told] is None else _text(row[told], told, where)
    if not passage and (inside := _INSIDE.fullmatch(question)):
        passage, question = inside.groups()
    question = _LABELS.sub("", question).strip()
    if not question:
        raise DataError(f"'{asked}' is empty", where=where)
    if asked == "sentence" and "_" in question and answers:
        question = question.replace("_", answers[0])  # WinoGrande's blank, filled as a leak would have it
    return Item(
        set=chosen.name,
        id=next((str(row[key]) for key in IDS if row.get(key) not in (None, "")), Path(where).name),
        question=_clean(question),
        answers=tuple(_clean(answer) for answer in answers),
        passage=_clean(passage),
        choices=tuple(_clean(choice) for choice in choices),
        letter="abcdefgh"[place] if place is not None and place < 8 else "",
    )


def _conversation(messages: list[Any], where: str) -> dict[str, str]:
    """A held-out conversation's first question and last answer."""
    said: dict[str, list[str]] = {"user": [], "assistant": []}
    for message in messages:
        if not isinstance(message, Mapping):
            raise DataError("a message is not an object with a role and a content", where=where)
        if message.get("role") in said and isinstance(message.get("content"), str):
            said[message["role"]].append(message["content"])
    if not said["user"]:
        raise DataError("this conversation has no question", where=where)
    return {"question": said["user"][0], "answer": said["assistant"][-1] if said["assistant"] else ""}


def _field(row: Mapping[str, Any], named: str | None, usual: Sequence[str], where: str, what: str) -> str | None:
    if named is None:
        return next((name for name in usual if row.get(name) not in (None, "", [])), None)
    if named not in row:
        found = ", ".join(f"'{key}'" for key in row) or "nothing"
        raise DataError(f"there is no field '{named}' for the {what} among {found}", where=where)
    return named


def _question(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row[field]
    if isinstance(value, list) and value and all(isinstance(entry, str) for entry in value):
        # Alternative beginnings of one sentence: the right one, or the first.
        right = next((row[name] for name in PLACES if isinstance(row.get(name), int)), 0)
        return value[right] if 0 <= right < len(value) else value[0]
    question = _text(value, field, where)
    # Alpaca's instruction and the input it is about.
    if field == "instruction" and isinstance(row.get("input"), str):
        question = f"{question}\n{row['input']}".strip()
    return question


def _choices(row: Mapping[str, Any], field: str | None, where: str) -> tuple[list[str], list[str]]:
    """The choices' texts and their labels, such as A to D."""
    if field is not None:
        value = row[field]
        if isinstance(value, Mapping) and isinstance(value.get("text"), list):
            return [str(text) for text in value["text"]], [str(label) for label in value.get("label", [])]
        if not isinstance(value, list):
            raise DataError(f"'{field}' is not a list of choices but {type(value).__name__}", where=where)
        texts = [entry.get("text", "") if isinstance(entry, Mapping) else entry for entry in value]
        labels = [str(entry.get("label", "")) for entry in value if isinstance(entry, Mapping)]
        return [str(text) for text in texts], labels
    numbered = [(match[1] or match[2], key) for key in row if (match := _NUMBERED.fullmatch(str(key)))]
    if len(numbered) < 2:
        return [], []
    numbered.sort()
    return [str(row[key]) for _, key in numbered], [label for label, _ in numbered]


def _answers(value: Any, by_place: bool, choices: list[str], labels: list[str]) -> tuple[tuple[str, ...], int | None]:
    """The answers in words, and the place of the right choice."""
    texts = _texts(value)
    if not choices:
        return (() if by_place else tuple(text for text in texts if text.strip())), None
    place = None
    if isinstance(value, int) and not isinstance(value, bool):
        place = value
    elif len(texts) == 1:
        place = _place(texts[0], choices, [] if by_place else labels)
    if place is not None:
        return ((choices[place],), place) if 0 <= place < len(choices) else ((), None)
    # A test split's hidden label, such as -1, is no answer.
    return tuple(text for text in texts if len(text.strip()) > 2), None


def _place(text: str, choices: list[str], labels: list[str]) -> int | None:
    label = text.strip()
    if label in labels:
        return labels.index(label)
    if text in choices:
        return choices.index(text)
    if label.isdecimal() and label.isascii():
        return int(label)
    if len(label) == 1 and "A" <= label.upper() < chr(ord("A") + len(choices)):
        return ord(label.upper()) - ord("A")
    return None


def _texts(value: Any) -> tuple[str, ...]:
    """Every text of an answer's value: a text, a number, a truth value, lists, and SQuAD's and TriviaQA's objects."""
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, str):
        # GSM8K gives its reasoning, and after four signs the number.
        reasoning, signs, number = value.rpartition("####")
        return (value, number.strip()) if signs and reasoning.strip() else (value,)
    if isinstance(value, int | float):
        return (str(value),)
    if isinstance(value, Mapping):
        keys = ("text", "value", "aliases", "spans")
        return tuple(dict.fromkeys(text for key in keys for text in _texts(value.get(key))))
    if isinstance(value, list):
        return tuple(dict.fromkeys(text for entry in value for text in _texts(entry)))
    return ()


def _text(value: Any, field: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"'{field}' is not a text but {type(value).__name__}", where=where)
    return value


def _clean(text: str) -> str:
    """The form that the training text has by then: NFC, and no half characters, which JSON can write."""
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
