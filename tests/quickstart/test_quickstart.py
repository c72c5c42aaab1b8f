"""quickstart end to end on its own bundled data, a few steps long."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ownlm.errors import FetchError
from ownlm.quickstart import main
from ownlm.quickstart.jobs import Job, scratch_job, support_job


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OWNLM_OFFLINE", "1")
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job from nothing, with fewer and smaller steps."""

    def job(out: Path) -> Job:
        whole = scratch_job(out)
        config = {key: value for key, value in whole.config.items() if key != "epochs"}
        less = {"steps": 6, "batch_tokens": 512, "validate": {"every": 3, "tokens": 2000}, "precision": "fp32"}
        return dataclasses.replace(whole, config=config | less)

    monkeypatch.setattr(main, "scratch_job", job)


def test_without_a_network_it_says_so_and_trains_from_nothing(offline: None, short: None, tmp_path: Path) -> None:
    said: list[str] = []
    result = main.quickstart(out=tmp_path / "out", say=said.append)
    assert any("cannot be fetched" in line and "from nothing" in line for line in said)
    assert {"base", "model", "seconds", "before", "after", "bias", "samples", "report"} <= result.keys()
    assert result["base"] == "scratch"
    assert result["after"]["loss"] < result["before"]["loss"]
    assert [len(result["bias"][when]) for when in ("before", "after")] == [2, 2]
    assert all(sample["prompt"] and sample["after"] for sample in result["samples"])
    assert (Path(result["model"]) / "model.safetensors").is_file()
    page = Path(result["report"]).read_text()
    assert "Counterfactual check" in page and "What became of the data" in page
    assert json.loads((tmp_path / "out" / "quickstart.json").read_text()) == result
    again = main.quickstart(out=tmp_path / "out", say=said.append)
    assert again["after"] == result["after"] and again["samples"] == result["samples"]


def test_a_base_that_was_asked_for_is_not_replaced(offline: None, tmp_path: Path) -> None:
    with pytest.raises(FetchError):
        main.quickstart("smollm2-135m-instruct", tmp_path / "out", say=lambda message: None)


def test_the_bundled_conversations_are_apart(tmp_path: Path) -> None:
    job = support_job("any", tmp_path)
    files = [Path(job.config["data"][split]) for split in ("train", "validation")]
    train, held = ([json.loads(line) for line in file.read_text().split("\n") if line] for file in files)
    assert (len(train), len(held)) == (200, 40)
    assert not {row["prompt"].lower() for row in train} & {row["prompt"].lower() for row in held}
    assert not {row["response"] for row in train} & {row["response"] for row in held}
    assert (tmp_path / "data" / "support-LICENSE.txt").is_file()
