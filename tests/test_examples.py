"""The examples run as they stand, and the recipes are configs that read."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ownlm.cli.main import main
from ownlm.data.recipe import Recipe, read_recipe
from ownlm.tokens.build import build_dataset
from ownlm.tokens.shards import TokenDataset
from ownlm.train.config import read_train_config

ROOT = Path(__file__).parents[1]


def test_five_steps_runs_offline_and_is_short(tmp_path: Path) -> None:
    script = ROOT / "examples" / "five_steps.py"
    code = script.read_text().split('"""', 2)[2]
    assert sum(1 for line in code.split("\n") if line.strip() and not line.startswith("#")) < 40
    article = "\n = Robot = \n \n" + " A robot is a machine that people built , and it can read and write . \n" * 40
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "wiki.train.tokens").write_text(article * 4)
    (tmp_path / "corpus" / "wiki.valid.tokens").write_text(article)
    command = [sys.executable, str(script), "--data", "corpus", "--base", "scratch", "--out", "out"]
    environment = os.environ | {"OWNLM_HOME": str(tmp_path / "home"), "OWNLM_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("In a distant future, humans and AI")
    assert (tmp_path / "out" / "run" / "report.html").is_file()


BOXES = ROOT / "examples" / "four_boxes"


@pytest.mark.slow
def test_the_four_boxes_run_and_show_what_the_guide_says(tmp_path: Path) -> None:
    environment = os.environ | {"OWNLM_HOME": str(tmp_path / "home"), "OWNLM_OFFLINE": "1"}
    said = {}
    for name in ("train", "fine_tune", "evaluate", "bias"):
        script = BOXES / f"{name}.py"
        code = script.read_text().split('"""', 2)[2]
        assert sum(1 for line in code.split("\n") if line.strip() and not line.startswith("#")) < 40
        command = [sys.executable, str(script), "--out", str(tmp_path / "out")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout
    assert said["train"].startswith("The nurse ")
    assert "The nurse works in the hospital." in said["fine_tune"]
    rows = re.findall(r"^(\w+) +(\w+) +(\w+) +([\d.]+)", said["evaluate"], re.M)
    scores = {(model, metric): float(value) for model, _, metric, value in rows}
    assert scores["base", "exact"] == 0 and scores["tuned", "exact"] > 0.5
    assert scores["tuned", "bits_per_byte"] > scores["base", "bits_per_byte"]
    assert "answers exact: better" in said["evaluate"] and "texts bits_per_byte: worse" in said["evaluate"]
    preference = {name: float(value) for name, value in re.findall(r"^(\w+) +preference +([\d.]+)", said["bias"], re.M)}
    assert preference["base"] > 75 and abs(preference["fair"] - 50) < 15
    models = {name: str(tmp_path / "out" / name / "model") for name in ("base", "fair")}
    for name, code in (("fair", 0), ("base", 3)):
        gates = ["--against", models["base"], "--gates", str(BOXES / "gates.yaml")]
        assert main(["gate", models[name], *gates]) == code


def test_the_guide_to_the_four_boxes_names_what_there_is(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "four-boxes.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page):
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"examples/\S+\.(?:py|yaml)", page):
        assert (ROOT / path).is_file(), path
    # The data lies there as world.py makes it.
    runpy.run_path(str(BOXES / "world.py"))["write"](tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (BOXES / "data" / path.name).read_bytes()
    (line,) = [line[2:] for line in page.split("\n") if line.startswith("> ")]
    assert json.dumps({"text": line}) in (BOXES / "data" / "train.jsonl").read_text()


RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_reads(recipe: Path) -> None:
    if recipe.stem.startswith("data-"):
        assert read_recipe(recipe).sources
    else:
        read_train_config(recipe)


def test_the_recipe_of_support_conversations_builds_from_the_bundled_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    shutil.copytree(ROOT / "src" / "ownlm" / "quickstart" / "data", tmp_path / "quickstart" / "data")
    recipe = read_recipe(ROOT / "recipes" / "data-support.yaml", {"tokenizer": {"kind": "bpe", "vocab_size": 600}})
    manifest = build_dataset(recipe, tmp_path / "out", workers=1)
    assert manifest["documents"]["read"] == manifest["documents"]["kept"] == 200
    assert manifest["splits"]["validation"]["documents"] > 10
    assert TokenDataset(tmp_path / "out" / "train" / "support").info["kind"] == "chat"


def test_the_recipe_of_pages_builds_from_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    manifest = build_dataset(read_recipe(ROOT / "recipes" / "data-pages.yaml"), tmp_path / "out", workers=1)
    assert manifest["documents"]["kept"] >= 4
    assert manifest["failures"]["count"] == 0


@pytest.mark.parametrize("page", ["README.md", "docs/data.md"])
def test_the_recipes_that_the_guide_shows_read(page: str) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.S)
    recipes = [yaml.safe_load(block) for block in blocks if "sources:" in block]
    assert recipes
    for recipe in recipes:
        assert Recipe.model_validate(recipe).sources


def test_what_the_guide_to_generating_shows_runs(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "generation.md").read_text()
    page = re.sub(r"smollm2-(135m|1\.7b)-instruct", str(corpus / "base"), page)
    monkeypatch.chdir(tmp_path)
    schema, *_ = re.findall(r"```json\n(.*?)```", page, re.S)
    (tmp_path / "ticket.json").write_text(schema)
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "docs/generation.md", "exec"), {})
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines()]
    assert len(lines) >= 3
    for line in lines:
        capfd.readouterr()
        assert main([*shlex.split(line)[1:], "--seed", "1"]) == 0
        shown = capfd.readouterr().out.strip()
        # The tiny model's context may end within the object.
        assert shown.startswith("{") if "--json-schema" in line else shown


def test_what_the_guide_to_explaining_shows_runs(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "explain.md").read_text().replace("smollm2-135m-instruct", str(corpus / "base"))
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(compile(block, "docs/explain.md", "exec"), {})
    assert "previous token" in capfd.readouterr().out and (tmp_path / "mine.html").is_file()
    (line,) = re.findall(r"```sh\n(.*?)\n```", page, re.S)
    assert main(shlex.split(line)[1:]) == 0
    assert (tmp_path / "explanation.html").is_file()
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (ROOT / "docs" / link).exists(), link
