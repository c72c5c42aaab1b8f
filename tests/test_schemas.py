"""The JSON Schemas that editors use: what the README, the guide and the recipes show fits them, and mistakes do not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ownlm.config import editor_schema, validate
from ownlm.data.recipe import Recipe
from ownlm.evaluate.kinds import KINDS
from ownlm.evaluate.schemas import gates_schema, task_schema
from ownlm.train.config import training_schema

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {
    "train": training_schema(),
    "data": editor_schema(Recipe),
    "task": task_schema(),
    "gates": gates_schema(),
}
COMMANDS = {"train": "train", "data": "data build", "task": "eval", "gates": "gate"}


def written() -> list[tuple[str, Any]]:
    """Every config of the README, the guide and the recipes that stands for itself, and where it stands."""
    folders = ("recipes", "examples/four_boxes", "src/ownlm/evaluate/tasks")
    files = [path for folder in folders for path in (ROOT / folder).glob("*.yaml")]
    found = [(str(path), yaml.safe_load(path.read_text())) for path in sorted(files)]
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for text in re.findall(r"^```yaml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
            value = yaml.safe_load(text)
            if isinstance(value, dict):
                found.append((f"{path.name}: {text[:40]!r}", value))
    return found


def kind_of(values: dict[str, Any]) -> str | None:
    """What the values are a config of; None where they are of something else, such as a sweep."""
    if "sources" in values:
        return "data"
    if isinstance(values.get("kind"), str):
        return "task"
    if {"scores", "differences", "never_again"} & set(values):
        return "gates"
    return "train" if {"data", "objective", "base", "model"} & set(values) and "space" not in values else None


@pytest.mark.parametrize(("where", "values"), written())
def test_what_we_show_fits(where: str, values: dict[str, Any]) -> None:
    kind = kind_of(values)
    if kind == "task":
        validate(KINDS[values["kind"]], values)
    if kind is not None:
        jsonschema.validate(as_editors_read(values), SCHEMAS[kind])


def as_editors_read(value: Any) -> Any:
    """By YAML 1.2, where 3e-4 is a number; to the library, which reads YAML 1.1, it is a text."""
    if isinstance(value, dict):
        return {key: as_editors_read(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_editors_read(inner) for inner in value]
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+e[-+]?[0-9]+", value) else value


@pytest.mark.parametrize(
    "values",
    [
        {"otimizer": {}},
        {"optimizer": {"lr": "fast"}},
        {"objective": {"kind": "classify", "problem": "some"}},
        {"model": {"famly": "gpt2"}},
        {"model": {"layers": "many"}},
        {"steps": -1.5},
        {"track": ["tensorbord"]},
    ],
)
def test_mistakes_do_not(values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMAS["train"])


TASK = {"name": "a", "kind": "choice", "data": "a.jsonl", "prompt": "a", "choices": ["b", "c"], "answer": "b"}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("task", TASK | {"kind": "choise"}),
        ("task", TASK | {"promt": "a"}),
        ("task", TASK | {"shots": {"seeds": 1}}),
        ("task", TASK | {"metrics": ["acuracy"]}),
        ("task", {key: value for key, value in TASK.items() if key != "kind"}),
        ("gates", {"scores": [{"task": "boolq", "metric": "accuracy", "mni": 0.5}]}),
        ("gates", {"differences": [{"task": "boolq", "metric": "accuracy", "margin": "2 percent"}]}),
        ("gates", {"machine": [{"fact": "speed", "min": 1}]}),
        ("gates", {"never_again": [{"prompt": "a"}]}),
    ],
)
def test_mistakes_in_tasks_and_gates_do_not(kind: str, values: dict[str, Any]) -> None:
    jsonschema.validate(TASK, SCHEMAS["task"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMAS[kind])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_files_are_what_the_commands_print(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[kind])
    command = f"ownlm {COMMANDS[kind]}"
    path = ROOT / "schemas" / f"{kind}.schema.json"
    assert json.loads(path.read_text()) == SCHEMAS[kind], f"run: {command} --schema > schemas/{kind}.schema.json"
