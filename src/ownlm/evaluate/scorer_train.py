"""Trains a scorer by its recipe, measures it on texts that it never saw, and installs it with its report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import progress
from ..config import merge, read_yaml
from ..errors import UserError, nearest
from ..files import CHECKSUMS, home, new_folder, write_json, write_text
from ..train.config import read_train_config
from ..train.run import run_training
from .classes import MetricName, class_measurements
from .hatecheck import cases, check, known_errors
from .scorer_data import READERS, Example, Parts, read_parts
from .scorer_groups import added, group_errors, group_figures
from .scorers import FILE, Figure, Scorer, ScorerReport, Source, scorers_folder
from .statistics import interval
from .task import Item

RECIPES = Path(__file__).parent / "scorer_recipes"
MEASURES: tuple[MetricName, ...] = ("accuracy", "macro_f1", "auroc", "calibration_error")
ABOUT: dict[str, dict[str, Any]] = {
    "toxicity": {
        "measures": "the probability that most annotators would find a text hateful or offensive",
        "positive": "toxic",
        "empty": 0.0,
    },
    "sentiment": {
        "measures": "the probability that a text says something good, rather than something bad, of what it is about",
        "positive": "positive",
        "empty": 0.5,
    },
}
# What is known of the data, whatever the model makes of it.
OF_DATA: dict[str, tuple[str, ...]] = {
    "toxicity": (
        "It calls offensive language toxic as well, such as swearwords among friends, and so is no detector of hate alone.",
        "The labels of its tweets follow dialect: annotators called harmless tweets in African American English offensive far "
        "more often than others (Sap et al. 2019), and a model that learns from them does so too.",
        "Its tweets were found by a list of slurs, so hate without such words is rare among them.",
        "That groups' names are evidence of nothing it learned from short sentences made by templates; in other texts a name may "
        "still count.",
    ),
    "sentiment": (
        "It learned from film reviews: what is good or bad elsewhere, such as a long wait, it may not know.",
        "It knows no neutral texts: of one that judges nothing the score means little.",
    ),
}


def train_scorer(
    name: str,
    data: Path,
    *,
    base: str | None = None,
    out: Path | None = None,
    limit: int | None = None,
    changes: dict[str, Any] | None = None,
    hatecheck: Sequence[Item] | None = None,
    say: Callable[[str], None] = progress.say,
) -> Scorer:
    """Trains, measures and installs a scorer; stopped halfway, the same call goes on.

    Args:
        name: toxicity or sentiment.
        data: the folder of its data (scorer_data.py).
        base: the model to begin with; None is the recipe's.
        out: where it goes; None is ``$OWNLM_HOME/scorers``, under its name.
        limit: the most texts to learn from.
        changes: of the recipe, by dotted keys.
        hatecheck: cases to check it with; None are those that come with ownlm. Only toxicity is checked.
        say: told what is done.

    Raises:
        UserError: there is no such scorer; something else stands at ``out``.
        DataError: the data is not there, or wrong.
    """
    if name not in READERS:
        raise UserError(f"there is no recipe for a scorer '{name}'", where="scorer", hint=nearest(name, list(READERS)))
    out = out or scorers_folder() / name
    if out.exists() and not (out / FILE).is_file():
        raise UserError("something else stands here already", where=str(out), hint="give another --out")
    parts = read_parts(name, data, limit)
    if name == "toxicity":
        parts = with_groups(parts)
    work = home() / "cache" / "scorers" / name
    changes = merge(changes or {}, {} if base is None else {"base": base})
    config = merge(read_yaml(RECIPES / f"{name}.yaml"), changes)
    config = merge(config, {"out": str(work / "run"), **_files(parts, work)})
    settings = json.dumps(config, sort_keys=True, default=str) + "".join(one.key for one in parts.train)
    if (work / "settings.json").is_file() and (work / "settings.json").read_text(encoding="utf-8") != settings:
        # What was begun with other data or settings is of no use.
        shutil.rmtree(work / "run", ignore_errors=True)
    write_text(work / "settings.json", settings)
    say(f"Training '{name}' on {len(parts.train):,} texts; {len(parts.test):,} are held out")
    run = run_training(read_train_config(config), say)
    about = ABOUT[name]
    blank = ScorerReport(name=name, base=str(config["base"]), data=parts.sources, **about)
    scorer = Scorer(name, run.model, blank)
    say("Measuring it on the texts held out")
    items = (cases() if hatecheck is None else hatecheck) if name == "toxicity" else []
    report = report_of(scorer, parts.test, items, OF_DATA[name])
    with new_folder(out) as folder:
        for path in run.model.iterdir():
            if path.is_file() and path.name != CHECKSUMS:
                shutil.copy2(path, folder / path.name)
        write_json(folder / FILE, report.model_dump(mode="json"))
    shutil.rmtree(work)
    return Scorer(name, out, report)


def with_groups(parts: Parts) -> Parts:
    """The parts with texts that name groups of people to learn from besides (scorer_groups.py); few texts are left as they are."""
    new = added(parts.train, (*parts.validation, *parts.test))
    if not new:
        return parts
    about = f"{len(new):,} texts that name groups of people: copies of the others with other groups, and ownlm's own"
    source = Source(file="scorer_groups.py", licence="Apache-2.0", about=about)
    return replace(parts, train=[*parts.train, *new], sources=(*parts.sources, source))


def report_of(
    scorer: Scorer, held_out: Sequence[Example], hatecheck: Sequence[Item], errors: Sequence[str]
) -> ScorerReport:
    """A scorer's report, filled with what was measured.

    Args:
        scorer: with the report to fill.
        held_out: texts that it did not learn from.
        hatecheck: cases, or none.
        errors: what is known of its data.
    """
    scores = scorer.scores([one.text for one in held_out])
    right = np.array([one.label == scorer.report.positive for one in held_out], np.int64)
    keys = [one.key for one in held_out]
    figures = []
    for one in class_measurements("held_out", np.stack((1 - scores, scores), 1), right, MEASURES, keys):
        low, high = interval(one)
        figures.append(Figure(name=one.metric.name, value=one.value, low=low, high=high, n=len(one)))
    positive = scorer.report.positive
    found = check(scorer, hatecheck) if hatecheck else None
    groups = group_figures(scorer, [one.text for one in held_out if one.label == positive]) if hatecheck else None
    filled = {
        "held_out": tuple(figures),
        "hatecheck": found.by_function if found else (),
        "hatecheck_groups": found.by_group if found else (),
        "groups": groups.scores if groups else (),
        "groups_auc": groups.auc if groups else (),
        "groups_bpsn": groups.bpsn if groups else (),
        "errors": (
            *(group_errors(groups, positive) if groups else ()),
            *(known_errors(found, positive) if found else ()),
            *errors,
        ),
    }
    return scorer.report.model_copy(update=filled)


def _files(parts: Parts, work: Path) -> dict[str, Any]:
    """The examples as files, and where they are, as a config has it."""
    names: dict[str, Any] = {}
    for key, examples in (("train", parts.train), ("validation", parts.validation)):
        path = work / f"{key}.jsonl"
        lines = (json.dumps({"text": one.text, "label": one.label}, ensure_ascii=False) + "\n" for one in examples)
        write_text(path, "".join(lines))
        names[f"data.{key}"] = str(path)
    return names
