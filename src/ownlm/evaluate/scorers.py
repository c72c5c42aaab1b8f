"""Scorers: small models trained with ownlm that say how toxic, or how positive, a text is.

A scorer is a model's folder with a ``scorer.json`` in it, which says what it measures and how far it can be trusted: held-out
figures with intervals, HateCheck's functions, known errors. Its numbers are never shown without that. They stand in
``$OWNLM_HOME/scorers`` under their names, made by ``ownlm scorers train``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ..config import Config, validate
from ..errors import ModelError, UserError, nearest
from ..files import home, read_json
from ..model.checkpoint import load_model_folder
from ..model.transformer import Transformer
from ..prediction.classes import classify
from ..prediction.heads import check_head
from ..prediction.texts import Text
from ..tokens.tokenizer import Tokenizer, load_tokenizer

FILE = "scorer.json"
# Texts that a scorer reads at once.
BATCH = 512


class MissingScorer(UserError):
    """A task needs a scorer that is not there."""

    type = "missing-scorer"

    def __init__(self, name: str, where: str) -> None:
        super().__init__(
            f"there is no scorer '{name}', which tells what texts are like",
            where=where,
            hint=f"make one with: ownlm scorers train {name} --data DIR",
        )


class Figure(Config):
    """One number of a report, with its 95% interval."""

    name: str
    """What it is: a metric, or a functionality of HateCheck."""
    value: float
    low: float
    high: float
    n: int
    """Of how many texts."""
    label: str = ""
    """Of a functionality: the class that all its texts have."""


class Source(Config):
    """Data that a scorer was trained or measured with."""

    file: str
    """The file's name."""
    licence: str
    """Of the data."""
    sha256: str = ""
    """Of the file."""
    about: str = ""
    """Where it is from, and what was made of its labels."""


class ScorerReport(Config):
    """What ``scorer.json`` holds."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """The scorer's name."""
    measures: str
    """What a high score means, in a sentence."""
    positive: str
    """The class whose probability is the score."""
    empty: float = Field(0.0, ge=0, le=1)
    """The score of a text without any word, of which a model can say nothing."""
    base: str = ""
    """The model that it was trained from."""
    data: tuple[Source, ...] = ()
    """What it was trained and measured with."""
    held_out: tuple[Figure, ...] = ()
    """Figures of texts that it was not trained on."""
    hatecheck: tuple[Figure, ...] = ()
    """The accuracy on each functionality of HateCheck (Röttger et al. 2021), "overall" first."""
    hatecheck_groups: tuple[Figure, ...] = ()
    """The accuracy on HateCheck's texts about each group of people."""
    groups: tuple[Figure, ...] = ()
    """The mean score of harmless texts that name a group of people; "seen" if texts added to its training named it, or "unseen"."""
    groups_auc: tuple[Figure, ...] = ()
    """How well it tells harmless texts about a group from insults of it (Borkan et al. 2019: subgroup AUC)."""
    groups_bpsn: tuple[Figure, ...] = ()
    """How well it tells harmless texts about a group from toxic ones of the held-out data (Borkan et al. 2019: BPSN AUC)."""
    errors: tuple[str, ...] = ()
    """What it is known to get wrong, a sentence each."""

    def figure(self, name: str) -> Figure | None:
        """A held-out figure by name."""
        return next((one for one in self.held_out if one.name == name), None)


