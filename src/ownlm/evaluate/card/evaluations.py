"""Evaluations of a model: told to be of these very weights by their hash, never by a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError, UserError
from ...files import read_json
from ..bias.task import BiasTask
from ..kinds import KINDS
from ..suites import suite_names, task_names, tasks_of

SCORES = "scores.json"
# Folders that 'ownlm eval' and 'ownlm bias' write, as they call them.
USUAL = ("evaluation-*", "bias-*")


def named_evaluations(folders: Sequence[Path], weights: str) -> list[dict[str, Any]]:
    """The evaluations that were named.

    Args:
        folders: what ``ownlm eval`` or ``ownlm bias`` wrote.
        weights: the model's ``weights_hash``.

    Raises:
        DataError: a folder holds no evaluation.
        UserError: its scores are of other weights, or do not say of which.
    """
    found = []
    for folder in folders:
        evaluation = read_evaluation(folder)
        hint = "evaluate this model, or leave them out"
        if "weights" not in evaluation:
            raise UserError("these scores do not say which weights they are of", where=str(folder / SCORES), hint=hint)
        if evaluation["weights"] != weights:
            other = evaluation["model"]
            raise UserError(f"these scores are of other weights ({other})", where=str(folder / SCORES), hint=hint)
        found.append(evaluation)
    return found


def nearby_evaluations(places: Iterable[Path], weights: str) -> list[dict[str, Any]]:
    """The evaluations of a model in some folders that bear the usual names; those of other weights are passed over."""
    found: dict[Path, dict[str, Any]] = {}
    for place in places:
        for folder in sorted(path for pattern in USUAL for path in place.glob(pattern) if (path / SCORES).is_file()):
            try:
                evaluation = read_evaluation(folder)
            except DataError:
                continue
            if evaluation.get("weights") == weights:
                found.setdefault(folder.resolve(), evaluation)
    return list(found.values())


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What an evaluation's folder says: ``scores.json`` with the folder's name.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / SCORES
    if not path.is_file():
        hint = "name a folder that 'ownlm eval' or 'ownlm bias' wrote"
        raise DataError("there is no evaluation here", where=str(folder), hint=hint)
    value = read_json(path)
    sound = isinstance(value, dict) and isinstance(value.get("scores"), list) and "model" in value
    if not sound or not all(isinstance(one, dict) and _is_score(one) for one in value["scores"]):
        raise DataError("this is no evaluation's scores", where=str(path), hint="measure the model again")
    return {**value, "folder": str(folder)}


def _is_score(value: Mapping[str, Any]) -> bool:
    return {"task", "metric", "value", "low", "high", "n", "shots"} <= value.keys()


def is_about_bias(task: Mapping[str, Any]) -> bool:
    """Whether a task of an evaluation looks for bias."""
    kind = KINDS.get(str(task.get("kind")))
    return task["task"] in tasks_of([], ["bias"]) or (kind is not None and issubclass(kind, BiasTask))


def not_measured(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tasks that come with ownlm and that no evaluation holds, in the suites' order, then by name."""
    done = {str(score["task"]).split("/")[0] for one in evaluations for score in one["scores"]}
    known = [*tasks_of([], suite_names()), *task_names()]
    return [name for name in dict.fromkeys(known) if name not in done]
