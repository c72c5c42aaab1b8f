"""Texts as an encoder reads them: pieces of a limited length, each between its special tokens, and nothing lost.

Or pairs of pieces, of which the second may follow the first (``sentence_pairs``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from .cached import cache_key, find_cached
from .flat import Rows, offsets_of
from .frame import Frame, frame_of
from .prepare import PreparedData, tokenize_files
from .sentence_pairs import Sentences, pair_sentences
from .shards import ShardWriter, TokenDataset
from .tokenizer import Tokenizer
from .vocabulary import Vocabulary

# Raised whenever the same texts would give other datasets than before.
VERSION = 3
KIND = "masked text"
PAIR_KIND = "masked pair"
# What a pair has beside its tokens: whether its second half follows the first, and which of its tokens begins it.
FOLLOWS, SECOND = "follows", "second"
NOTHING_TO_TELL = "no token that the tokenizer knows"

# Texts, or pairs, worked on at once.
_BLOCK = 4096


def tokenize_for_masking(
    path: Path,
    tokenizer: Tokenizer,
    length: int,
    *,
    cache_folder: Path,
    pairs: bool = False,
    progress: Callable[[int], None] | None = None,
) -> PreparedData:
    """Tokenizes texts, or finds them tokenized, and frames them as ``frame_texts`` does.

    Args:
        path: a file or folder, as ``data.read`` reads it.
        tokenizer: whose tokens.
        length: the longest document, in tokens.
        cache_folder: where tokenized datasets are kept.
        pairs: whether a document is a pair.
        progress: called with the number of texts read so far.

    Raises:
        DataError: as ``tokenize_files`` and ``frame_texts``.
        ConfigError, ModelError: as ``frame_texts``.
    """
    check_room(tokenizer, length, pairs)
    texts = tokenize_files([path], tokenizer, kind="text", length=length, cache_folder=cache_folder, progress=progress)
    return frame_texts(TokenDataset(texts.folder), tokenizer, length, cache_folder=cache_folder, pairs=pairs)


def frame_texts(
    texts: TokenDataset, tokenizer: Tokenizer, length: int, *, cache_folder: Path, pairs: bool = False
) -> PreparedData:
    """Tokenized texts as documents of an encoder, made once and kept by content.

    A text longer than ``length``, its special tokens included, becomes several documents of nearly equal lengths, each
    between its own special tokens. So a document never crosses from one text into the next (as in the variant
    DOC-SENTENCES of Liu et al. 2019, section 4.2); packing makes filling up needless. A document of unknown tokens alone
    has nothing that could be hidden, and is left out.

    Args:
        texts: each between the beginning and end tokens that ``tokenize_files`` puts there.
        tokenizer: whose tokens they are.
        length: the longest document, in tokens.
        cache_folder: where datasets are kept.
        pairs: whether a document is a pair, as ``pair_sentences`` makes them.

    Raises:
        DataError: no text has a token that the tokenizer knows; pairs need two texts.
        ConfigError: the length leaves no room between the special tokens.
        ModelError: the tokenizer has no special tokens to stand around a text.
    """
    frame = check_room(tokenizer, length, pairs)
    kind = PAIR_KIND if pairs else KIND
    key = cache_key([], [VERSION, kind, texts.fingerprint, tokenizer.fingerprint, asdict(frame), length])
    folder = Path(cache_folder) / key
    if found := find_cached(folder):
        return found
    info = {"tokenizer": tokenizer.fingerprint, "source": texts.info.get("source", []), "kind": kind}
    columns = {FOLLOWS: ("int64", 1), SECOND: ("int64", 1)} if pairs else {}
    room = length - len(frame)
    made = _pairs(texts, tokenizer, frame, room) if pairs else _pieces(texts, tokenizer, frame, room)
    ordinary = Vocabulary.of(tokenizer).ordinary
    left_out = {"documents": 0, "tokens": 0}
    with ShardWriter(folder, tokenizer.vocab_size, info, columns=columns) as writer:
        for (ids, offsets), numbers in made:
            lengths = np.diff(offsets)
            told = np.bincount(np.repeat(np.arange(len(lengths)), lengths), ordinary[ids], len(lengths)) > 0
            left_out["documents"] += int((~told).sum())
            left_out["tokens"] += int(lengths[~told].sum())
            kept = {name: values[told] for name, values in numbers.items()}
            writer.add_many(ids[np.repeat(told, lengths)], offsets_of(lengths[told]), None, kept)
        if left_out["documents"] and not writer.documents:
            hint = "train a tokenizer on texts of this kind"
            where = ", ".join(info["source"]) or str(texts.folder)
            raise DataError("the tokenizer knows no token of these texts", where=where, hint=hint)
        trained = writer.tokens - len(frame) * writer.documents
        dropped = {NOTHING_TO_TELL: left_out} if left_out["documents"] else {}
        writer.info |= {"trained": trained, "dropped": dropped}
    return PreparedData(folder, writer.documents, writer.tokens, trained, dropped)


def check_room(tokenizer: Tokenizer, length: int, pairs: bool) -> Frame:
    """The special tokens of a document, between which there is room for text. Raises as ``frame_texts``."""
    frame = frame_of(tokenizer, pair=pairs, causal=False)
    if length - len(frame) < 1 + pairs:
        hint = f"{len(frame)} special tokens stand around each" + (" pair" if pairs else "")
        raise ConfigError(f"documents of {length} tokens leave no room for text", where="data.length", hint=hint)
    return frame


_Made = Iterator[tuple[Rows, Mapping[str, NDArray[np.int64]]]]


def _pieces(texts: TokenDataset, tokenizer: Tokenizer, frame: Frame, room: int) -> _Made:
    for first in range(0, len(texts), _BLOCK):
        rows = _bare(texts.rows(first, min(first + _BLOCK, len(texts))), tokenizer)
        yield frame.rows(_cut(rows, room))[0], {}


def _pairs(texts: TokenDataset, tokenizer: Tokenizer, frame: Frame, room: int) -> _Made:
    vocabulary = Vocabulary.of(tokenizer)
    sentences = Sentences.of(
        (_bounds(texts, first, tokenizer) for first in range(0, len(texts), _BLOCK)), vocabulary, max(1, room // 2)
    )
    tokens, _ = texts.rows(0, len(texts))
    pairs = pair_sentences(sentences, room, ", ".join(texts.info.get("source", [])) or str(texts.folder))
    for first in range(0, len(pairs), _BLOCK):
        part = slice(first, first + _BLOCK)
        halves = [_ranges(tokens, *(side[part] for side in half)) for half in (pairs.first, pairs.second)]
        rows, second = frame.rows(*halves)
        yield rows, {FOLLOWS: pairs.follows[part, None], SECOND: second[:, None]}


def _bounds(
    texts: TokenDataset, first: int, tokenizer: Tokenizer
) -> tuple[NDArray[np.int64], int, NDArray[np.int64], NDArray[np.int64]]:
    """Some texts' tokens, where they stand among all, and where in them each text begins and ends."""
    ids, offsets = texts.rows(first, min(first + _BLOCK, len(texts)))
    begins, ends = _without_ends((ids, offsets), tokenizer)
    return ids.astype(np.int64), int(texts.offsets[first]), begins, ends


