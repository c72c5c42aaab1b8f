"""How good predictions are where the right ones are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.read import read_rows
from ..errors import DataError, MissingExtra, nearest
from ..model.config import ModelConfig
from ..tokens.labels import Labelled, LabelledFormat, read_labelled
from ..tokens.questions import Question, right_answers
from .answers import Answer
from .classes import Labels
from .metrics import class_measures, multi_measures, number_measures
from .rewriting import Rewritten
from .squad import squad_scores


def read_labelled_for(config: ModelConfig, file: Path) -> list[Labelled]:
    """The labelled texts of a file, in the way that a model's labels ask for.

    Raises:
        DataError: with file and line, as ``read_labelled``, or a label that is none of the model's.
    """
    names = next(iter(read_rows([file]))).values
    # Numbers, and classes that each have a column, are called as their columns are.
    own = config.labels if config.problem != "single" and set(config.labels) <= set(names) else ()
    rows = list(read_labelled([file], LabelledFormat(config.problem, label=own)))
    for row in rows:
        if strange := [label for label in row.labels if label not in config.labels]:
            what = f"the label '{strange[0]}' is not one of the model's classes"
            raise DataError(what, where=row.where, hint=nearest(strange[0], config.labels))
    return rows


def score_labels(found: Sequence[Labels], given: Sequence[Labelled], config: ModelConfig) -> dict[str, float]:
    """The measures that training uses too, of what ``classify`` gave for labelled texts."""
    places = {label: place for place, label in enumerate(config.labels)}
    if config.problem == "single":
        pairs = [(places[row.labels[0]], places[one.label]) for row, one in zip(given, found, strict=True)]
        right, predicted = np.array(pairs, np.int64).T
        return class_measures(right, predicted, len(places))
    if config.problem == "multi":
        both = [
            [[label in labels for label in places] for labels in (row.labels, one.labels)]
            for row, one in zip(given, found, strict=True)
        ]
        has = np.array(both, bool)
        return multi_measures(has[:, 0], has[:, 1])
    numbers = [list(one.scores.values()) for one in found]
    return number_measures(np.array([row.numbers for row in given], float), np.array(numbers, float))


def score_answers(found: Sequence[Answer], given: Sequence[Question]) -> dict[str, float]:
    """SQuAD's exact match and F1 of what ``answer`` gave."""
    return squad_scores([one.answer or "" for one in found], [right_answers(question) for question in given])


def score_rewritings(found: Sequence[Rewritten], given: Sequence[str]) -> dict[str, float]:
    """How near texts are to the right ones: "exact", the share of equal ones, and BLEU and chrF (Post 2018), 0 to 100.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise MissingExtra("scoring texts", "scores") from None
    outputs = [one.output for one in found]
    exact = sum(" ".join(a.split()) == " ".join(b.split()) for a, b in zip(outputs, given, strict=True))
    measured = {"bleu": BLEU(), "chrf": CHRF()}
    scores = {name: metric.corpus_score(outputs, [list(given)]).score for name, metric in measured.items()}
    return {"exact": exact / len(given)} | scores
