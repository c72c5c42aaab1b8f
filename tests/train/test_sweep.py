"""Sweeps of real small runs: the table, going on after a kill exactly, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ownlm.cli.main import main
from ownlm.errors import ConfigError, Interrupted, MissingExtra, UserError
from ownlm.train import sweep as module
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training
from ownlm.train.sweep import read_sweep_config, run_sweep

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("undrawn")

SWEEP = {
    "trials": 3,
    "parameters": {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "optimizer.clip": [0.5, 1.0]},
    "seed": 1,
}


def quiet(message: str) -> None:
    """Says nothing."""


@pytest.fixture
def short(settings: dict[str, Any]) -> dict[str, Any]:
    """Runs of four steps."""
    return settings | {"steps": 4, "checkpoint": {"every": 1}, "validate": {"every": 4}}


def table(summary: dict[str, Any]) -> list[Any]:
    return [(row["trial"], row["parameters"], row["val_loss"]) for row in summary["trials"]]


def test_the_best_comes_first(short: dict[str, Any]) -> None:
    sweep = run_sweep(read_train_config(short), read_sweep_config(SWEEP), quiet)
    losses = [row["val_loss"] for row in sweep.summary["trials"]]
    assert losses == sorted(losses) and len(losses) == 3 and sweep.summary["best"] == sweep.summary["trials"][0]
    for row in sweep.summary["trials"]:
        run = json.loads((Path(row["run"]) / "run.json").read_text())
        assert run["val_loss"] == row["val_loss"]
        assert 1e-4 <= row["parameters"]["optimizer.lr"] <= 1e-2 and row["parameters"]["optimizer.clip"] in (0.5, 1.0)
    assert json.loads((sweep.folder / "sweep.json").read_text()) == sweep.summary
    page = (sweep.folder / "sweep.html").read_text()
    assert f"The best is trial-{sweep.summary['best']['trial']:03}" in page and "<svg" in page


@pytest.mark.parametrize("where", ["trial 2 of 3", "step 4: held-out"])
def test_a_sweep_that_was_stopped_goes_on_exactly(short: dict[str, Any], tmp_path: Path, where: str) -> None:
    whole = run_sweep(read_train_config(short), read_sweep_config(SWEEP), quiet)
    other = read_train_config(short | {"out": str(tmp_path / "other")})
    said: list[str] = []

    def stops(message: str) -> None:
        said.append(message)
        # Before the second trial's first step, or within its last.
        if message.startswith(where) and "trial 2 of 3" in " ".join(said):
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        run_sweep(other, read_sweep_config(SWEEP), stops)
    again = run_sweep(other, read_sweep_config(SWEEP), said.append)
    assert table(again.summary) == table(whole.summary)
    trials = [line[6] for line in said if line.startswith("trial ")]
    assert trials == ["1", "2", "2", "3"]
    assert ("resuming at step 3" in said) == where.startswith("step")
    # More trials may be asked for, and nothing is made twice.
    longer = run_sweep(other, read_sweep_config(SWEEP | {"trials": 4}), quiet)
    made = [str(row) for row in table(longer.summary)]
    assert len(made) == 4 and {str(row) for row in table(again.summary)} < set(made)


def test_a_trial_that_diverges_has_failed_and_the_sweep_goes_on(short: dict[str, Any]) -> None:
    hopeless = {"trials": 2, "parameters": {"optimizer.lr": [1e30]}}
    summary = run_sweep(
        read_train_config(short | {"optimizer": {"clip": None}}), read_sweep_config(hopeless), quiet
    ).summary
    assert [row["failed"] for row in summary["trials"]] == [True, True] and summary["best"] is None


@pytest.mark.parametrize(
    ("changes", "config", "words"),
    [
        ({"parameters": {"optimizer.lrr": [1, 2]}}, {}, "lrr"),
        ({"parameters": {"optimizer.lr": [-1.0]}}, {}, "lr"),
        ({"parameters": {"optimizer.lr": {"low": 2, "high": 1}}}, {}, "low must be below high"),
        ({"parameters": {"out": ["a", "b"]}}, {}, "folder of its own"),
        ({"trials": 0}, {}, "trials"),
        ({}, {"data.validation": []}, "nothing is held out"),
    ],
)
def test_mistakes_are_told_before_the_first_trial(
    short: dict[str, Any], changes: dict[str, Any], config: dict[str, Any], words: str
) -> None:
    from ownlm.config import merge

    with pytest.raises(ConfigError) as error:
        run_sweep(read_train_config(merge(short, config)), read_sweep_config(SWEEP | changes), quiet)
    assert words in str(error.value)
    assert not Path(short["out"]).exists()


def test_another_sweep_in_the_folder_is_refused(short: dict[str, Any]) -> None:
    one = SWEEP | {"trials": 1}
    run_sweep(read_train_config(short), read_sweep_config(one), quiet)
    with pytest.raises(ConfigError, match=r"sweep\.seed"):
        run_sweep(read_train_config(short), read_sweep_config(one | {"seed": 2}), quiet)
    with pytest.raises(ConfigError, match=r"config\.steps"):
        run_sweep(read_train_config(short | {"steps": 5}), read_sweep_config(one), quiet)


def test_without_optuna_the_extra_is_named(short: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match="extra 'sweep'"):
        module.run_sweep(read_train_config(short), read_sweep_config(SWEEP), quiet)


def test_the_command_makes_a_sweep(short: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(short))
    (tmp_path / "s.yaml").write_text(json.dumps(SWEEP | {"trials": 1}))
    line = ["train", str(tmp_path / "c.yaml"), "seed=4", "--sweep", str(tmp_path / "s.yaml"), "--json"]
    assert main(line) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 1


def test_neither_command_line_nor_training_loads_optuna() -> None:
    code = "import sys, ownlm.cli.main, ownlm.train.sweep; print('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_trial_that_was_stopped_while_it_was_drawn_goes_on_exactly(
    short: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_sweep(read_train_config(short), read_sweep_config(SWEEP), quiet)
    other = read_train_config(short | {"out": str(tmp_path / "other")})
    suggested, drawn = module._suggested, []

    def stops(*arguments: Any) -> Any:
        drawn.append(1)
        if len(drawn) == 4:
            raise Interrupted("stopped")
        return suggested(*arguments)

    monkeypatch.setattr(module, "_suggested", stops)
    with pytest.raises(Interrupted):
        run_sweep(other, read_sweep_config(SWEEP), quiet)
    assert table(run_sweep(other, read_sweep_config(SWEEP), quiet).summary) == table(whole.summary)


def test_what_a_full_disk_or_a_kill_left_half_written_does_not_end_the_sweep(short: dict[str, Any]) -> None:
    first = run_sweep(read_train_config(short), read_sweep_config(SWEEP | {"trials": 1}), quiet)
    journal = first.folder / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 6, "worker')
    (first.folder / "journal.log.lock").symlink_to(journal)
    (first.folder / ".sweep.json.partial-5e6f").write_text("half of it")
    again = run_sweep(read_train_config(short), read_sweep_config(SWEEP | {"trials": 2}), quiet)
    assert len(again.summary["trials"]) == 2 and table(first.summary)[0] in table(again.summary)
    assert not list(first.folder.glob(".*partial*"))


def test_a_second_sweep_on_the_same_folder_is_refused(short: dict[str, Any]) -> None:
    config, sweep = read_train_config(short), read_sweep_config(SWEEP | {"trials": 1})

    def second(message: str) -> None:
        if message.startswith("trial 1"):
            with pytest.raises(UserError, match="another process is training in this folder"):
                run_sweep(config, sweep, quiet)

    assert len(run_sweep(config, sweep, second).summary["trials"]) == 1


def test_a_run_does_not_begin_in_a_sweeps_folder(short: dict[str, Any]) -> None:
    run_sweep(read_train_config(short), read_sweep_config(SWEEP | {"trials": 1}), quiet)
    with pytest.raises(ConfigError, match="holds a sweep") as caught:
        run_training(read_train_config(short), say=quiet)
    assert "--sweep" in str(caught.value.hint) and not (Path(short["out"]) / "model").exists()


@pytest.mark.parametrize("metric", ["los", "val_acuracy"])
def test_a_measure_that_no_run_has_is_refused_before_the_first_trial(short: dict[str, Any], metric: str) -> None:
    with pytest.raises(ConfigError, match="the objective 'causal' has no measure"):
        run_sweep(read_train_config(short), read_sweep_config(SWEEP | {"metric": metric}), quiet)
    assert not Path(short["out"]).exists()


def test_a_measure_that_the_objective_has_not_is_refused_before_the_first_trial(short: dict[str, Any]) -> None:
    config = read_train_config(short | {"objective": {"kind": "classify"}})
    with pytest.raises(ConfigError, match="has no measure 'acuracy'") as caught:
        run_sweep(config, read_sweep_config(SWEEP | {"metric": "val_acuracy"}), quiet)
    assert (caught.value.where, caught.value.hint) == ("metric", "did you mean 'val_accuracy'?")
    assert not Path(short["out"]).exists()
