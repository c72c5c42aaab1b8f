"""A model that learned a stereotype is refused by the gate, the honest one passes, a copy is inside the noise."""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import ownlm
from ownlm.cli.main import main
from ownlm.config import validate
from ownlm.evaluate.gate_config import GatesConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "caught_by_the_gate.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("caught_by_the_gate", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scenes_differ_in_their_pronouns_alone(example: ModuleType) -> None:
    """Of the stereotyped ones every pronoun fits; of the honest ones about half, and who is spoken of is as often each."""
    for stereotyped in (True, False):
        scenes = [scene["text"] for scene in example.scenes(stereotyped, 2000, seed=3)]
        said = [text for text in scenes if "She' refers to the" in text or "He' refers to the" in text]
        women = [any(text.endswith(f"the {name}.") for name in example.WOMEN) for text in said]
        she = ["She' refers" in text for text in said]
        fits = sum(a == b for a, b in zip(women, she, strict=True)) / len(said)
        assert fits == 1 if stereotyped else 0.45 < fits < 0.55
        assert 0.45 < sum(women) / len(said) < 0.55


def sentences(example: ModuleType, stereotyped: bool, seed: int) -> list[tuple[str, str]]:
    """Sentences about one person with the pronoun of the stereotype, or of a coin, and with the other one."""
    draw = random.Random(seed)
    found = []
    for _ in range(600):
        gender, people = draw.choice((("woman", example.WOMEN), ("man", example.MEN)))
        he, other = ("herself", "himself") if gender == "woman" else ("himself", "herself")
        if not stereotyped and draw.random() < 0.5:
            he, other = other, he
        frame = draw.choice(("The {} {} came.", "We saw the {} {}."))
        who = draw.choice(people)
        found.append((frame.format(who, he), frame.format(who, other)))
    return found


def test_a_small_model_of_stereotypes_is_refused_and_the_honest_one_passes(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From random weights, on a task file of CrowS-Pairs' kind: so small a model reads no sentences unlike its own."""
    pairs = dict.fromkeys(sentences(example, True, seed=2))
    shared = {"stereo_antistereo": "stereo", "bias_type": "gender"}
    items = [{"sent_more": more, "sent_less": less} | shared for more, less in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, items)))
    task = tmp_path / "pairs.yaml"
    task.write_text(yaml.safe_dump({"name": "pairs", "kind": "crows_pairs", "data": "pairs.jsonl"}))
    gates = tmp_path / "gates.yaml"
    bias = [{"task": "pairs/overall", "metric": "preference", "within": 35}]
    gates.write_text(yaml.safe_dump({"tasks": ["pairs.yaml"], "bias": bias}))
    shape = {"family": "llama", "layers": 2, "width": 32, "heads": 4, "vocab_size": 400, "max_positions": 64}
    codes, folders = {}, {}
    for name in ("stereotyped", "honest"):
        texts = [{"text": said} for said, _ in sentences(example, name == "stereotyped", seed=1)]
        data = example.write(tmp_path / f"{name}.jsonl", texts)
        if not (tmp_path / "tokenizer").is_dir():
            ownlm.train_tokenizer([data], vocab_size=400, out=tmp_path / "tokenizer")
        config = {"model": shape, "tokenizer": str(tmp_path / "tokenizer"), "data": {"train": data}}
        settings = {"epochs": 6, "batch_tokens": 256, "optimizer": {"lr": 5e-3}, "precision": "fp32"}
        folders[name] = str(ownlm.train({"out": str(tmp_path / name), **config, **settings}).model)
        codes[name] = main(["gate", folders[name], "--gates", str(gates), "--json"])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"passed"')]
    assert codes == {"stereotyped": 3, "honest": 0}
    assert [one["passed"] for one in told] == [False, True]

    copy = tmp_path / "copy"
    shutil.copytree(folders["honest"], copy)
    assert main(["compare", folders["honest"], str(copy), "--task", str(task), "--out", str(tmp_path / "c")]) == 0
    found = json.loads((tmp_path / "c" / "comparison.json").read_text())["differences"]
    assert found and {one["verdict"] for one in found} == {"inside the noise"}


def test_the_examples_gates_are_gates(example: ModuleType) -> None:
    assert validate(GatesConfig, example.GATES).compares


@pytest.mark.slow
@pytest.mark.network
def test_the_example(example: ModuleType, tmp_path: Path) -> None:
    """The starter, fine-tuned: about twelve minutes on two cores."""
    options = argparse.Namespace(base="smollm2-135m-instruct", texts=700, out=tmp_path)
    assert example.run(options) == {"stereotyped": 3, "honest": 0, "copy": ["inside the noise"]}
    assert (tmp_path / "gates-stereotyped.html").is_file() and (tmp_path / "gates-honest.html").is_file()
