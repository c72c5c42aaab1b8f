"""Questions as documents: [CLS] question [SEP] context [SEP], a long context in windows that overlap.

The dataset's columns, all int64, for each window:

| column | holds |
|---|---|
| key | Question.key [1]; windows of one question have the same |
| window | [3]: the context's first token in it, how many there are, and the place of the first in the document |
| span | [2]: the places of the answer's first and last token; 0 and 0, the [CLS], where it is not in this window |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.read import list_files
from ..errors import DataError
from .cached import cache_key, find_cached
from .frame import Frame, frame_of
from .prepare import PreparedData
from .questions import Question, read_questions
from .shards import ShardWriter
from .tokenizer import Tokenizer

# Raised whenever the same files would give other datasets than before.
VERSION = 1
KIND = "question"
COLUMNS = {"key": ("int64", 1), "window": ("int64", 3), "span": ("int64", 2)}

# Questions tokenized at once.
_BATCH = 1024


@dataclass(frozen=True)
class EncodedText:
    """A text's tokens and where they stand in it.

    Attributes:
        ids: [tokens].
        places: the first character of each token and the one after its last, spaces left out: [tokens, 2].
    """

    ids: list[int]
    places: NDArray[np.int64]

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last token that have a character from ``start`` to ``end``; None where none has."""
        touched = np.flatnonzero((self.places[:, 1] > start) & (self.places[:, 0] < end))
        return (int(touched[0]), int(touched[-1])) if len(touched) else None


@dataclass(frozen=True)
class Window:
    """A document: a question with a part of its context.

    Attributes:
        ids: its tokens.
        first: which of the context's tokens comes first.
        count: how many of them it has.
        place: where in the document the first one stands.
    """

    ids: list[int]
    first: int
    count: int
    place: int

    def span(self, answer: tuple[int, int] | None) -> tuple[int, int]:
        """Where in the document an answer stands, given by its tokens in the context; the [CLS] where it does not."""
        if answer is None or answer[0] < self.first or answer[1] >= self.first + self.count:
            return 0, 0
        shift = self.place - self.first
        return answer[0] + shift, answer[1] + shift


def encode_with_places(tokenizer: Tokenizer, texts: Sequence[str]) -> list[EncodedText]:
    """The tokens of each text with their places."""
    result = []
    for text, encoding in zip(
        texts, tokenizer.backend.encode_batch(list(texts), add_special_tokens=False), strict=True
    ):
        places = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        for number, (start, end) in enumerate(places.tolist()):
            # Byte-level tokenizers count the space before a word as its own.
            inner = text[start:end]
            places[number] = (
                start + len(inner) - len(inner.lstrip()),
                max(start, end - len(inner) + len(inner.rstrip())),
            )
        result.append(EncodedText(encoding.ids, places))
    return result


def make_windows(
    frame: Frame, question: Sequence[int], context: Sequence[int], length: int, stride: int
) -> list[Window]:
    """A question's documents, together holding its whole context; none where there is no room for it.

    Args:
        frame: of two texts.
        question, context: their tokens.
        length: the longest document.
        stride: how many tokens two windows share, so that an answer cut by one is whole in the other.
    """
    begin = [*frame.before, *question, *frame.between]
    room = length - len(begin) - len(frame.after)
    if room <= (stride if len(context) > room else 0):
        return []
    firsts = range(0, max(len(context) - stride, 1), room - stride) if len(context) > room else [0]
    parts = [(first, list(context[first : first + room])) for first in firsts]
    return [Window([*begin, *part, *frame.after], first, len(part), len(begin)) for first, part in parts]


@dataclass(frozen=True)
class Windowing:
    """How questions become documents.

    Attributes:
        tokenizer: whose tokens.
        causal: whether the model is a decoder.
        length: the longest document, in tokens.
        stride: how many tokens two windows of one context share.
        too_long: a question that leaves no room for its context is an error ("refuse") or left out ("drop").
        on_bad: the same of an answer that is not in its context.
    """

    tokenizer: Tokenizer
    causal: bool
    length: int
    stride: int
    too_long: str = "refuse"
    on_bad: str = "refuse"

    @property
    def frame(self) -> Frame:
        """What stands around a question and its context."""
        return frame_of(self.tokenizer, pair=True, causal=self.causal)


