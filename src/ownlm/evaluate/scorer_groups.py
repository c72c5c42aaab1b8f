"""Texts that name groups of people, by which a toxicity scorer learns that a name is evidence of nothing, and is measured on it.

In public data a group's name stands in insults more often than elsewhere, so a scorer takes the name for toxic. The cure is to
add harmless texts that name groups (Dixon et al. 2018), and copies of texts of both classes with other groups in them (Garg et
al. 2019); insults of ours keep a name from becoming a sign of harmlessness. Each group gets as many of each as every other.

Some groups, and the frames that the report is made with, are in none of the texts that are added. No frame shares its words with HateCheck's or
with the beginnings of the task ``continuations``, so that both stay tests.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .classes import class_measurements
from .group_frames import HARMLESS, INSULTS, NAMED, TESTED_HARMLESS, TESTED_INSULTS, UNSEEN
from .measurement import Measurement, mean, of_values
from .scorer_data import Example
from .scorers import Figure, Scorer
from .statistics import interval

# Of the texts to learn from, so many are added at most; of these the first part are copies with other groups.
SHARE, COPIED = 0.3, 0.25
# Texts of a group in each round, harmless ones and insults: more harmless ones, since the public data has more of the others.
ROUND = (3, 2)
# A group whose harmless texts score more than this on average, or groups that are this far apart, are a known error.
HIGH, APART = 0.3, 0.15
# Who a group that is named by an adjective is spoken of as.
NOUNS = (("person", "people"), ("person", "people"), ("woman", "women"), ("man", "men"), ("student", "students"))


@dataclass(frozen=True)
class GroupFigures:
    """How a scorer takes the names of groups, a figure for each, with "seen" or "unseen" as its label.

    Attributes:
        scores: the mean score of harmless texts that name the group.
        auc: how well it tells harmless texts about the group from insults of it (Borkan et al. 2019: subgroup AUC).
        bpsn: how well it tells harmless texts about the group from toxic ones of the held-out data (Borkan et al. 2019: BPSN
            AUC); low where a name makes a harmless text look toxic.
    """

    scores: tuple[Figure, ...]
    auc: tuple[Figure, ...]
    bpsn: tuple[Figure, ...]


def added(train: Sequence[Example], held_out: Sequence[Example]) -> list[Example]:
    """What is learned from besides public texts: copies of these with other groups, and texts of ours; always the same.

    Args:
        train: the public texts that are learned from.
        held_out: texts that must not be among them.
    """
    most = int(len(train) * SHARE)
    known = {one.key for one in (*train, *held_out)}
    new: dict[str, Example] = {}
    for one in _copies(train):
        if len(new) < most * COPIED and one.key not in known:
            new.setdefault(one.key, one)
    for texts in _rounds():
        if len(new) + len(texts) > most:
            # Whole rounds alone have as many texts of each group.
            break
        new.update((one.key, one) for one in texts if one.key not in known)
    return list(new.values())


def group_figures(scorer: Scorer, toxic: Sequence[str]) -> GroupFigures:
    """What a scorer makes of texts that it never saw about groups, of which it knows some from training.

    Args:
        scorer: whose score is high for toxic texts.
        toxic: texts of the held-out data.
    """
    of_toxic = scorer.scores(toxic)
    scores: list[Figure] = []
    auc: list[Figure] = []
    bpsn: list[Figure] = []
    for name in (*NAMED, *UNSEEN):
        harmless = [filled(frame, name) for frame in TESTED_HARMLESS]
        found, insults = scorer.scores(harmless), scorer.scores([filled(frame, name) for frame in TESTED_INSULTS])
        keys = [Example(text, "").key for text in harmless]
        label = "unseen" if name in UNSEEN else "seen"
        own = Measurement("groups", mean("score", higher_is_better=False, best=0.0), of_values(found), keys)
        scores.append(_figure(own, name, label))
        for figures, others in ((auc, insults), (bpsn, of_toxic)):
            both = np.concatenate((found, others))
            right = np.repeat((0, 1), (len(found), len(others))).astype(np.int64)
            parts = [str(place) for place in range(len(both))]
            (one,) = class_measurements("groups", np.stack((1 - both, both), 1), right, ("auroc",), parts)
            figures.append(_figure(one, name, label))
    return GroupFigures(tuple(scores), tuple(auc), tuple(bpsn))


def group_errors(found: GroupFigures, positive: str) -> tuple[str, ...]:
    """Where a group's name is taken for evidence, in words.

    Args:
        found: as ``group_figures`` gives it.
        positive: the scorer's positive class, such as "toxic".
    """
    low, high = (pick(found.scores, key=lambda one: one.value) for pick in (min, max))
    sentences = []
    if high.value > HIGH:
        names = [one.name for one in sorted(found.scores, key=lambda one: -one.value) if one.value > HIGH]
        told = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        sentences.append(
            f"It gives harmless texts more than {HIGH} on average for {positive} where they name one of {len(names)} of "
            f"{len(found.scores)} groups: {told}."
        )
    if high.value - low.value > APART:
        sentences.append(
            f"Its mean score of the same harmless texts is {low.value:.2f} about one group ({low.name}) and {high.value:.2f} about "
            f"another ({high.name})."
        )
    return tuple(sentences)


def filled(frame: str, name: str, noun: tuple[str, str] = NOUNS[0]) -> str:
    """A frame with a group in it.

    Args:
        frame: with ``{one}``, ``{a_one}`` or ``{many}``.
        name: of the group: an adjective with a dash, such as "gay -", or its singular and plural, such as "Sikh/Sikhs".
        noun: who an adjective is said of, in the singular and the plural.
    """
    one, many = forms(name, noun)
    text = frame.format(one=one, a_one=f"{'an' if one[0].lower() in 'aeio' else 'a'} {one}", many=many)
    return text[0].upper() + text[1:]


def forms(name: str, noun: tuple[str, str] = NOUNS[0]) -> tuple[str, str]:
    """A group's singular and plural; see ``filled``."""
    one, _, many = name.partition("/")
    if many:
        return one, many
    adjective = one.removesuffix("-")
    return adjective + noun[0], adjective + noun[1]


