"""Heads in a checkpoint: which one its config names, and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig

PROBLEMS = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}


def head_from_hf(hf: Mapping[str, Any], architectures: Mapping[str, str]) -> dict[str, Any]:
    """ModelConfig's head, labels and problem from ``config.json``.

    Args:
        hf: the file's content.
        architectures: the family's class for each head; the first is what a folder without a class has.
    """
    named = (hf.get("architectures") or [next(iter(architectures.values()))])[0]
    heads = {name: head for head, name in architectures.items()}
    pretraining = named.endswith("ForPreTraining")
    head = "masked" if pretraining and "masked" in architectures else heads.get(named, next(iter(architectures)))
    values: dict[str, Any] = {"head": head}
    if pretraining and head == "masked":
        values["next_sentence"] = True
    if head == "classify":
        names = {int(number): str(name) for number, name in (hf.get("id2label") or {}).items()}
        count = len(names) or hf.get("num_labels") or 2
        values["labels"] = tuple(names.get(number, f"LABEL_{number}") for number in range(count))
        problem = hf.get("problem_type") or ("regression" if count == 1 else "single_label_classification")
        values["problem"] = {theirs: ours for ours, theirs in PROBLEMS.items()}.get(problem, problem)
    return values


def head_to_hf(config: ModelConfig) -> dict[str, Any]:
    """What ``config.json`` says of the head besides its class."""
    if config.head != "classify":
        return {}
    return {
        "id2label": {str(number): name for number, name in enumerate(config.labels)},
        "label2id": {name: number for number, name in enumerate(config.labels)},
        "num_labels": len(config.labels),
        "problem_type": PROBLEMS[config.problem],
    }
