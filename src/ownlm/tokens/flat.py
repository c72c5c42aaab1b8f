"""Many texts to ids at once: flat arrays in place of a Python list a document.

Rows are always a pair of arrays: ``ids`` [tokens] uint32 of all texts one after another, and ``offsets`` [texts + 1]
int64, where each text's begin and the last one's end. ``tokenizers`` says what the ids are; gigatoken is used where it
is installed and was found to give the same (``fast.py``), and some of what it gives is compared while it works.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tokenizers
from numpy.typing import NDArray

from . import fast

if TYPE_CHECKING:
    import pyarrow

Rows: TypeAlias = tuple[NDArray[np.uint32], NDArray[np.int64]]
Texts: TypeAlias = "Sequence[str] | pyarrow.LargeStringArray"

# Characters from which loading (and once in a tokenizer's life, trying) the fast library costs less than it saves.
FAST_FROM = 2**21

# Characters that ``tokenizers`` encodes at once: it needs a hundred bytes of memory a token meanwhile.
GROUP = 4 * 2**20

# What is compared of the fast library's work: so many texts of the first batch and of each later one, each up to so
# many characters. It costs some 5% of the time.
FIRST_COMPARED, THEN_COMPARED, COMPARED_LENGTH = 24, 1, 4096


class FlatEncoder:
    """Encodes many texts with the fastest library that gives the ids of ``tokenizers``.

    Args:
        backend: whose ids they are; special tokens written in a text are read as such.
        cache: the folder that remembers which tokenizers the fast library was compared on.

    Attributes:
        mistrusted: whether the fast library gave other ids after it had been trusted. From then on it is not used, but
            what it gave before may hold such ids too: a dataset that it helped to write should be written again.
    """

    def __init__(self, backend: tokenizers.Tokenizer, cache: Path) -> None:
        self.mistrusted = False
        self._backend = backend
        self._cache = cache
        self._fast: fast.FastEncoder | None = None
        self._tried = False
        self._characters = 0
        self._batches = 0

    def encode(self, texts: Texts) -> Rows:
        """The ids of each text; no beginning or end token is added."""
        encoder = self._encoder(texts)
        if encoder is None or not len(texts):
            return self._slow(texts)
        try:
            rows = encoder.encode(texts)
            equal = self._spot_check(encoder, texts, rows)
        except fast.Refused:
            # Where the text itself is at fault, this says so.
            return self._slow(texts)
        if equal:
            return rows
        self._fast, self.mistrusted = None, True
        fast.mistrust(self._backend, self._cache)
        return self._slow(texts)

    def _encoder(self, texts: Texts) -> fast.FastEncoder | None:
        """The fast library, once there is enough to do and if it can be trusted with this tokenizer."""
        if not self._tried:
            self._characters += _size(texts)
            if self._characters >= FAST_FROM:
                self._tried = True
                self._fast = fast.trusted_encoder(self._backend, self._cache)
        return self._fast

    def _slow(self, texts: Texts) -> Rows:
        parts: list[NDArray[np.uint32]] = []
        lengths: list[int] = []
        for group in _groups(texts):
            encodings = self._backend.encode_batch_fast(group, add_special_tokens=False)
            parts += [np.array(encoding.ids, np.uint32) for encoding in encodings]
            lengths += map(len, encodings)
        ids = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
        return ids, offsets_of(np.array(lengths, np.int64))

    def _spot_check(self, encoder: fast.FastEncoder, texts: Texts, rows: Rows) -> bool:
        """Whether some of the texts, others in each batch, have the ids that ``tokenizers`` gives."""
        ids, offsets = rows
        if len(offsets) != len(texts) + 1 or offsets[0] != 0 or offsets[-1] != len(ids):
            return False
        compared = min(len(texts), THEN_COMPARED if self._batches else FIRST_COMPARED)
        found, samples = [], []
        for number in range(compared):
            # Spread over the batch, and elsewhere in each: a large odd step visits the places of any range in turn.
            place = (self._batches * 7_919 + number * len(texts) // compared) % len(texts)
            text = _text(texts, place)
            if len(text) <= COMPARED_LENGTH:
                found.append(ids[offsets[place] : offsets[place + 1]])
            else:
                start = (self._batches + 1) * 104_729 % (len(text) - COMPARED_LENGTH)
                text = text[start : start + COMPARED_LENGTH]
                found.append(encoder.encode([text])[0])
            samples.append(text)
        self._batches += 1
        expected = self._backend.encode_batch_fast(samples, add_special_tokens=False)
        return all(np.array_equal(row, encoding.ids) for row, encoding in zip(found, expected, strict=True))


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where rows of these lengths begin, and the end of the last: [rows + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def concatenate_rows(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in order."""
    ids = np.concatenate([ids for ids, _ in parts]) if parts else np.zeros(0, np.uint32)
    lengths = np.concatenate([np.diff(offsets) for _, offsets in parts]) if parts else np.zeros(0, np.int64)
    return ids, offsets_of(lengths)


def rows_of(ids: Sequence[Sequence[int]]) -> Rows:
    """Python lists as rows."""
    lengths = np.array([len(row) for row in ids], np.int64)
    flat = np.fromiter(itertools.chain.from_iterable(ids), np.uint32, int(lengths.sum()))
    return flat, offsets_of(lengths)


def with_ends(rows: Rows, begin: int | None, end: int | None) -> Rows:
    """The rows with a token before and a token after each."""
    ids, offsets = rows
    added = (begin is not None) + (end is not None)
    if not added:
        return rows
    places = offsets + added * np.arange(len(offsets))
    result = np.empty(places[-1], np.uint32)
    given = np.ones(len(result), bool)
    if begin is not None:
        result[places[:-1]] = begin
        given[places[:-1]] = False
    if end is not None:
        result[places[1:] - 1] = end
        given[places[1:] - 1] = False
    result[given] = ids
    return result, places


def select_rows(rows: Rows, kept: NDArray[np.bool_], flags: NDArray[Any] | None) -> tuple[Rows, NDArray[Any] | None]:
    """The rows that are kept, with their share of ``flags``, one a token."""
    ids, offsets = rows
    if kept.all():
        return rows, flags
    lengths = np.diff(offsets)
    tokens = np.repeat(kept, lengths)
    return (ids[tokens], offsets_of(lengths[kept])), None if flags is None else flags[tokens]


def _groups(texts: Texts) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for text in texts if isinstance(texts, Sequence) else texts.to_pylist():
        group.append(text)
        size += len(text)
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _size(texts: Texts) -> int:
    """About how many characters there are."""
    return sum(map(len, texts)) if isinstance(texts, Sequence) else texts.nbytes


def _text(texts: Texts, place: int) -> str:
    return texts[place] if isinstance(texts, Sequence) else texts[place].as_py()