def _rounds() -> Iterator[list[Example]]:
    """Round after round with as many texts of each group, of its own draw of frames without one twice."""
    draws = {name: random.Random(f"groups {name}") for name in NAMED}
    frames = {
        name: (draw.sample(HARMLESS, len(HARMLESS)), draw.sample(INSULTS, len(INSULTS))) for name, draw in draws.items()
    }
    for turn in range(min(len(HARMLESS) // ROUND[0], len(INSULTS) // ROUND[1])):
        yield [
            Example(filled(frame, name, draws[name].choice(NOUNS)), label)
            for name in NAMED
            for chosen, count, label in zip(frames[name], ROUND, ("harmless", "toxic"), strict=True)
            for frame in chosen[turn * count : (turn + 1) * count]
        ]


def _copies(train: Sequence[Example]) -> Iterator[Example]:
    """Texts with each group in them exchanged for another; of both classes alike, as they come."""
    plural = {many.casefold() for one, many in map(forms, NAMED) if one != many}
    singular = {one.casefold() for one, many in map(forms, NAMED)}
    known = "|".join(re.escape(form) for form in sorted(plural | singular, key=len, reverse=True))
    pattern = re.compile(rf"\b({known})\b", re.IGNORECASE)
    names = list(NAMED)
    for example in train:
        if not pattern.search(example.text):
            continue
        for copy in range(2):
            draw = int(hashlib.sha256(f"{copy} {example.key}".encode()).hexdigest()[:8], 16)
            one, many = forms(names[draw % len(names)])
            text = pattern.sub(lambda found: many if found[0].casefold() in plural else one, example.text)  # noqa: B023
            yield Example(text, example.label)


def _figure(measured: Measurement, name: str, label: str) -> Figure:
    low, high = interval(measured)
    return Figure(name=forms(name)[1], value=measured.value, low=low, high=high, n=len(measured), label=label)