@dataclass(eq=False)
class Scorer:
    """A scorer, whose weights are read when it first scores.

    Attributes:
        name: what it is used as: "toxicity", "sentiment" or a name of the user's own.
        folder: its model's.
        report: how far it can be trusted.
        cut: texts so far that were longer than it reads, of which it read the beginning.
    """

    name: str
    folder: Path
    report: ScorerReport
    cut: int = 0
    _loaded: tuple[Transformer, Tokenizer] | None = field(default=None, repr=False)
    _known: dict[str, float] = field(default_factory=dict, repr=False)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The probability that each text is of the positive class: [texts]; a text that was asked before is not read again.

        Raises:
            ModelError: the folder holds no such model.
        """
        new = [text for text in dict.fromkeys(texts) if text.strip() and text not in self._known]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            self._known.update(zip(part, self._read(part), strict=True))
        empty = self.report.empty
        return np.array([self._known[text] if text.strip() else empty for text in texts], np.float64)

    @property
    def used(self) -> bool:
        """Whether it has scored anything."""
        return bool(self._known)

    @property
    def notes(self) -> list[str]:
        """How far its scores can be trusted, in a sentence without a full stop, to stand beside them; and what was cut."""
        report = self.report
        shown = [f"{one.name.replace('_', ' ')} {_between(one)}" for one in report.held_out]
        said = f"the scorer '{self.name}' is a model and errs as well; its score is {report.measures}"
        if shown:
            said += f"; on {report.held_out[0].n:,} held-out texts it has {', '.join(shown)}"
        if report.hatecheck:
            overall = report.hatecheck[0]
            said += f"; of HateCheck's {overall.n:,} cases it has right {_between(overall)}"
        if report.errors:
            said += f"; known errors that are listed with it: {len(report.errors)}"
        cut = [f"the scorer '{self.name}' read only the beginning of {self.cut:,} long texts"] if self.cut else []
        return [said, *cut]

    def _read(self, texts: Sequence[Text]) -> list[float]:
        if self._loaded is None:
            # In float32 on a CPU, a text's score is the same to the last bit whatever else is asked.
            model = load_model_folder(self.folder, dtype=torch.float32, device=torch.device("cpu"))
            model.compute_dtype = torch.float32
            model.source = self.folder
            check_head(model, "classify")
            if self.report.positive not in model.config.labels:
                raise ModelError(
                    f"the positive class '{self.report.positive}' is none of the model's: {', '.join(model.config.labels)}",
                    where=str(self.folder / FILE),
                )
            self._loaded = model, load_tokenizer(self.folder)
        model, tokenizer = self._loaded
        # What stands around a text's tokens is a few at most.
        room = model.config.max_positions - 4
        self.cut += sum(len(ids) > room for ids in tokenizer.encode_many([str(text) for text in texts]))
        return [one.scores[self.report.positive] for one in classify(model, tokenizer, texts, cut=True)]


def spread(report: ScorerReport) -> list[str]:
    """What it makes of groups' names, a line for the groups of its training and one for the others.

    Args:
        report: with figures by group, or without: then there is no line.
    """
    lines = []
    for label, whose in (("seen", "in its added texts"), ("unseen", "in none of them")):
        figures = [one for one in report.groups if one.label == label]
        if figures:
            low, high = (pick(figures, key=lambda one: one.value) for pick in (min, max))
            worst = min(
                (one for one in report.groups_bpsn if one.label == label), key=lambda one: one.value, default=None
            )
            lines.append(
                f"{len(figures)} groups {whose}: mean score {np.mean([one.value for one in figures]):.3f}, from {low.value:.3f} "
                f"({low.name}) to {high.value:.3f} ({high.name})"
                + (f"; BPSN AUC from {worst.value:.3f} ({worst.name})" if worst else "")
            )
    return lines


def scorers_folder() -> Path:
    """Where scorers are installed."""
    return home() / "scorers"


def installed_scorers() -> dict[str, Scorer]:
    """Those in ``$OWNLM_HOME/scorers`` by name.

    Raises:
        DataError, ConfigError: a ``scorer.json`` is broken.
    """
    folder = scorers_folder()
    found = sorted(folder.glob(f"*/{FILE}")) if folder.is_dir() else []
    return {path.parent.name: _scorer(path.parent.name, path.parent) for path in found if path.parent.name[0] != "."}


def load_scorer(name_or_folder: str | Path, name: str | None = None) -> Scorer:
    """An installed scorer by name, or one in a folder.

    Args:
        name_or_folder: which.
        name: what it is used as; None is its own name.

    Raises:
        UserError: there is none.
        DataError, ConfigError: its ``scorer.json`` is broken.
    """
    for folder in (Path(name_or_folder), scorers_folder() / str(name_or_folder)):
        if (folder / FILE).is_file():
            return _scorer(name, folder)
    if Path(name_or_folder).is_dir():
        raise UserError(
            f"this folder is no scorer: it has no {FILE}",
            where=str(name_or_folder),
            hint="make one with: ownlm scorers train toxicity --data DIR --out DIR",
        )
    known = list(installed_scorers())
    made = "make one with: ownlm scorers train toxicity --data DIR"
    raise UserError(
        f"there is no scorer '{name_or_folder}'",
        where="scorer",
        hint=nearest(str(name_or_folder), known) if known else made,
    )


def choose_scorers(named: Iterable[str]) -> dict[str, Scorer]:
    """The installed scorers, and in their places those that the user names: ``toxicity=DIR``, or a folder alone.

    Raises:
        UserError: one is not there.
    """
    found = installed_scorers()
    for text in named:
        name, equals, place = text.partition("=")
        scorer = load_scorer(place, name) if equals else load_scorer(text)
        found[scorer.name] = scorer
    return found


def _scorer(name: str | None, folder: Path) -> Scorer:
    report = validate(ScorerReport, read_json(folder / FILE), source=str(folder / FILE))
    return Scorer(name or report.name, folder, report)


def _between(one: Figure) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
