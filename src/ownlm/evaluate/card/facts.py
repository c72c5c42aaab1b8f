"""The facts of a model's card: counted, or read from what was written when the model was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import DataError, ModelError
from ...files import read_json
from ...model.checkpoint import read_config
from ...model.identity import weights_hash
from ...model.registry import known_models
from ...tokens.dataset import MANIFEST
from ...tokens.tokenizer import load_tokenizer
from ..facts import USES, architecture, limitations_of
from ..seen.lineage import TrainedOn, origins_of, read_lineage

RUN, METRICS = "run.json", "metrics.jsonl"
# Points of a run's curve that the card shows.
POINTS = 8


def card_facts(folder: Path, name: str) -> dict[str, Any]:
    """What is known of a model without loading it.

    Args:
        folder: the model's.
        name: as it is called.

    Raises:
        ModelError: this is no model's folder.
        DamagedError: its lineage is damaged.
    """
    if not folder.is_dir():
        raise ModelError("this is no model's folder", where=str(folder))
    config, lineage, tokenizer = read_config(folder), read_lineage(folder), load_tokenizer(folder)
    chats = tokenizer.chat_template is not None
    origins, run = origins_of(folder, name), _run(folder, lineage)
    return {
        "name": name,
        "ownlm": __version__,
        "weights": weights_hash(folder),
        "weight_bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        "architecture": architecture(config),
        "family": config.family,
        "head": config.head,
        "model_type": _hf(folder).get("model_type"),
        "dtype": _hf(folder).get("dtype") or _hf(folder).get("torch_dtype"),
        "use": USES[config.head],
        "chats": chats,
        "parameters": config.parameters(),
        "context": config.max_positions,
        "limitations": limitations_of(config, chats=chats),
        "labels": list(config.labels),
        "parents": [_parent(str(parent)) for parent in lineage.get("parents") or ()],
        "self": _known(name),
        "lineage": {key: value for key, value in lineage.items() if key not in ("config", "metrics", "held_out")},
        "config": lineage.get("config") if isinstance(lineage.get("config"), dict) else None,
        "metrics": lineage.get("metrics") if isinstance(lineage.get("metrics"), dict) else {},
        "seconds": run.get("seconds"),
        "curve": _curve(folder.resolve().parent) if run else [],
        "datasets": [_dataset(one) for one in origins.datasets],
        "silent": origins.silent,
    }


def _hf(folder: Path) -> dict[str, Any]:
    value = read_json(folder / "config.json")
    return value if isinstance(value, dict) else {}


def _parent(name: str) -> dict[str, Any]:
    """A base with its repository on the hub and its licence, as far as they are known."""
    if found := _known(name):
        return found
    hub = name.removeprefix("hf:").split("@")[0] if name.startswith("hf:") else None
    return {"name": name, "hub": hub, "licence": None}


def _known(name: str) -> dict[str, Any] | None:
    found = next((one for one in known_models() if one.name == name.lower()), None)
    return None if found is None else {"name": name, "hub": found.hub, "licence": found.licence}


def _dataset(one: TrainedOn) -> dict[str, Any]:
    """A data set with its build's manifest, where it is here and is what the model was trained on."""
    manifest: Any = None
    if one.path is not None and one.state in ("same", "unknown") and (one.path / MANIFEST).is_file():
        try:
            manifest = read_json(one.path / MANIFEST)
        except DataError:
            manifest = None
    whole = (
        isinstance(manifest, dict) and {"documents", "splits", "recipe", "sources", "contamination"} <= manifest.keys()
    )
    return {
        "name": one.name,
        "model": one.model,
        "sha256": one.sha256,
        "state": one.state,
        "manifest": manifest if whole else None,
    }


def _run(folder: Path, lineage: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of the run whose folder the model stands in; empty where the folder holds another run's result by now."""
    metrics = lineage.get("metrics")
    try:
        summary = read_json(folder.resolve().parent / RUN)
    except DataError:
        return {}
    if not isinstance(summary, dict) or not isinstance(metrics, dict):
        return {}
    return summary if all(summary.get(key) == metrics.get(key) for key in ("steps", "loss")) else {}


def _curve(run: Path) -> list[tuple[int, float | None, float | None]]:
    """(step, training loss, held-out loss) of a run, thinned."""
    by_step: dict[int, dict[str, float]] = {}
    try:
        for line in (run / METRICS).read_text().splitlines():
            values = json.loads(line)
            by_step.setdefault(int(values["step"]), {}).update(values)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    held = [step for step, line in by_step.items() if "val_loss" in line]
    steps = held if len(held) > 1 else list(by_step)
    chosen = {steps[round(place * (len(steps) - 1) / (POINTS - 1))] for place in range(POINTS)} if steps else set()
    return [(step, by_step[step].get("loss"), by_step[step].get("val_loss")) for step in sorted(chosen)]
