"""Which language a document is in: py3langid's model, walked over a piece of every document at once.

The model (Lui and Baldwin 2012, "langid.py"; py3langid 0.4) is an automaton over bytes, each of whose states may name a
feature, and a naive Bayes weight for each feature and language. Its own code walks one text at a time in Python; here
all documents take a step together, which is some seven times as fast and gives the same answers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingExtra
from ..words import Bytes, Integers
from .block import LETTER, LOWER, UPPER, Block

UNKNOWN = "und"
# The model's name for text of no language, such as tables of numbers.
_NO_LANGUAGE = "zxx"
# More is hardly surer: of texts of 800 characters in 24 languages, with English in between, the model gets 89% right by
# 256 bytes, 91% by 384, 92% by 512 and 94% by all; of others as many by 256 as by all.
SNIPPET_BYTES = 384
# With fewer bytes of letters the answer would be a guess.
MINIMUM_LETTERS = 12
# A line with at most such a share of signs and digits, and so long, is prose rather than markup, code or a table.
_PROSE_SIGNS, _PROSE_BYTES = 0.12, 25
_DOCUMENTS_AT_ONCE = 2048
_SPACE = 32


@dataclass(frozen=True)
class Snippets:
    """A piece of each document to tell its language by.

    Attributes:
        data: uint8[bytes], one after another.
        offsets: int64[documents + 1], where each begins.
        letters: int64[documents], how many bytes of each belong to letters.
    """

    data: Bytes
    offsets: Integers
    letters: Integers


def cut_snippets(block: Block) -> Snippets:
    """The middle of each document's prose, a space between lines; of all its lines where none is prose.

    Markup, menus and code stand at the beginning and between, and notices at the end.
    """
    lines, flags = block.lines, block.flags
    sizes = lines.ends - lines.starts
    prose = (block.line_signs <= _PROSE_SIGNS * sizes) & (sizes >= _PROSE_BYTES)
    taken = prose | (lines.total(prose) == 0)[lines.documents]
    starts, documents = lines.starts[taken], lines.documents[taken]
    lengths = lines.ends[taken] - starts + 1
    # Where each line stands in its document's prose, and the window in the middle of it.
    totals = np.bincount(documents, weights=lengths, minlength=len(block)).astype(np.int64)
    after = np.cumsum(lengths) - (np.cumsum(totals) - totals)[documents]
    skip = (np.maximum(totals - SNIPPET_BYTES, 0) // 2)[documents]
    first = np.clip(skip - (after - lengths), 0, lengths)
    last = np.clip(skip + SNIPPET_BYTES - (after - lengths), 0, lengths)
    sizes = last - first
    line = np.repeat(np.arange(len(starts)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[line]
    space = within == lengths[line] - 1
    places = np.where(space, 0, starts[line] + within)
    data, kinds = block.data[places], np.where(space, 0, flags[places]).astype(np.uint8)
    data[space] = _SPACE
    of = documents[line]
    _lower_capitals(data, kinds, of, len(block))
    counts = np.bincount(of, minlength=len(block))
    letters = np.bincount(of, weights=(kinds & LETTER) != 0, minlength=len(block)).astype(np.int64)
    return Snippets(data, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), letters)


def join_snippets(parts: list[Snippets]) -> Snippets:
    """The snippets of several blocks as one."""
    sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
    data = np.concatenate([np.zeros(0, np.uint8), *(part.data for part in parts)])
    letters = np.concatenate([np.zeros(0, np.int64), *(part.letters for part in parts)])
    return Snippets(data, np.cumsum(sizes), letters)


def identify(snippets: Snippets) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
    """The language of each snippet, ISO 639-1 or else 639-3, and how sure it is, 0 to 1.

    Returns:
        object[documents] of str and float32[documents]; "und" and 0 for one too short to tell.

    Raises:
        MissingExtra: py3langid is not installed.
    """
    documents = len(snippets.letters)
    names = np.full(documents, UNKNOWN, object)
    scores = np.zeros(documents, np.float32)
    long = np.flatnonzero(snippets.letters >= MINIMUM_LETTERS)
    if not len(long):
        return names, scores
    model = _load_model()
    for start in range(0, len(long), _DOCUMENTS_AT_ONCE):
        chosen = long[start : start + _DOCUMENTS_AT_ONCE]
        begins, ends = snippets.offsets[chosen], snippets.offsets[chosen + 1]
        probabilities = _probabilities(model, snippets.data, begins, ends - begins)
        best = probabilities.argmax(axis=1)
        names[chosen] = model.names[best]
        # Four places: the sums' last digits differ between machines.
        scores[chosen] = probabilities[np.arange(len(chosen)), best].round(4)
    return names, scores


@dataclass(frozen=True)
class _Model:
    """The automaton and the weights.

    Attributes:
        rows: int32[states], where the state's row of ``moves`` begins.
        moves: uint32[rows x 256], the next state.
        features: int32[states], the feature that a state names, or -1.
        weights: float32[features, classes].
        priors: float32[classes].
        names: object[classes], str.
        aliases: pairs of classes of the same name.
    """

    rows: NDArray[np.int32]
    moves: NDArray[np.uint32]
    features: NDArray[np.int32]
    weights: NDArray[np.float32]
    priors: NDArray[np.float32]
    names: NDArray[np.object_]
    aliases: list[tuple[int, int]]


@functools.cache
def _load_model() -> _Model:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra("telling languages", "data") from None
    loaded = LanguageIdentifier.from_model_file(MODEL_FILE)
    labels = [UNKNOWN if name == _NO_LANGUAGE else str(name) for name in loaded.nb_classes]
    firsts = [labels.index(name) for name in labels]
    return _Model(
        rows=np.array(loaded.tk_row, np.int32) << 8,
        moves=np.array(loaded.tk_nextmove, np.uint32),
        features=np.array(loaded.tk_output, np.int32),
        weights=np.asarray(loaded.nb_ptc, np.float32),
        priors=np.asarray(loaded.nb_pc, np.float32),
        names=np.array(labels, object),
        aliases=[(first, place) for place, first in enumerate(firsts) if first != place],
    )


def _probabilities(model: _Model, data: Bytes, begins: Integers, lengths: Integers) -> NDArray[np.float32]:
    """float32[documents, classes], of the snippets that begin at the given bytes."""
    documents, features, counts = _visits(model, data, begins, lengths)
    weights = np.log1p(counts, dtype=np.float32)
    bounds = np.searchsorted(documents, np.arange(len(begins) + 1))
    scores = np.zeros((len(begins), len(model.priors)), np.float32)
    # One product a document: its few hundred features, of a hundred thousand.
    for number, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        if end > start:
            scores[number] = weights[start:end] @ model.weights[features[start:end]] + model.priors
    # Divided by the root of the length, the probabilities mean the same for short and long texts.
    scores /= np.sqrt(lengths, dtype=np.float32)[:, None]
    np.exp(scores - scores.max(axis=1, keepdims=True), out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    for first, second in model.aliases:
        scores[:, first] += scores[:, second]
        scores[:, second] = 0.0
    return scores


def _visits(model: _Model, data: Bytes, begins: Integers, lengths: Integers) -> tuple[Integers, Integers, Integers]:
    """How often each document's walk meets each feature: documents, features and counts, int64[k], in that order."""
    # Longest first, so that those still walking are always the first ones.
    order = np.argsort(-lengths, kind="stable")
    begins, lengths = begins[order], lengths[order]
    steps = int(lengths[0])
    walking = np.searchsorted(-lengths, -np.arange(1, steps + 1), side="right")
    states = np.zeros(len(order), np.int64)
    met = np.full((steps, len(order)), -1, np.int32)
    for step in range(steps):
        count = int(walking[step])
        letters = data[begins[:count] + step]
        states[:count] = model.moves[model.rows[states[:count]] + letters]
        met[step, :count] = model.features[states[:count]]
    found, places = np.nonzero(met >= 0)
    keys = (order[places] << 32) | met[found, places]
    keys.sort()
    heads = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[heads] >> 32, keys[heads] & 0xFFFFFFFF, np.diff(np.append(heads, len(keys)))


def _lower_capitals(data: Bytes, kinds: Bytes, documents: NDArray[np.int32], total: int) -> None:
    """Lowers the letters of ASCII in snippets all of capitals, which the model has hardly seen."""
    small = np.bincount(documents, weights=(kinds & LOWER) != 0, minlength=total)
    change = ((kinds & UPPER) != 0) & (small == 0)[documents] & (data < 0x80)
    data[change] |= 0x20
