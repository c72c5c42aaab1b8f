"""What is measured of a text as a model reads it (evaluate/explain.py), and shown on its page (explanation.py)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidate:
    """A token that the model might say: what it adds to a text, its id, its probability."""

    text: str
    id: int
    probability: float


@dataclass(frozen=True)
class Place:
    """A place of the text, and what the model would say there.

    Attributes:
        position: from 0; the text's length is what comes next.
        surprisal: of the token that stands there, in bits; None where none does, as for what follows.
        rank: of that token among all, from 1.
        right: its probability.
        top: what the model would say, likeliest first.
    """

    position: int
    surprisal: float | None
    rank: int | None
    right: float | None
    top: Sequence[Candidate]


@dataclass(frozen=True)
class Guess:
    """What a layer would say at a place: its first choice; and the rank and probability of the token that stands there."""

    best: Candidate
    rank: int | None
    right: float | None


@dataclass(frozen=True)
class Pattern:
    """Something that a head may look at.

    Attributes:
        letter: a short sign.
        name: what it is called.
        meaning: which token that is.
        places: at how many places of the text it can be seen.
    """

    letter: str
    name: str
    meaning: str
    places: int


@dataclass(frozen=True, eq=False)
class Head:
    """Where an attention head looks.

    Attributes:
        layer, head: from 0.
        measures: its mean share of weight on each pattern; not a number where the text has no place to see it.
        names: the patterns that it is named after, the strongest first.
        weights: from each token (row) to each (column), as 255 x the square root: uint8[shown, shown].
    """

    layer: int
    head: int
    measures: tuple[float, ...]
    names: tuple[int, ...]
    weights: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Explanation:
    """How a model reads a text.

    Attributes:
        model: its name.
        config: of its shape: family, layers, heads, kv_heads, width.
        kind: what the model does.
        tokens: what each adds to the text.
        ids: of the tokens.
        places: where something is predicted, in order.
        layers: what is said at each of these places after the embedding and after each layer.
        patterns: what heads are measured by.
        heads: all, layer by layer.
        shown: of how many tokens, from the first, ``Head.weights`` are.
        classes: of a model of classes, likeliest first, with their probabilities, or the numbers of a regression.
        probabilities: whether the classes' values are probabilities.
    """

    model: str
    config: Mapping[str, Any]
    kind: Literal["causal", "masked", "classes"]
    tokens: Sequence[str]
    ids: Sequence[int]
    places: Sequence[Place]
    layers: Sequence[Sequence[Guess]]
    patterns: Sequence[Pattern]
    heads: Sequence[Head]
    shown: int
    classes: Mapping[str, float] = field(default_factory=dict)
    probabilities: bool = True

    @property
    def by_position(self) -> dict[int, Place]:
        """The places of tokens of the text."""
        return {place.position: place for place in self.places if place.position < len(self.ids)}

    @property
    def next(self) -> Sequence[Candidate]:
        """What the model would say after the text; nothing of one that says nothing."""
        last = self.places[-1] if self.places else None
        return last.top if last is not None and last.position == len(self.ids) else ()

    @property
    def surprisal(self) -> list[float | None]:
        """Of each token, in bits; None where nothing is predicted."""
        places = self.by_position
        return [places[i].surprisal if i in places else None for i in range(len(self.ids))]

    @property
    def bits(self) -> float | None:
        """Surprise of a token, the mean in bits."""
        found = [bits for bits in self.surprisal if bits is not None]
        return statistics.mean(found) if found else None

    def as_json(self) -> dict[str, Any]:
        """The explanation for scripts, without the maps."""
        places = self.by_position
        named = [[self.patterns[place].name for place in head.names] for head in self.heads]
        return {
            "kind": self.kind,
            "tokens": list(self.tokens),
            "ids": list(self.ids),
            "surprisal": self.surprisal,
            "top": [_candidates(places[i].top) if i in places else [] for i in range(len(self.ids))],
            "next": _candidates(self.next),
            "classes": dict(self.classes),
            "layers": [
                [
                    {
                        "position": place.position,
                        "best": vars(guess.best),
                        "rank": guess.rank,
                        "probability": guess.right,
                    }
                    for place, guess in zip(self.places, layer, strict=True)
                ]
                for layer in self.layers
            ],
            "patterns": [vars(pattern) for pattern in self.patterns],
            "heads": [
                {
                    "layer": head.layer,
                    "head": head.head,
                    "names": names,
                    "measures": {p.name: value for p, value in zip(self.patterns, head.measures, strict=True)},
                }
                for head, names in zip(self.heads, named, strict=True)
            ],
        }


def _candidates(top: Sequence[Candidate]) -> list[dict[str, Any]]:
    return [dict(vars(one)) for one in top]
