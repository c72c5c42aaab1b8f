"""From how well an answer begins and ends at each token to the answers themselves (Devlin et al. 2018, section 4.3).

The score of a span is the sum of its two logits; that no span answers, the sum of the [CLS] token's two, in the window
where it is lowest. A span's probability is its share among all spans of all windows, and no answer where there may be
none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..tokens.windows import EncodedText

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReadWindow:
    """What the model says of one window of a context.

    Attributes:
        first: which of the context's tokens the window begins with.
        begins, ends: logits of its tokens: [tokens of the context in it].
        none: the score of no answer in it.
    """

    first: int
    begins: Floats
    ends: Floats
    none: float


@dataclass(frozen=True)
class Span:
    """A possible answer.

    Attributes:
        start, end: its first character in the context and the one after its last.
        score: the sum of its logits.
        probability: its share among all spans, and no answer where there may be none.
    """

    start: int
    end: int
    score: float
    probability: float


@dataclass(frozen=True)
class Decoded:
    """What a question's windows say.

    Attributes:
        spans: the best answers, best first, each once.
        doubt: how much likelier no answer is than the best one, as a difference of scores.
        none: the probability of no answer.
    """

    spans: list[Span]
    doubt: float
    none: float


def window_logits(logits: Floats, first: int, count: int, place: int) -> ReadWindow:
    """A window's share of the context.

    Args:
        logits: of its whole document, from the [CLS] on: [tokens, 2].
        first, count, place: as in ``tokens.windows.Window``.
    """
    inside = logits[place : place + count].astype(np.float64)
    return ReadWindow(first, inside[:, 0], inside[:, 1], float(logits[0].astype(np.float64).sum()))


def decode(
    windows: Sequence[ReadWindow], context: EncodedText, *, max_answer: int, count: int = 1, may_be_none: bool = True
) -> Decoded:
    """The best answers to a question.

    Args:
        windows: of its context.
        context: the context's tokens and their places.
        max_answer: the most tokens of an answer.
        count: how many answers are wanted.
        may_be_none: whether no answer is a possible one, which takes its share of the probability.
    """
    none = min(window.none for window in windows)
    best: dict[tuple[int, int], float] = {}
    totals = [none] if may_be_none else []
    for window in windows:
        places = context.places[window.first : window.first + len(window.begins)]
        scores = _scores(window, places[:, 0] < places[:, 1], max_answer)
        if (highest := scores.max(initial=-np.inf)) == -np.inf:
            continue
        totals.append(float(highest + np.log(np.exp(scores - highest).sum())))
        flat = scores.ravel()
        # Some more than are wanted, since several spans of tokens may be one of characters.
        for cell in _highest(flat, 4 * count).tolist():
            begin, length = divmod(cell, scores.shape[1])
            if flat[cell] == -np.inf:
                break
            span = int(places[begin, 0]), int(places[begin + length, 1])
            best[span] = max(best.get(span, -math.inf), float(flat[cell]))
    total = float(np.logaddexp.reduce(totals)) if totals else 0.0
    order = sorted(best, key=lambda span: (-best[span], span))[:count]
    spans = [Span(*span, best[span], math.exp(best[span] - total)) for span in order]
    doubt = none - spans[0].score if spans else math.inf
    return Decoded(spans, doubt, math.exp(none - total) if may_be_none else 0.0)


def _highest(values: Floats, count: int) -> NDArray[np.int64]:
    """Where the highest values are, highest first and of equal ones the first; at least ``count`` if there are."""
    if count < len(values):
        places = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")]


def _scores(window: ReadWindow, seen: NDArray[np.bool_], max_answer: int) -> Floats:
    """The score of every span by its first token and how many follow it: [tokens, at most max_answer].

    A token that is not ``seen`` has no character of its own in the text; it begins and ends nothing.
    """
    tokens = len(seen)
    begins, ends = (np.where(seen, logits, -np.inf) for logits in (window.begins, window.ends))
    last = np.arange(tokens)[:, None] + np.arange(min(max_answer, tokens))
    return np.where(last < tokens, begins[:, None] + ends[np.minimum(last, tokens - 1)], -np.inf)
