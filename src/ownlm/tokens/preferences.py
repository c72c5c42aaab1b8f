"""Preferences as a tokenized dataset: two answers to the same messages, the better one first; or answers judged alone.

| a row has | it is |
|---|---|
| ``chosen`` and ``rejected``, as texts beside a question, conversations or transcripts | two answers |
| any conversation that ends with an answer, and ``label``: true or false | one answer, wanted or not |

Conversations are known by the same rules as in ``ownlm data build``. What comes before the answers must be equal in
both. Each answer is rendered with it as ``chat.training_segments`` says, and its own tokens are learned, no others: so
earlier answers of the conversation are context.

The two answers of a pair are a group of the dataset, chosen then rejected. Judged alone, each answer is a document of
its own, and the column "desirable" holds 1 or 0; a pair is then one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.read import Row, list_files, read_rows
from ..data.sources.chats import PREFERENCE, Conversation, find_conversation
from ..data.sources.options import Columns
from ..data.sources.records import Unreadable
from ..errors import DataError, ModelError, UserError
from .cached import cache_key, find_cached
from .chat import Segment, training_segments
from .flat import offsets_of
from .prepare import PreparedData
from .shards import ShardWriter
from .tokenizer import Tokenizer

# Raised whenever the same files would give other datasets than before.
VERSION = 1
KIND = "preference"
LABEL, DESIRABLE = "label", "desirable"

# Characters tokenized at once.
_BATCH = 4 * 2**20
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


@dataclass(frozen=True)
class Answers:
    """The answers of a row, each at the end of its conversation.

    Attributes:
        conversations: the better one first; or the only one.
        desirable: for each, whether it is wanted.
        where: the file and line.
    """

    conversations: tuple[list[dict[str, Any]], ...]
    desirable: tuple[bool, ...]
    where: str


@dataclass(frozen=True)
class Preparing:
    """How preferences become documents.

    Attributes:
        tokenizer: whose tokens.
        length: the longest document, in tokens: the messages before and one answer.
        judged: answers judged alone, and not in pairs.
        too_long: what happens to a longer one, and to the answer it is compared with: "refuse" or "drop".
        unusable: what happens to a row that says nothing, with equal answers or without one: "refuse" or "drop".
    """

    tokenizer: Tokenizer
    length: int
    judged: bool = False
    too_long: Literal["refuse", "drop"] = "refuse"
    unusable: Literal["refuse", "drop"] = "refuse"


class _Unusable(Exception):
    """A row that says nothing of what is preferred.

    Args:
        reason: what the ledger calls it.
        message: what is wrong, in a sentence.
    """

    def __init__(self, reason: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.hint = reason, message, hint


def tokenize_preferences(
    path: Path, preparing: Preparing, *, cache_folder: Path, progress: Callable[[int], None] | None = None
) -> PreparedData:
    """Tokenizes preferences, or finds them tokenized.

    What is dropped counts all documents of its row; one that could not be rendered has no tokens.

    Args:
        path: a file or folder of JSON Lines, JSON lists or tables.
        preparing: how.
        cache_folder: where tokenized datasets are kept.
        progress: called with the number of rows read so far.

    Raises:
        DataError: with file and line: equal answers, one that is missing or empty, conversations that differ before the
            answer, one that is too long, no label where answers are judged alone; or nothing is left.
    """
    p = preparing
    settings = [p.length, p.judged, p.too_long, p.unusable]
    key = cache_key(list_files([path], "chat"), [VERSION, KIND, p.tokenizer.fingerprint, settings])
    folder = Path(cache_folder) / key
    if found := find_cached(folder):
        return found
    info = {"tokenizer": p.tokenizer.fingerprint, "source": [str(path)], "kind": KIND}
    columns = {DESIRABLE: ("int64", 1)} if p.judged else None
    while True:
        mistrusted = p.tokenizer.mistrusted
        work = _Work(p)
        with ShardWriter(folder, p.tokenizer.vocab_size, info, columns=columns, group=1 if p.judged else 2) as writer:
            _write(writer, work, path, progress)
        # Where the fast library was found to err, it may have done so before: once more, then, without it.
        if p.tokenizer.mistrusted == mistrusted:
            return PreparedData(folder, writer.documents, writer.tokens, work.trained, work.dropped)


def _write(writer: ShardWriter, work: _Work, path: Path, progress: Callable[[int], None] | None) -> None:
    read = size = 0
    batch: list[_Rendered] = []
    for row in read_rows([path]):
        batch += work.rendered(row)
        read += 1
        size += sum(map(len, map(str, row.values.values())))
        if size >= _BATCH:
            work.add(writer, batch)
            batch, size = [], 0
            if progress is not None:
                progress(read)
    work.add(writer, batch)
    if progress is not None:
        progress(read)
    if not writer.documents:
        reasons = ", ".join(f"{part['documents']:,} documents: {reason}" for reason, part in work.dropped.items())
        raise DataError(f"nothing is left to train on ({reasons})", where=str(path))
    writer.info |= {"trained": work.trained, "dropped": work.dropped}


@dataclass(frozen=True)
class _Rendered:
    """A row's answers as text.

    Attributes:
        answers: the row's.
        segments: of each, the conversation's text in pieces; the last piece is the answer.
    """

    answers: Answers
    segments: list[list[Segment]]


@dataclass
class _Work:
    """Turns rows into documents, and counts."""

    preparing: Preparing
    trained: int = 0
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def rendered(self, row: Row) -> list[_Rendered]:
        """A row's answers as text, none where it is dropped."""
        try:
            answers = _answers(row, self.preparing.judged)
            return [_Rendered(answers, [self._segments(messages) for messages in answers.conversations])]
        except _Unusable as error:
            self._leave_out(error, row.where, 1 if self.preparing.judged and not _is_pair(row.values) else 2, 0)
            return []

    def add(self, writer: ShardWriter, batch: list[_Rendered]) -> None:
        """Tokenizes a batch of rows and writes those that are to be kept."""
        pieces = [[segment.text for segment in segments] for row in batch for segments in row.segments]
        ids, offsets = self.preparing.tokenizer.encode_pieces_flat(pieces)
        ends = offsets[offsets_of(np.array([len(texts) for texts in pieces], np.int64))]
        # Where the last piece of each document, its answer, begins.
        begins = offsets[np.cumsum([len(texts) for texts in pieces]) - 1] if pieces else np.zeros(0, np.int64)
        place = 0
        for row in batch:
            members = range(place, place + len(row.segments))
            place = members.stop
            documents = [ids[ends[i] : ends[i + 1]] for i in members]
            answers = [int(begins[i] - ends[i]) for i in members]
            try:
                self._check(documents, answers)
            except _Unusable as error:
                self._leave_out(error, row.answers.where, len(documents), sum(map(len, documents)))
                continue
            if self._too_long(row, documents):
                continue
            for document, answer, desirable in zip(documents, answers, row.answers.desirable, strict=True):
                trained = np.arange(len(document)) >= answer
                columns = {DESIRABLE: int(desirable)} if self.preparing.judged else {}
                writer.add(document, trained, **columns)
                self.trained += int(trained[1:].sum())

    def _segments(self, messages: list[dict[str, Any]]) -> list[Segment]:
        try:
            # Of a template that gives a document for each answer, the last one is this answer's.
            segments = training_segments(self.preparing.tokenizer, messages)[-1]
        except ModelError:
            raise
        except UserError as error:
            raise _Unusable("refused by the chat template", error.message, error.hint) from None
        if not segments[-1].trained:
            raise _Unusable("no answer", "the chat template writes nothing of an answer")
        return segments

    def _check(self, documents: list[NDArray[Any]], answers: list[int]) -> None:
        if any(answer >= len(document) for document, answer in zip(documents, answers, strict=True)):
            raise _Unusable("no answer", "the tokenizer finds no token in an answer")
        if len(documents) == 2 and np.array_equal(documents[0], documents[1]):
            raise _Unusable("equal answers", "the chosen and the rejected answer are the same")

    def _too_long(self, row: _Rendered, documents: list[NDArray[Any]]) -> bool:
        length, longest = self.preparing.length, max(map(len, documents))
        if longest <= length:
            return False
        if self.preparing.too_long == "refuse":
            raise DataError(
                f"this conversation has {longest:,} tokens, more than the {length:,} of data.length",
                where=row.answers.where,
                hint="raise data.length, or set data.too_long to drop",
            )
        self._count(f"longer than {length} tokens", len(documents), sum(map(len, documents)))
        return True

    def _leave_out(self, error: _Unusable, where: str, documents: int, tokens: int) -> None:
        if self.preparing.unusable == "refuse":
            hint = error.hint or "mend the row, or set objective.unusable to drop"
            raise DataError(error.message, where=where, hint=hint) from None
        self._count(error.reason, documents, tokens)

    def _count(self, reason: str, documents: int, tokens: int) -> None:
        count = self.dropped.setdefault(reason, {"documents": 0, "tokens": 0})
        count["documents"] += documents
        count["tokens"] += tokens


