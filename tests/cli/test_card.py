"""``ownlm card``: the card of a model, read back by the hub's own library."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from ownlm.model.identity import weights_hash
from ownlm.tokens.content import content_hash


def score(task: str, metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    return {
        "task": task,
        "shots": 0,
        "metric": metric,
        "value": value,
        "low": 0.4,
        "high": 0.6,
        "n": 120,
        "best": None,
        **more,
    }


def evaluation(folder: Path, weights: str | None, model: str = "mine") -> Path:
    """What an evaluation of some weights wrote."""
    folder.mkdir()
    tasks = [
        {"task": "boolq", "kind": "choice", "shots": 0, "about": "yes or no, after a passage", "source": "Clark et al. 2019",
         "licence": "CC BY-SA 3.0", "n": 120, "long": 2, "long_was": "were left out", "notes": []},
        {"task": "winobias", "kind": "winobias", "shots": 0, "about": "whom a pronoun is taken for", "source": "",
         "licence": "MIT", "n": 60, "long": 0, "long_was": "", "notes": ["a note of its own"]},
    ]  # fmt: skip
    counts = {"items": 120, "in_full": 2, "in_part": 1, "common_text": 0, "not_found": 110, "cannot_be_judged": 7}
    part = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 60}
    effect = {"task": "boolq", "shots": 0, "metric": "accuracy", "all": part, "clean": part, "seen": part}
    value = {
        "model": model,
        "limit": 120,
        "tasks": tasks,
        "scores": [
            score("boolq", "accuracy", 0.512345678, best=1.0),
            score("boolq", "matthews", None),
            score("winobias/overall", "gap", -3.25, best=0.0),
        ],
        "contamination": {
            "datasets": [{"name": "d", "documents": 5}],
            "not_checked": [{"what": "model", "name": "base", "reason": "what it was trained on is not known"}],
            "tasks": {"boolq": counts},
            "scores": [effect | {"words": "inside the noise: a difference of 0.02 would have shown"}],
            "seen": [],
        },
    }
    (folder / "scores.json").write_text(json.dumps(value | ({} if weights is None else {"weights": weights})))
    return folder


@pytest.fixture
def model(corpus: Path, tmp_path: Path) -> Path:
    """The tiny model, as a run on two sources would have left it."""
    folder = tmp_path / "run" / "model"
    shutil.copytree(corpus / "base", folder)
    (tmp_path / "plain.jsonl").write_text('{"text": "A text."}\n')
    counts = {"documents": 4, "tokens": 90, "trained": 50, "masked": 20, "truncated": 3, "unseen": 7}
    ledger = {"sources": {"plain.jsonl": counts | {"dropped": {"too-long": {"documents": 1, "tokens": 10}}}}}
    lineage = {
        "parents": ["smollm2-135m-instruct", "some/local_base"],
        "sources": {"plain.jsonl": content_hash(tmp_path / "plain.jsonl"), "gone": "0" * 64},
        "config": {"out": "run", "seed": 3, "objective": {"kind": "chat"}, "batch_tokens": 512, "optimizer": {"kind": "adamw", "lr": 1e-3},
                   "schedule": {"kind": "cosine"}, "adapter": {"rank": 16}, "data": {"train": ["plain.jsonl", "gone"]}},
        "metrics": {"steps": 2, "tokens": 70, "loss": 2.5, "val_loss": 2.25, "val_loss_before": 3.0,
                    "device": "A processor", "trained_parameters": 1234, "ledger": ledger},
    }  # fmt: skip
    (folder / "ownlm.json").write_text(json.dumps({"ownlm": "0.1.0", "lineage": lineage}))
    (tmp_path / "run" / "run.json").write_text(json.dumps({"steps": 2, "loss": 2.5, "seconds": 12.0}))
    lines = [
        {"step": 0, "val_loss": 3.0},
        {"step": 1, "loss": 2.75},
        {"step": 2, "loss": 2.5},
        {"step": 2, "val_loss": 2.25},
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_hub_reads_what_is_true_of_the_model(ownlm: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    evaluation(tmp_path / "evaluation-mine", weights_hash(model))
    evaluation(tmp_path / "evaluation-other", "1" * 64)
    done = ownlm("card", model, "--license", "apache-2.0", "--json")
    assert done.code == 0, done.err
    assert done.object["card"] == str(model / "README.md")
    assert [Path(one).name for one in done.object["evaluations"]] == ["evaluation-mine"]
    assert done.object["unknown"] == ["smollm2-135m-instruct", "some/local_base"]
    text = (model / "README.md").read_text()
    card = ModelCard(text)
    data = card.data.to_dict()
    assert {key: data[key] for key in ("license", "base_model", "library_name", "pipeline_tag", "metrics")} == {
        "license": "apache-2.0",
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "metrics": ["accuracy"],
    }
    results = {(one.dataset_name, one.metric_name): one for one in card.data.eval_results}
    assert set(results) == {("boolq", "accuracy"), ("winobias/overall", "gap")}
    assert results["boolq", "accuracy"].metric_value == 0.512346
    assert results["boolq", "accuracy"].metric_args == {"items": 120, "interval_95": [0.4, 0.6]}
    for said in (
        "| Parameters | ",
        "`boolq` | 0 | `accuracy` | 0.512 | 0.400 to 0.600 | 1.000 | 120",
        "boolq`: 2 items too long for the model; were left out.",
        "`winobias/overall`",
        "a note of its own",
        "Only the first 120 items",
        "| plain.jsonl | 4 | 50 | 20 | 3 | 10 | 7 |",
        "Dropped: too-long (10).",
        "**plain.jsonl**: files that were used as they are",
        "**gone**: its folder is not here any more",
        "3.0000 before, 2.2500 after",
        "A processor",
        "| Time | 12 s |",
        "LoRA of rank 16",
        "inside the noise: a difference of 0.02 would have shown",
        "What smollm2-135m-instruct and some/local\\_base were trained on is not known",
        "- some/local\\_base: the licence is not known here",
        "- Data plain.jsonl: the licence is not known here",
        "| 2 | 2.5000 | 2.2500 |",
    ):
        assert said in text, said
    missing = text.split("### Not measured")[1].split("##")[0]
    assert "`hellaswag`" in missing and "`boolq`" not in missing and "`winobias`" not in missing


def test_what_the_owner_wrote_stays(ownlm: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    first = ownlm("card", model, "--json").object
    assert first["to_write"] == ["about", "uses", "misuses", "licence"] and first["evaluations"] == []
    path = model / "README.md"
    text = path.read_text()
    assert "Bias was not measured." in text and "Nothing was measured." in text and "# license: name" in text
    begin = text.index("**To be written by the owner:** who made")
    path.write_text(text[:begin] + "Made by us.\n\nAsk \\1 Ada." + text[text.index("\n<!-- /owner -->", begin) :])
    again = ownlm("card", model, "--json").object
    assert again["to_write"] == ["uses", "misuses", "licence"]
    assert "<!-- owner:about -->\nMade by us.\n\nAsk \\1 Ada.\n<!-- /owner -->" in path.read_text()
    path.write_text("# Somebody's own")
    done = ownlm("card", model)
    assert (
        done.code == 2 and "something else stands here already" in done.err and path.read_text() == "# Somebody's own"
    )
    assert ownlm("card", model, "--out", "card.md").code == 0 and (tmp_path / "card.md").exists()


def test_names_mean_just_themselves(ownlm: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    lineage = {"parents": ["<script>alert(1)</script> | [x](y)"], "sources": {"a|b`c": None}, "config": None}
    (model / "ownlm.json").write_text(json.dumps({"lineage": lineage}))
    assert ownlm("card", model).code == 0
    text = (model / "README.md").read_text()
    assert "<script>" not in text.replace("\\<script\\>", "") and "[x](y)" not in text
    ModelCard(text)


def test_what_is_wrong_is_told_in_a_line(ownlm: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    other = evaluation(tmp_path / "other", "1" * 64, "theirs")
    old = evaluation(tmp_path / "old", None)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "scores.json").write_text('{"model": "m", "scores": [3]}')
    for arguments, message in (
        (["--evaluation", other], "these scores are of other weights (theirs)"),
        (["--evaluation", old], "do not say which weights"),
        (["--evaluation", broken], "this is no evaluation's scores"),
        (["--evaluation", tmp_path], "there is no evaluation here"),
        (["--out", tmp_path], "this is a folder"),
    ):
        done = ownlm("card", model, *arguments)
        assert done.code == 2 and message in done.err and "Traceback" not in done.err, done.err
    (tmp_path / "empty").mkdir()
    done = ownlm("card", tmp_path / "empty")
    assert done.code == 2 and "empty" in done.err
    (model / "ownlm.json").write_text('{"lineage": []}')
    done = ownlm("card", model)
    assert done.code == 1 and "lineage is damaged" in done.err and not (model / "README.md").exists()