def _without_ends(rows: Rows, tokenizer: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each row begins and ends without its beginning and end tokens: [rows] each."""
    ids, offsets = rows
    begins, ends = offsets[:-1].copy(), offsets[1:].copy()
    if tokenizer.adds_bos:
        begins += ids[begins] == tokenizer.bos_id
    if tokenizer.eos_id is not None:
        ends -= (ids[ends - 1] == tokenizer.eos_id) & (begins < ends)
    return begins, ends


def _bare(rows: Rows, tokenizer: Tokenizer) -> Rows:
    ids, offsets = rows
    return _ranges(ids, *_without_ends((ids, offsets), tokenizer))


def _ranges(ids: NDArray[np.uint32], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Rows:
    """The tokens from each beginning to each end, as rows."""
    offsets = offsets_of(ends - begins)
    places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], ends - begins)
    return ids[places], offsets


def _cut(rows: Rows, room: int) -> Rows:
    """Each row in consecutive pieces of at most ``room`` tokens, of nearly equal lengths; none of an empty one."""
    ids, offsets = rows
    lengths = np.diff(offsets)
    counts = -(-lengths // room)
    owner = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Equal parts rather than full ones and a rest: a piece of two tokens teaches little.
    ends = (number + 1) * lengths[owner] // counts[owner]
    starts = number * lengths[owner] // counts[owner]
    return ids, offsets_of(ends - starts)