def _answers(row: Row, judged: bool) -> Answers:
    values = row.values
    if _is_pair(values) or not judged:
        return Answers(_pair(values), (True, False), row.where)
    if LABEL not in values:
        found = ", ".join(f"'{key}'" for key in values) or "nothing"
        raise _Unusable("no label", f"found {found}; expected an answer with 'label', or 'chosen' and 'rejected'")
    desirable = _truth(values[LABEL])
    messages = _conversation(values).messages
    if messages[-1]["role"] != "assistant":
        raise _Unusable("no answer", "this conversation does not end with an answer")
    return Answers((messages,), (desirable,), row.where)


def _is_pair(values: Mapping[str, Any]) -> bool:
    return any(values.get(key) is not None for key in PREFERENCE)


def _pair(values: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    for key in PREFERENCE:
        given = values.get(key)
        if given is None:
            raise _Unusable("no answer", f"'{key}' is missing")
        if not given or (isinstance(given, str) and not given.strip()):
            raise _Unusable("no answer", f"'{key}' is empty")
    conversation = _conversation(values)
    chosen, rejected = conversation.messages, conversation.notes["rejected"]
    # Equal ones are found once they are tokens, so that the ledger knows how many.
    for key, messages, other in (("chosen", chosen, rejected), ("rejected", rejected, chosen)):
        begins_other = len(messages) < len(other) and messages == other[: len(messages)]
        if messages[-1]["role"] != "assistant" or begins_other:
            raise _Unusable("no answer", f"the conversation of '{key}' does not end with an answer of its own")
    if chosen[:-1] != rejected[:-1]:
        raise _Unusable(
            "different questions", "the chosen and the rejected conversation differ before their last answer"
        )
    return chosen, rejected


def _conversation(values: Mapping[str, Any]) -> Conversation:
    try:
        found = find_conversation(values, Columns())
    except Unreadable as error:
        raise _Unusable("not a conversation", error.message) from None
    if found is None:
        keys = ", ".join(f"'{key}'" for key in values) or "nothing"
        raise _Unusable("not a conversation", f"found {keys}; expected a question beside the answer, or conversations")
    return found


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    truth = _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise _Unusable("no label", f"the label is true or false, not '{value}'")
    return truth
