"""Evaluation items as arrays: every question's words with their worth, and the n-grams that betray it.

A question is looked for as a *unit*: the whole of it, or, where it is long, pieces of at most 200 words, so that half
of a long text is found as well. Items with the same question share a unit. Passages, answers and choices are no part of
it: a passage that comes from a public page says nothing until its question stands beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DamagedError
from ...files import write_bytes
from ..words import Hashes, Integers, Words, find_words, ngrams
from .rarity import SCALE, Worth, surprisal, template_discount, text_column
from .sets import Item

Numbers = NDArray[np.int32]

FORMAT = 1
"""The layout of a saved index and the method behind it; part of the fingerprint."""

SHORTEST = 3
"""A question of fewer words is not looked for."""

_PIECE = 200
_TEMPLATE_WORDS = 3
# An n-gram of less worth, or of more units, begins no match, but each unit keeps its four least common ones.
_SEED_WORTH = 30 * SCALE
_SEED_UNITS = 64
_SEEDS_KEPT = 4


@dataclass(frozen=True, eq=False)
class EvaluationIndex:
    """What a scan looks items up in; built once, the same for every shard.

    Attributes:
        records: uint8[bytes], the items as JSON; ``items`` reads it, when a hit needs it.
        ngram: words of an n-gram; a shorter unit is looked for whole.
        near: how many words away an answer may stand.
        unit_words: uint64[w], the words' hashes of all units; unit u has ``unit_offsets[u]:unit_offsets[u + 1]``.
        unit_worth: int32[w], what each word is worth.
        unit_offsets: int64[units + 1].
        unit_ends: bool[units], whether the unit holds its question's end, which an answer follows.
        unit_items: int32[k], the items of each unit, by ``unit_item_offsets``.
        unit_item_offsets: int64[units + 1].
        seeds: uint64[s], sorted hashes of the n-grams that begin a match.
        seed_offsets: int64[s + 1], where each seed's places begin.
        seed_units: int32[p], the unit of each place.
        seed_places: int32[p], the word of the unit.
        answer_words: uint64[a], the words of all answers; answer j has ``answer_offsets[j]:answer_offsets[j + 1]``.
        answer_worth: int32[a].
        answer_offsets: int64[answers + 1].
        item_answers: int64[items + 1], the answers of each item.
        item_choice_words: int32[items], how many words its choices have together.
        item_letter: uint64[items], the hash of the right choice's letter, or 0.
        passage_words: uint64[q], the words of all different passages, by ``passage_offsets``.
        passage_offsets: int64[passages + 1].
        item_passage: int32[items], the passage of each item, or -1.
    """

    records: NDArray[np.uint8]
    ngram: int
    near: int
    unit_words: Hashes
    unit_worth: Worth
    unit_offsets: Integers
    unit_ends: NDArray[np.bool_]
    unit_items: Numbers
    unit_item_offsets: Integers
    seeds: Hashes
    seed_offsets: Integers
    seed_units: Numbers
    seed_places: Numbers
    answer_words: Hashes
    answer_worth: Worth
    answer_offsets: Integers
    item_answers: Integers
    item_choice_words: Numbers
    item_letter: Hashes
    passage_words: Hashes
    passage_offsets: Integers
    item_passage: Numbers

    @functools.cached_property
    def items(self) -> tuple[Item, ...]:
        """The evaluation items."""
        value = json.loads(self.records.tobytes())
        items = []
        for record in value["items"]:
            lists = {name: tuple(entry) for name, entry in record.items() if isinstance(entry, list)}
            items.append(Item(**(record | lists | {"passage": value["passages"][record["passage"]]})))
        return tuple(items)

    @functools.cached_property
    def unit_lengths(self) -> Integers:
        """int64[units], the words of each unit."""
        return np.diff(self.unit_offsets)

    @functools.cached_property
    def unit_totals(self) -> Integers:
        """int64[units], what each unit is worth in all."""
        return _sums(self.unit_worth, self.unit_offsets)

    @functools.cached_property
    def answer_totals(self) -> Integers:
        """int64[answers], what each answer is worth in all."""
        return _sums(self.answer_worth, self.answer_offsets)

    @functools.cached_property
    def sizes(self) -> list[int]:
        """The lengths of the n-grams among the seeds."""
        return np.unique(np.minimum(self.unit_lengths, self.ngram)).tolist()

    @functools.cached_property
    def coverable(self) -> Integers:
        """int64[units], what the words that a unit's seeds cover are worth."""
        order = np.argsort(self.seed_units, kind="stable")
        unit = self.seed_units[order].astype(np.int64)
        worth = np.zeros(len(self.unit_lengths), np.int64)
        present, group = np.unique(unit, return_inverse=True)
        worth[present] = self.covered(group, unit, self.seed_places[order].astype(np.int64))
        return worth

    def covered(self, group: Integers, unit: Integers, place: Integers) -> Integers:
        """What the words covered by groups of seeds are worth, each word counted once.

        Args:
            group: int64[k], the group of each seed, rising from 0 without gaps.
            unit: int64[k], the unit of each, one a group.
            place: int64[k], the unit's word where the seed begins.

        Returns:
            int64[groups].
        """
        size = np.minimum(self.unit_lengths, self.ngram)[unit]
        keys = [group[size > shift] << 32 | place[size > shift] + shift for shift in range(self.ngram)]
        key = np.unique(np.concatenate(keys))
        owner, word = key >> 32, key & 0xFFFFFFFF
        first = np.flatnonzero(np.diff(group, prepend=-1))
        worth = self.unit_worth[self.unit_offsets[unit[first][owner]] + word]
        return np.bincount(owner, worth, minlength=len(first)).astype(np.int64)

    @functools.cached_property
    def passage_grams(self) -> tuple[Hashes, Integers]:
        """The different trigrams of each passage, sorted, and where each passage's begin."""
        grams, offsets = ngrams_of(self.passage_words, self.passage_offsets, 3)
        owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        order = np.lexsort((grams, owner))
        grams, owner = grams[order], owner[order]
        new = np.ones(len(grams), bool)
        new[1:] = (grams[1:] != grams[:-1]) | (owner[1:] != owner[:-1])
        return grams[new], np.searchsorted(owner[new], np.arange(len(offsets)))

    @functools.cached_property
    def bit_table(self) -> tuple[NDArray[np.uint8], int]:
        """A bit for each leading pattern of a seed's hash, 16 times as many as seeds: most n-grams end there.

        Returns:
            uint8[bits / 8], and how far a hash is shifted to be its bit's number.
        """
        width = max(10, (len(self.seeds) * 16).bit_length())
        bits = np.zeros(2**width, bool)
        bits[self.seeds >> np.uint64(64 - width)] = True
        return np.packbits(bits, bitorder="little"), 64 - width

    @functools.cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides a scan's result."""
        digest = hashlib.sha256()
        for name, array in self._arrays().items():
            digest.update(f"{name} {array.dtype} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Writes the index to one file, the same bytes for the same index."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = self._arrays()
        np.savez(buffer, **arrays)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> EvaluationIndex:
        """Reads a saved index.

        Raises:
            DamagedError: the file is not a whole index of this version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                values: dict[str, Any] = {name: file[name] for name in file.files}
            if int(values.pop("format")) != FORMAT:
                raise ValueError("another version")
            values |= {name: int(values[name]) for name in ("ngram", "near")}
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DamagedError(
                "this is not a whole evaluation index", where=str(path), hint="delete it; the next build makes it anew"
            ) from error

    @classmethod
    def build(cls, items: Sequence[Item], *, ngram: int = 3, near: int = 50) -> EvaluationIndex:
        """Builds the index.

        Args:
            items: the evaluation items, in an order that stays the same.
            ngram: words of an n-gram.
            near: how many words away from a question its answer is looked for.
        """
        answers, item_answers = _flat([item.answers for item in items])
        passages = list(dict.fromkeys(item.passage for item in items if item.passage))
        answer_words, passage_words = (find_words(text_column(texts), "letters") for texts in (answers, passages))
        questions = find_words(text_column([item.question for item in items]), "letters")
        sample = np.sort(np.concatenate([questions.hashes, answer_words.hashes, passage_words.hashes]))
        names = {name: number for number, name in enumerate(dict.fromkeys(item.set for item in items))}
        sets = np.array([names[item.set] for item in items], np.int32)
        bits = surprisal(questions, sample) * template_discount(questions, sets, _TEMPLATE_WORDS)
        units = _units(questions.hashes, np.round(bits * SCALE).astype(np.int32), questions.documents)
        letters = find_words(text_column([item.letter for item in items]), "letters")
        item_letter = np.zeros(len(items), np.uint64)
        item_letter[letters.counts > 0] = letters.hashes
        choices, item_choices = _flat([item.choices for item in items])
        counts = find_words(text_column(choices), "letters").counts.astype(np.int32)
        numbers = {text: number for number, text in enumerate(passages)}
        return cls(
            records=_records(items),
            ngram=ngram,
            near=near,
            **units,
            **_seeds(units["unit_words"], units["unit_worth"], units["unit_offsets"], ngram),
            answer_words=answer_words.hashes,
            answer_worth=np.round(surprisal(answer_words, sample) * SCALE).astype(np.int32),
            answer_offsets=answer_words.documents,
            item_answers=item_answers,
            item_choice_words=_sums(counts, item_choices).astype(np.int32),
            item_letter=item_letter,
            passage_words=passage_words.hashes,
            passage_offsets=passage_words.documents,
            item_passage=np.array([numbers.get(item.passage, -1) for item in items], np.int32),
        )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {"format": np.asarray(FORMAT)}
        for field in dataclasses.fields(self):
            arrays[field.name] = np.asarray(getattr(self, field.name))
        return arrays


def _records(items: Sequence[Item]) -> NDArray[np.uint8]:
    """Items as JSON, each passage once: uint8[bytes]."""
    passages = {text: number for number, text in enumerate(dict.fromkeys(item.passage for item in items))}
    records = [dataclasses.asdict(item) | {"passage": passages[item.passage]} for item in items]
    text = json.dumps({"items": records, "passages": list(passages)}, ensure_ascii=False)
    return np.frombuffer(text.encode(), np.uint8)


def _flat(lists: Sequence[Sequence[str]]) -> tuple[list[str], Integers]:
    """Lists of texts one after another, and where each list begins."""
    return [text for texts in lists for text in texts], _offsets([len(texts) for texts in lists])


def _offsets(lengths: Sequence[int]) -> Integers:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _sums(values: NDArray[np.int32], offsets: Integers) -> Integers:
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
    return total[offsets[1:]] - total[offsets[:-1]]


def _units(hashes: Hashes, worth: Worth, offsets: Integers) -> dict[str, NDArray[Any]]:
    """Cuts questions into units and lays equal ones together, each with its items in order."""
    found: dict[bytes, int] = {}
    members: list[list[int]] = []
    words: list[Hashes] = []
    worths: list[Worth] = []
    ends: list[bool] = []
    for item, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist())):
        if end - begin < SHORTEST:
            continue
        # Pieces of equal length, so that none is a short rest.
        cuts = np.linspace(begin, end, -(-(end - begin) // _PIECE) + 1).round().astype(int).tolist()
        for first, last in itertools.pairwise(cuts):
            key = hashes[first:last].tobytes() + (b"." if last == end else b"")
            unit = found.setdefault(key, len(found))
            if unit == len(members):
                members.append([])
                words.append(hashes[first:last])
                worths.append(worth[first:last])
                ends.append(last == end)
            # In two sets a question may be a template in the one and not in the other: it is worth the less.
            worths[unit] = np.minimum(worths[unit], worth[first:last])
            if item not in members[unit][-1:]:
                members[unit].append(item)
    return {
        "unit_words": np.concatenate([np.zeros(0, np.uint64), *words]),
        "unit_worth": np.concatenate([np.zeros(0, np.int32), *worths]),
        "unit_offsets": _offsets([len(unit) for unit in words]),
        "unit_ends": np.array(ends, bool),
        "unit_items": np.array([item for unit in members for item in unit], np.int32),
        "unit_item_offsets": _offsets([len(unit) for unit in members]),
    }


def _seeds(words: Hashes, worth: Worth, offsets: Integers, ngram: int) -> dict[str, NDArray[Any]]:
    """The n-grams that begin a match, sorted by hash, with every place of each."""
    grams, units, places, worths = (np.concatenate(parts) for parts in zip(*_all_grams(words, worth, offsets, ngram)))
    _, kind, counts = np.unique(grams, return_inverse=True, return_counts=True)
    commonness = counts[kind]
    # Within each unit, from the least common on, and of those from the worthiest on.
    order = np.lexsort((places, -worths, commonness, units))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(units[order], units[order])
    kept = np.flatnonzero((worths >= _SEED_WORTH) & (commonness <= _SEED_UNITS) | (ranks < _SEEDS_KEPT))
    kept = kept[np.lexsort((places[kept], units[kept], grams[kept]))]
    seeds, firsts = np.unique(grams[kept], return_index=True)
    return {
        "seeds": seeds,
        "seed_offsets": np.append(firsts, len(kept)).astype(np.int64),
        "seed_units": units[kept].astype(np.int32),
        "seed_places": places[kept].astype(np.int32),
    }


def _all_grams(words: Hashes, worth: Worth, offsets: Integers, ngram: int) -> list[tuple[Any, ...]]:
    """Every n-gram of every unit by size: hashes, units, places in the unit, worth."""
    lengths = np.diff(offsets)
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(worth, dtype=np.int64)])
    empty = np.zeros(0, np.int64)
    parts: list[tuple[Any, ...]] = [(np.zeros(0, np.uint64), empty, empty, empty)]
    sizes = np.minimum(lengths, ngram)
    for size in np.unique(sizes).tolist():
        # Units have no text of their own here, only words: the same arithmetic needs nothing else of them.
        hashes, counts = ngrams_of(words, offsets, size)
        units = np.repeat(np.arange(len(lengths)), np.diff(counts))
        places = np.arange(len(hashes)) - counts[units]
        first = offsets[units] + places
        mine = sizes[units] == size
        parts.append(
            (hashes[mine], units[mine], places[mine], (total[first + size] - total[first])[mine]),
        )
    return parts


def ngrams_of(hashes: Hashes, offsets: Integers, n: int) -> tuple[Hashes, Integers]:
    """``words.ngrams`` for words of which only the hashes are at hand."""
    nothing = np.zeros(0, np.int64)
    empty = np.zeros(0, np.uint8)
    return ngrams(Words(empty, np.zeros(len(hashes), np.int64), nothing, hashes, offsets, nothing), n)
