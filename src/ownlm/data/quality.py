"""A small linear model that scores how much a text is like good examples and unlike bad ones.

Its features are the document's words and pairs of words, each hashed into a bucket and divided by the root of how many
there are; the model is a logistic regression over them, both kinds of examples weighing the same. So it learns topic and
tone, as the classifiers do that Brown et al. (2020, appendix A) and Li et al. (2024, "DataComp-LM") filter the web with,
and is as good as the examples are typical: texts of a kind that is in neither get scores that mean little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedError, DataError, MissingExtra, UserError
from ..files import check_replaceable, new_folder, read_json, verify_folder, write_json
from .read import read_texts
from .regression import Examples, Mask, fit, roc_area
from .words import Integers, find_words, ngrams

if TYPE_CHECKING:
    import pyarrow as pa

WEIGHTS, ABOUT = "weights.safetensors", "quality.json"
BUCKET_BITS = 18
# Weights are sums of whole numbers of this part, so that a score is the same in any batch and on any machine.
_PART = 2**-20
# The beginning of a text, and some thousands of texts, teach such a model as much as all would.
TEXT_CHARACTERS = 10_000
MOST, FEWEST = 20_000, 20
HELD_OUT = 0.2
PENALTY = 0.1
_BATCH_BYTES = 2**22
_VERSION = 1


@dataclass(frozen=True)
class QualityModel:
    """A trained model.

    Attributes:
        weights: float32[buckets].
        bias: what a text without words gets, before the logistic function.
        about: how it was trained and what it reached on held-out texts, as ``quality.json`` has it.
    """

    weights: NDArray[np.float32]
    bias: float
    about: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """A hash of what decides the scores."""
        digest = hashlib.sha256(self.weights.tobytes())
        digest.update(f"{_VERSION} {self.bias!r}".encode())
        return digest.hexdigest()

    def score(self, texts: pa.LargeStringArray) -> NDArray[np.float32]:
        """How good each text is: float32[documents], 0 to 1, of which 0.5 is as much like the bad as the good."""
        parts = np.rint(self.weights.astype(np.float64) / _PART).astype(np.int64)
        buckets, documents, counts = _features(texts)
        sums = np.zeros(len(counts), np.int64)
        for places, starts in zip(buckets, documents, strict=True):
            before = np.concatenate([np.zeros(1, np.int64), np.cumsum(parts[places])])
            sums += before[starts[1:]] - before[starts[:-1]]
        logits = sums * _PART / np.sqrt(np.maximum(counts, 1)) + self.bias
        return (1 / (1 + np.exp(-np.clip(logits, -60, 60)))).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Writes the model's folder, whole or not at all."""
        from safetensors.numpy import save_file

        with new_folder(Path(folder)) as partial:
            save_file({"weights": self.weights, "bias": np.array([self.bias], np.float64)}, partial / WEIGHTS)
            write_json(partial / ABOUT, self.about)

    @staticmethod
    def load(folder: Path) -> QualityModel:
        """Reads a model's folder.

        Raises:
            UserError: the folder holds no such model, or one of another version.
            DamagedError: a file of it is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        if not (folder / ABOUT).is_file() or not (folder / WEIGHTS).is_file():
            hint = "make one with ownlm data quality train"
            raise UserError("this folder holds no quality model", where=str(folder), hint=hint)
        verify_folder(folder)
        about = read_json(folder / ABOUT)
        if about.get("version") != _VERSION:
            hint = "train it again with ownlm data quality train"
            raise UserError("this quality model is of another version of ownlm", where=str(folder), hint=hint)
        try:
            tensors = load_file(folder / WEIGHTS)
            return QualityModel(tensors["weights"], float(tensors["bias"][0]), about)
        except (SafetensorError, KeyError, IndexError):
            raise DamagedError("this file is damaged", where=str(folder / WEIGHTS)) from None


def train_quality(good: Iterable[str], bad: Iterable[str], *, penalty: float = PENALTY) -> QualityModel:
    """Trains a model; a fifth of the texts of each kind, chosen by their content, is held out to measure it on.

    The result depends neither on the order of the texts nor on the number of cores. A text that is given twice counts
    once; the beginning of a long one stands for all of it, and 20,000 of a kind, chosen by content, for all of them.

    Args:
        good: texts to have more of.
        bad: texts to have less of.
        penalty: what half the sum of the squared weights costs, beside the sum of the losses.

    Raises:
        DataError: too few texts of a kind, or the same text is good and bad.
    """
    kinds = {"good": _distinct(good), "bad": _distinct(bad)}
    for name, found in kinds.items():
        if len(found) < FEWEST:
            hint = f"give at least {FEWEST} different ones"
            raise DataError(f"{len(found)} {name} texts are too few to learn from", hint=hint)
    if both := kinds["good"].keys() & kinds["bad"].keys():
        example = kinds["good"][min(both)][:60]
        raise DataError(f"the same text is good and bad: '{example}'", hint="leave it out of one of the two")
    texts: list[str] = []
    labels: list[bool] = []
    held: list[bool] = []
    for name, found in kinds.items():
        # Hashes are in no order that has to do with the texts, so the first are as good as any.
        chosen = [found[key] for key in sorted(found)[:MOST]]
        texts += chosen
        labels += [name == "good"] * len(chosen)
        held += [number < HELD_OUT * len(chosen) for number in range(len(chosen))]
    good_ones, apart = np.array(labels), np.array(held)
    examples = Examples.join([_examples(batch) for batch in _batches([t for t, out in zip(texts, held) if not out])])
    weights, bias = fit(examples, good_ones[~apart], 2**BUCKET_BITS, penalty)
    model = QualityModel(weights.astype(np.float32), bias, {})
    scores = np.concatenate([model.score(batch) for batch in _batches([t for t, out in zip(texts, held) if out])])
    return QualityModel(model.weights, bias, _report(good_ones, apart, scores, penalty))


def train_quality_files(good: Sequence[str | Path], bad: Sequence[str | Path], out: str | Path) -> dict[str, Any]:
    """Trains a model on the texts of files and folders and writes it; returns what ``quality.json`` holds.

    Raises:
        DataError: as ``read.read_texts`` and ``train_quality``.
        StorageError: the folder cannot be written.
        UserError: something else stands at ``out``.
    """
    check_replaceable(Path(out), (WEIGHTS, ABOUT))
    model = train_quality(read_texts(good), read_texts(bad))
    model.save(Path(out))
    return model.about


def _report(labels: Mask, held: Mask, scores: NDArray[np.float32], penalty: float) -> dict[str, Any]:
    """How the model was trained, and how well it ranks the texts it has not seen, whose scores are given."""
    kinds = labels[held]
    area, low, high = roc_area(scores, kinds)
    right = (scores >= 0.5) == kinds
    quantiles = {
        name: [round(float(value), 4) for value in np.quantile(scores[kind], (0.05, 0.25, 0.5, 0.75, 0.95))]
        for name, kind in (("good", kinds), ("bad", ~kinds))
    }
    return {
        "version": _VERSION,
        "words": [1, 2],
        "buckets": 2**BUCKET_BITS,
        "text_characters": TEXT_CHARACTERS,
        "penalty": penalty,
        "good": int(labels.sum()),
        "bad": int((~labels).sum()),
        "held_out_good": int(kinds.sum()),
        "held_out_bad": int((~kinds).sum()),
        "auc": round(area, 4),
        "auc_low": round(low, 4),
        "auc_high": round(high, 4),
        # Each kind counts half, as in training.
        "accuracy": round(float((right[kinds].mean() + right[~kinds].mean()) / 2), 4),
        "score_quantiles": quantiles,
    }


def _distinct(texts: Iterable[str]) -> dict[str, str]:
    """The beginnings of the texts by the hash of them."""
    distinct = {}
    for text in texts:
        begin = text[:TEXT_CHARACTERS]
        if begin.strip():
            distinct[hashlib.blake2b(begin.encode(), digest_size=16).hexdigest()] = begin
    return distinct


def _features(texts: pa.LargeStringArray) -> tuple[list[Integers], list[Integers], Integers]:
    """The buckets of the words and of the pairs of words, where each document's begin, and how many it has of both."""
    shift = np.uint64(64 - BUCKET_BITS)
    words = find_words(texts, "letters")
    pairs, pair_documents = ngrams(words, 2)
    buckets = [(hashes >> shift).astype(np.int64) for hashes in (words.hashes, pairs)]
    documents = [words.documents, pair_documents]
    return buckets, documents, words.counts + np.diff(pair_documents)


def _examples(texts: pa.LargeStringArray) -> Examples:
    """The features of texts, each once a document, divided by the root of how many the document has."""
    buckets, documents, counts = _features(texts)
    rows = [np.repeat(np.arange(len(counts)), np.diff(starts)) for starts in documents]
    cells = (np.concatenate(rows) << BUCKET_BITS) | np.concatenate(buckets)
    cells, times = np.unique(cells, return_counts=True)
    row = cells >> BUCKET_BITS
    values = (times / np.sqrt(counts)[row]).astype(np.float32)
    return Examples(row.astype(np.int32), (cells & (2**BUCKET_BITS - 1)).astype(np.int32), values, len(counts))


def _batches(texts: Sequence[str]) -> Iterator[pa.LargeStringArray]:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtra("scoring texts", "data") from None
    start, size = 0, 0
    for end, text in enumerate(texts, 1):
        size += len(text)
        if size >= _BATCH_BYTES or end == len(texts):
            yield pa.array(texts[start:end], pa.large_string())
            start, size = end, 0
