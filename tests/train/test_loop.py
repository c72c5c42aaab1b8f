"""The loop: what it writes, when it stops, what it keeps, and how it leaves when it is asked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ownlm.config import merge
from ownlm.errors import DamagedError, Interrupted, OwnlmError
from ownlm.files import new_folder
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train import checkpoint, result
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training
from ownlm.train.schedule import rate

pytestmark = pytest.mark.usefixtures("undrawn")

Train = Callable[..., Any]


def checkpoints(run: Path) -> list[int]:
    return sorted(int(folder.name.removeprefix("step-")) for folder in (run / "checkpoints").iterdir())


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def public_held_out_loss(model: Path, texts: Path) -> float:
    """The mean loss over every token of the texts but their first, by the public implementation."""
    reference = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    tokenizer = load_tokenizer(model)
    total, count, longest = 0.0, 0, reference.config.max_position_embeddings
    for line in texts.read_text().split("\n")[:-1]:
        ids = [*tokenizer.encode(json.loads(line)["text"]), tokenizer.eos_id]
        assert len(ids) > 1
        for start in range(0, len(ids) - 1, longest):
            piece = torch.tensor(ids[start : start + longest + 1])
            with torch.no_grad():
                logits = reference(input_ids=piece[None, :longest]).logits[0, : len(piece) - 1]
            total += torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum").item()
            count += len(piece) - 1
    return total / count


def test_a_line_for_every_step_and_every_validation(train: Train, settings: dict[str, Any]) -> None:
    trained = train(settings, validate__every=5)
    assert [row["step"] for row in trained.steps] == list(range(1, 13))
    assert [step for step, _ in trained.validations] == [0, 5, 10, 12]
    keys = {"step", "loss", "lr", "grad_norm", "tokens", "trained_tokens", "tokens_per_second"}
    assert all(set(row) == keys for row in trained.steps)
    assert all(set(row) == {"step", "val_loss"} for row in trained.run.metrics if "val_loss" in row)
    config = read_train_config(settings)
    for number, row in enumerate(trained.steps):
        assert row["lr"] == config.optimizer.lr * rate(config.schedule, number, 12)
        assert row["grad_norm"] > 0 and row["tokens_per_second"] > 0
    counts = [row["tokens"] for row in trained.steps]
    assert counts == sorted(counts) and max(b - a for a, b in zip([0, *counts], counts, strict=False)) <= 256


def test_it_learns(train: Train, settings: dict[str, Any]) -> None:
    trained = train(settings, steps=30, checkpoint__every=100)
    assert trained.run.summary["val_loss"] < 0.75 * trained.run.summary["val_loss_before"]


def test_the_held_out_loss_of_the_result_is_the_one_reported(
    train: Train, settings: dict[str, Any], corpus: Path
) -> None:
    trained = train(settings)
    summary = trained.run.summary
    assert summary["val_loss_before"] == trained.validations[0][1]
    assert public_held_out_loss(trained.run.model, corpus / "held.jsonl") == pytest.approx(
        summary["val_loss"], rel=1e-5
    )


def test_a_limited_validation_measures_the_same_tokens_each_time(train: Train, settings: dict[str, Any]) -> None:
    still = {"optimizer__lr": 1e-12, "validate__every": 1, "steps": 3}
    few = train(settings, validate__tokens=50, **still)
    assert len({round(loss, 6) for _, loss in few.validations}) == 1
    everything = train(settings, out=settings["out"] + "2", **still)
    assert few.validations[0][1] != everything.validations[0][1]


WORSENING = {"optimizer__lr": 1.0, "schedule__kind": "constant", "schedule__warmup": 0, "validate__every": 1}


def test_it_stops_early_and_takes_the_best_weights(train: Train, settings: dict[str, Any], corpus: Path) -> None:
    trained = train(settings, steps=40, validate__patience=3, checkpoint__every=100, **WORSENING)
    made = trained.validations[1:]
    best_step, best_loss = min(made, key=lambda pair: pair[1])
    last = trained.steps[-1]["step"]
    assert last < 40 and last == best_step + 3, "three validations without a better loss"
    summary = trained.run.summary
    assert (summary["steps"], summary["best_step"], summary["val_loss"]) == (last, best_step, best_loss)
    assert summary["stopped"] == "no better held-out loss for 3 validations"
    assert f"stopping early at step {last}: {summary['stopped']}" in trained.said
    assert f"taking the weights of step {best_step}, the best by held-out loss" in trained.said
    best = trained.run.folder / "checkpoints" / f"step-{best_step}"
    assert weights(trained.run.model) == weights(best)
    assert public_held_out_loss(trained.run.model, corpus / "held.jsonl") == pytest.approx(best_loss, rel=1e-4)


def test_what_a_run_began_from_is_not_its_result(train: Train, settings: dict[str, Any], corpus: Path) -> None:
    """Where training only made it worse, the report says so, and its loss is that of the model it left."""
    trained = train(settings, steps=3, **WORSENING)
    summary = trained.run.summary
    assert summary["best_step"] >= 1 and summary["val_loss"] > summary["val_loss_before"]
    assert public_held_out_loss(trained.run.model, corpus / "held.jsonl") == pytest.approx(
        summary["val_loss"], rel=1e-4
    )
    assert any(line.startswith("the held-out loss rose from") for line in trained.said)


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_checkpoints_are_kept_and_the_best(keep: int, train: Train, settings: dict[str, Any]) -> None:
    trained = train(settings, steps=12, checkpoint__every=2, checkpoint__keep=keep, **WORSENING)
    made = trained.validations[1:]
    best = min(made, key=lambda pair: pair[1])[0]
    bests = [step for i, (step, loss) in enumerate(made) if loss == min(x for _, x in made[: i + 1])]
    saved = sorted({*range(2, 13, 2), *bests})
    assert checkpoints(trained.run.folder) == sorted({*saved[-keep:], best})
    assert best not in saved[-keep:], "or this would show nothing"


def test_without_validation_the_last_weights_are_the_result(train: Train, settings: dict[str, Any]) -> None:
    trained = train(settings, data__validation=[], checkpoint__keep=1)
    assert checkpoints(trained.run.folder) == [12]
    assert weights(trained.run.model) == weights(trained.run.folder / "checkpoints" / "step-12")
    assert trained.run.summary["val_loss"] is None


@pytest.mark.parametrize("validation", [True, False])
def test_a_loss_that_is_no_number_stops_the_run_before_it_spoils_anything(
    validation: bool, train: Train, settings: dict[str, Any]
) -> None:
    changes: dict[str, Any] = {"optimizer__lr": 1e30, "schedule__warmup": 0, "checkpoint__every": 100}
    changes |= {"validate__every": 1} if validation else {"data__validation": []}
    with pytest.raises(OwnlmError, match=r"(loss|gradient) (of|after) step \d+ is not a finite number") as raised:
        train(settings, **changes)
    assert raised.value.hint == "set another out, with a lower optimizer.lr or a longer schedule.warmup"
    assert raised.value.exit_code == 1
    rows = [json.loads(line) for line in (Path(settings["out"]) / "metrics.jsonl").read_text().split("\n")[:-1]]
    assert all(abs(row.get("loss", 0)) < float("inf") for row in rows)
    assert not (Path(settings["out"]) / "model").exists()
    # Nothing was saved, so the same folder takes the mended command.
    assert train(settings, steps=1).run.summary["steps"] == 1


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_the_step_saves_and_the_same_command_goes_on(
    number: signal.Signals,
    raised: type[BaseException],
    train: Train,
    settings: dict[str, Any],
    curve: Callable[[Path], list[tuple[int, str, str]]],
) -> None:
    def say(message: str) -> None:
        if message.startswith("step 6"):
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    config = merge(settings, {"checkpoint.every": 100})
    with pytest.raises(raised) as error:
        run_training(read_train_config(config), say=say)
    if isinstance(error.value, Interrupted):
        assert error.value.message == "stopped at step 6 of 12; all of it is saved" and error.value.exit_code == 130
    else:
        assert isinstance(error.value, SystemExit) and error.value.code == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    out = Path(settings["out"])
    assert checkpoints(out) == [6] and not (out / "model").exists()
    trained = train(config)
    assert "resuming at step 6" in trained.said
    whole = train(config, out=str(out) + "-whole")
    assert curve(out) == curve(whole.run.folder)


@pytest.mark.parametrize("where", ["train.jsonl", "step 0", "the result"])
def test_a_sigterm_before_or_after_the_steps_leaves_at_once_and_nothing_half_written(
    where: str, train: Train, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = result.save_state_folder

    def ended(*arguments: Any, **options: Any) -> None:
        with new_folder(Path(settings["out"]) / "model"):
            os.kill(os.getpid(), signal.SIGTERM)

    def say(message: str) -> None:
        if message.startswith(where):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(result, "save_state_folder", ended)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as error:
        run_training(read_train_config(settings), say=say)
    assert error.value.code == 0 and signal.getsignal(signal.SIGTERM) == before
    assert not list(Path(settings["out"]).rglob("*partial*"))
    monkeypatch.setattr(result, "save_state_folder", write)
    assert len(train(settings).steps) == 12


def test_a_sigterm_that_came_out_as_another_error_is_one_all_the_same(settings: dict[str, Any]) -> None:
    def say(message: str) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit:
            raise ValueError("could not determine the shape of object type") from None

    with pytest.raises(SystemExit) as error:
        run_training(read_train_config(settings), say=say)
    assert error.value.code == 0


def test_a_line_of_the_metrics_that_was_cut_does_not_spoil_those_after_it(
    train: Train, settings: dict[str, Any]
) -> None:
    train(settings, steps=6)
    metrics = Path(settings["out"]) / "metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[: whole.rindex(b"tokens_per_second")])
    assert [row["step"] for row in train(settings, steps=8).steps] == [1, 2, 3, 4, 5, 7, 8]


def test_a_damaged_line_of_the_metrics_is_named(train: Train, settings: dict[str, Any]) -> None:
    train(settings, steps=6)
    metrics = Path(settings["out"]) / "metrics.jsonl"
    lines = metrics.read_bytes().split(b"\n")
    lines[2] = b"\xff" + lines[2][1:]
    metrics.write_bytes(b"\n".join(lines))
    with pytest.raises(DamagedError) as error:
        train(settings, steps=8)
    assert error.value.where == f"{metrics}:3"


def test_the_lines_that_a_checkpoint_counts_are_on_the_disk_before_it(
    train: Train, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[tuple[int, int]] = []
    fsync, counted = os.fsync, []

    def noted(handle: int) -> None:
        held = os.fstat(handle)
        on_disk.append((held.st_ino, held.st_size))
        fsync(handle)

    write = checkpoint.write_snapshot

    def written(folder: Path, snapshot: checkpoint.Snapshot) -> None:
        metrics = (Path(settings["out"]) / "metrics.jsonl").stat()
        counted.append((metrics.st_ino, snapshot.training["metrics_bytes"]) in on_disk)
        write(folder, snapshot)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(checkpoint, "write_snapshot", written)
    train(settings)
    assert len(counted) >= 3 and all(counted)


def test_a_second_ctrl_c_leaves_at_once(settings: dict[str, Any]) -> None:
    def say(message: str) -> None:
        if message.startswith("step 6"):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_training(read_train_config(merge(settings, {"checkpoint.every": 100})), say=say)
    assert not list((Path(settings["out"])).rglob("step-*"))


def test_the_command_line_ends_as_its_codes_promise(
    train: Train,
    settings: dict[str, Any],
    tmp_path: Path,
    curve: Callable[[Path], list[tuple[int, str, str]]],
) -> None:
    config = merge(settings, {"steps": 120, "checkpoint.every": 1000, "data.validation": []})
    path, metrics = tmp_path / "config.json", Path(settings["out"]) / "metrics.jsonl"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "ownlm", "train", str(path)]
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        before = len(curve(metrics.parent)) if metrics.exists() else 0
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > before + 2):
                time.sleep(0.005)
            process.send_signal(number)
            _, said = process.communicate()
        assert process.returncode == code, said
        assert "finishing the step and saving" in said and "Traceback" not in said
        assert checkpoints(metrics.parent)[-1] == len(curve(metrics.parent)) > before
    assert "all of it is saved" in said
    trained = train(config)
    assert len(trained.steps) == 120
    assert curve(metrics.parent) == curve(train(config, out=str(tmp_path / "whole")).run.folder)
