"""Texts -> the hashes that deduplication needs, a row a document.

A column of texts is hashed at once, as flat arrays. The pipeline writes each shard's rows to an uncompressed Arrow file,
which is mapped into memory afterwards: only the documents that look alike are ever read again.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingExtra
from ..words import Bytes, Hashes, Integers, Words, find_words, flat_bytes, hash_bytes, mix, ngrams
from .options import DuplicateOptions
from .whitespace import paragraph_spans, squeeze

if TYPE_CHECKING:
    import pyarrow as pa

# Raised whenever the same text gives other hashes.
VERSION = 1
_SEED = 42
# Two sums of the same hashes, mixed in two ways, are as good as 128 bits.
_OTHER = np.uint64(0xD1B54A32D192ED03)


def algorithm(options: DuplicateOptions) -> str:
    """What else than the options decides the hashes; it belongs in the key under which they are kept.

    A new version of the MinHash library may compute other signatures. Signatures of two versions would not match each
    other and duplicates would be missed without a word, so the key holds the signature of a known set.
    """
    if options.near is None:
        return str(VERSION)
    known = mix(np.arange(1, 1001, dtype=np.uint64))
    signatures = minhash(known, np.array([0, 10, 1000]), options.permutations)
    return f"{VERSION}-{hashlib.blake2b(signatures.astype('<u4').tobytes(), digest_size=8).hexdigest()}"


def schema(options: DuplicateOptions) -> pa.Schema:
    """The columns of ``fingerprint``.

    ``exact``: 128 bits of the text with its white space squeezed. ``set``: 128 bits of its set of n-grams, zero where
    there is none. ``signature``: its MinHash. ``shingles``: the n-grams' hashes, rising. ``paragraphs``, ``starts`` and
    ``ends``: hash and span of each paragraph that is long enough; the span is in characters and holds the blank lines
    that follow.
    """
    import pyarrow as pa

    columns = [pa.field("exact", pa.binary(16), nullable=False)]
    if options.near is not None:
        columns += [
            pa.field("set", pa.binary(16), nullable=False),
            pa.field("signature", pa.list_(pa.uint32(), options.permutations), nullable=False),
            pa.field("shingles", pa.large_list(pa.uint64()), nullable=False),
        ]
    if options.paragraphs is not None:
        columns.append(pa.field("paragraphs", pa.large_list(pa.uint64()), nullable=False))
        columns += [pa.field(name, pa.large_list(pa.int64()), nullable=False) for name in ("starts", "ends")]
    return pa.schema(columns)


def fingerprint(texts: pa.LargeStringArray, options: DuplicateOptions, words: Words | None = None) -> pa.RecordBatch:
    """The fingerprints of a batch of documents, a row each, with the columns of ``schema``.

    Args:
        texts: the documents; none may be null.
        options: what will be looked for.
        words: the batch's words of the kind ``letters``, where they have been found already.

    Raises:
        MissingExtra: rensa is not installed.
    """
    import pyarrow as pa

    columns: list[pa.Array] = [_exact(texts)]
    if options.near is not None or options.paragraphs is not None:
        words = words or find_words(texts, "letters")
    if options.near is not None:
        assert words is not None
        hashes, offsets = shingles(words, options.ngram)
        columns.append(_binary(_set_hashes(hashes, offsets)))
        signatures = minhash(hashes, offsets, options.permutations)
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(signatures.reshape(-1)), options.permutations))
        columns.append(_lists(hashes, offsets))
    if options.paragraphs is not None:
        assert words is not None
        columns += _paragraphs(words, options.paragraphs.min_words)
    return pa.RecordBatch.from_arrays(columns, schema=schema(options))


def shingles(words: Words, ngram: int) -> tuple[Hashes, Integers]:
    """The set of n-grams of each document: rising hashes, uint64[k], and where each document's begin.

    A document with fewer words than ``ngram`` has one, of all its words; one without words has none.
    """
    hashes, offsets = ngrams(words, ngram)
    counts = words.counts
    short = np.flatnonzero((counts > 0) & (counts < ngram))
    if len(short):
        whole = _hash_runs(words, words.documents[short], words.documents[short + 1])
        hashes = np.insert(hashes, offsets[short], whole)
        sizes = np.diff(offsets)
        sizes[short] = 1
        offsets = _offsets(sizes)
    sort_runs(hashes, offsets)
    # Of equal neighbours the first stays, and every document's first stays.
    keep = np.ones(len(hashes), bool)
    keep[1:] = hashes[1:] != hashes[:-1]
    keep[offsets[:-1][offsets[:-1] < offsets[1:]]] = True
    kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    return hashes[keep], kept[offsets]


def sort_runs(values: Hashes, offsets: Integers) -> None:
    """Sorts each run ``values[offsets[i]:offsets[i + 1]]`` in place; runs of one length are sorted together."""
    lengths = np.diff(offsets)
    order = np.argsort(lengths, kind="stable")
    order = order[np.searchsorted(lengths[order], 2) :]
    if not len(order):
        return
    bounds = np.flatnonzero(np.diff(lengths[order])) + 1
    for rows in np.split(order, bounds):
        length = int(lengths[rows[0]])
        if len(rows) == 1:
            values[offsets[rows[0]] : offsets[rows[0]] + length].sort()
            continue
        places = offsets[rows][:, None] + np.arange(length)
        values[places] = np.sort(values[places], axis=1)


def minhash(hashes: Hashes, offsets: Integers, permutations: int) -> NDArray[np.uint32]:
    """The MinHash signature of each set: uint32[documents, permutations].

    Every hash of a set goes in: rensa's faster functions whose names end in ``_rho`` look at a sample only.

    Raises:
        MissingExtra: rensa is not installed.
    """
    try:
        import rensa
    except ImportError:
        raise MissingExtra("finding near-duplicates", "data") from None
    digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        np.ascontiguousarray(hashes), np.ascontiguousarray(offsets, dtype=np.uint64), permutations, _SEED
    )
    count = len(offsets) - 1
    values = itertools.chain.from_iterable(digests.to_rows())
    return np.fromiter(values, np.uint32, count * permutations).reshape(count, permutations)


def _exact(texts: pa.LargeStringArray) -> pa.Array:
    squeezed, starts, ends = squeeze(*flat_bytes(texts))
    content = squeezed.data
    digests = b"".join(_digests(content, starts, ends))
    return _binary(np.frombuffer(digests, np.uint64).reshape(-1, 2))


def _digests(content: memoryview, starts: Integers, ends: Integers) -> Iterator[bytes]:
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield hashlib.blake2b(content[start:end], digest_size=16).digest()


def _set_hashes(hashes: Hashes, offsets: Integers) -> Hashes:
    """uint64[documents, 2]: sums over each set, which do not depend on an order; zero for an empty set."""
    sums = np.zeros((len(offsets) - 1, 2), np.uint64)
    full = np.flatnonzero(offsets[:-1] < offsets[1:])
    if len(full):
        for column, mixed in enumerate((mix(hashes), mix(hashes ^ _OTHER))):
            sums[full, column] = np.add.reduceat(mixed, offsets[full])
    return sums


def _paragraphs(words: Words, min_words: int) -> list[pa.Array]:
    import pyarrow as pa

    starts, ends, documents = paragraph_spans(words.data, words.bytes)
    first = np.searchsorted(words.starts, starts)
    last = np.searchsorted(words.starts, ends)
    long = last - first >= min_words
    starts, ends, documents, first, last = (array[long] for array in (starts, ends, documents, first, last))
    offsets = np.searchsorted(documents, np.arange(len(words.bytes)))
    spans = _characters(words.data, words.bytes, starts, ends, documents)
    columns = [_lists(_hash_runs(words, first, last), offsets)]
    return columns + [pa.LargeListArray.from_arrays(offsets, pa.array(places)) for places in spans]


def _hash_runs(words: Words, first: Integers, last: Integers) -> Hashes:
    """The hash of each run of words, from the words' hashes."""
    return hash_bytes(words.hashes.view(np.uint8), first * 8, last * 8)


def _characters(
    data: Bytes, begins: Integers, starts: Integers, ends: Integers, documents: Integers
) -> tuple[Integers, Integers]:
    """Byte ranges of the column as character ranges of their documents."""
    # A character begins at every byte but those that continue one.
    inner = np.flatnonzero((data & 0xC0) == 0x80)
    if len(inner):
        begins, starts, ends = (places - np.searchsorted(inner, places) for places in (begins, starts, ends))
    return starts - begins[documents], ends - begins[documents]


def _binary(values: Hashes) -> pa.Array:
    import pyarrow as pa

    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(values), [None, content])


def _lists(values: Hashes, offsets: Integers) -> pa.Array:
    import pyarrow as pa

    return pa.LargeListArray.from_arrays(offsets, pa.array(values))


def _offsets(sizes: Integers) -> Integers:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