def tokenize_questions(
    path: Path, windowing: Windowing, *, cache_folder: Path, progress: Callable[[int], None] | None = None
) -> PreparedData:
    """Tokenizes questions, or finds them tokenized.

    The dataset's info has "questions", how many of them have no answer ("unanswerable"), and how many answers stand
    elsewhere than the file says ("moved").

    Args:
        path: a file or folder, as ``read_questions`` reads them.
        windowing: how.
        cache_folder: where tokenized datasets are kept.
        progress: called with the number of questions read so far.

    Raises:
        DataError: with the file and the question's id: an answer that is not in its context, a question that is too long,
            and as ``read_questions``.
    """
    w, frame = windowing, windowing.frame
    settings = [asdict(frame), w.length, w.stride, w.too_long, w.on_bad]
    key = cache_key(list_files([path], "chat"), [VERSION, KIND, w.tokenizer.fingerprint, settings])
    folder = Path(cache_folder) / key
    if found := find_cached(folder):
        return found
    info = {"tokenizer": w.tokenizer.fingerprint, "source": [str(path)], "kind": KIND}
    with ShardWriter(folder, w.tokenizer.vocab_size, info, columns=COLUMNS) as writer:
        work = _Work(w, frame)
        for questions in _batches(read_questions([path])):
            work.add(writer, questions)
            if progress is not None:
                progress(work.counts["questions"])
        if not writer.documents:
            raise DataError("nothing is left to train on: every question was left out", where=str(path))
        writer.info |= {"trained": writer.tokens, "dropped": work.dropped, **work.counts}
    return PreparedData(folder, writer.documents, writer.tokens, writer.tokens, work.dropped)


@dataclass
class _Work:
    """Turns questions into windows, and counts."""

    windowing: Windowing
    frame: Frame
    counts: dict[str, int] = field(default_factory=lambda: {"questions": 0, "unanswerable": 0, "moved": 0})
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, writer: ShardWriter, questions: Sequence[Question]) -> None:
        """Tokenizes a batch of questions and writes their windows."""
        w = self.windowing
        contexts = list(dict.fromkeys(question.context for question in questions))
        encoded = dict(zip(contexts, encode_with_places(w.tokenizer, contexts), strict=True))
        asked = w.tokenizer.encode_many([question.question for question in questions])
        for question, ids in zip(questions, asked, strict=True):
            context = encoded[question.context]
            windows = make_windows(self.frame, ids, context.ids, w.length, w.stride)
            tokens = len(self.frame) + len(ids) + len(context.ids)
            if not windows:
                self._no_room(question, len(ids), tokens)
                continue
            spans = [context.span(answer.start, answer.end) for answer in question.answers]
            if question.wrong is not None or None in spans:
                wrong = question.answers[spans.index(None)].text if question.wrong is None else question.wrong
                self._wrong(wrong, question.where, tokens)
                continue
            self.counts["questions"] += 1
            self.counts["unanswerable"] += not spans
            self.counts["moved"] += question.moved
            for window in windows:
                place = [window.first, window.count, window.place]
                span = window.span(spans[0] if spans else None)
                writer.add(window.ids, None, key=question.key, window=place, span=span)

    def _no_room(self, question: Question, length: int, tokens: int) -> None:
        if self.windowing.too_long != "drop":
            raise DataError(
                f"this question has {length:,} tokens, which leaves too little of the {self.windowing.length:,} of "
                "data.length for its context",
                where=question.where,
                hint="raise data.length, lower objective.stride, or set data.too_long to drop",
            )
        self._count("a question too long for its context", tokens)

    def _wrong(self, answer: str, where: str, tokens: int) -> None:
        if self.windowing.on_bad != "drop":
            raise DataError(
                f"the answer {answer[:80]!r} is not in its context at its place" if answer else "an answer is empty",
                where=where,
                hint="mend it, with its answer_start if it stands there several times, or set objective.on_bad to drop "
                "to leave such questions out",
            )
        self._count("an answer that is not in its context", tokens)

    def _count(self, reason: str, tokens: int) -> None:
        count = self.dropped.setdefault(reason, {"documents": 0, "tokens": 0})
        count["documents"] += 1
        count["tokens"] += tokens


def _batches(questions: Iterable[Question]) -> Iterator[list[Question]]:
    batch: list[Question] = []
    for question in questions:
        batch.append(question)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
