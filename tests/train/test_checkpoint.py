"""Checkpoints that are damaged, missing or could not be written: each is named, and the last good one is used."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.config import merge
from ownlm.errors import DamagedError, StorageError
from ownlm.files import verify_folder
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training

pytestmark = pytest.mark.usefixtures("undrawn")

Train = Callable[..., Any]
Curve = Callable[[Path], list[tuple[int, str, str]]]


class Stop(Exception):
    """Ends a run from within, as a crash would."""


def stopped_after(config: dict[str, Any], step: int) -> Path:
    """A run that crashed right after the validation of a step."""

    def say(message: str) -> None:
        if message.startswith(f"step {step}:"):
            raise Stop

    with pytest.raises(Stop):
        run_training(read_train_config(config), say=say)
    return Path(config["out"]) / "checkpoints"


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.fixture(params=["whole model", "adapter, chats"])
def config(
    request: pytest.FixtureRequest, settings: dict[str, Any], chat_settings: dict[str, Any], corpus: Path
) -> dict[str, Any]:
    """A run with checkpoints at 3, 6 and 9 that crashes at 10."""
    chosen = settings if request.param == "whole model" else chat_settings
    data = {**chosen["data"], "validation": chosen["data"]["train"]}
    changes = {"data": data, "validate.every": 10, "checkpoint.every": 3, "checkpoint.keep": 5}
    return merge(chosen, changes)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(
    config: dict[str, Any], train: Train, curve: Curve, tmp_path: Path
) -> None:
    checkpoints = stopped_after(config, 10)
    assert sorted(f.name for f in checkpoints.iterdir()) == ["step-3", "step-6", "step-9"]
    whole = train(config, out=str(tmp_path / "whole")).run
    weights = "adapter_model.safetensors" if "adapter" in config else "model.safetensors"
    damages: list[tuple[str, Callable[[Path], None]]] = [
        ("optimizer.safetensors", flip_a_byte),
        ("training.json", cut_short),
        (weights, cut_short),
        (weights, Path.unlink),
        ("checksums.json", Path.unlink),
        ("checksums.json", cut_short),
    ]
    for number, (name, damage) in enumerate(damages):
        out = tmp_path / f"copy-{number}"
        shutil.copytree(checkpoints.parent, out)
        newest = out / "checkpoints" / "step-9"
        damage(newest / name)
        trained = train(config, out=str(out))
        named = [line for line in trained.said if "going back to the checkpoint before it" in line]
        assert len(named) == 1 and str(newest) in named[0] and name in named[0]
        assert "resuming at step 6" in trained.said
        assert curve(out) == curve(whole.folder)
        result, expected = (folder / "model.safetensors" for folder in (trained.run.model, whole.model))
        assert result.read_bytes() == expected.read_bytes()
        verify_folder(newest)


def test_two_damaged_checkpoints_are_passed_over(
    settings: dict[str, Any], train: Train, curve: Curve, tmp_path: Path
) -> None:
    config = merge(settings, {"validate.every": 10, "checkpoint.every": 3, "checkpoint.keep": 5})
    folder = stopped_after(config, 10)
    for step in (6, 9):
        flip_a_byte(folder / f"step-{step}" / "model.safetensors")
    trained = train(config)
    assert "resuming at step 3" in trained.said
    assert curve(trained.run.folder) == curve(train(config, out=str(tmp_path / "whole")).run.folder)


def test_a_run_of_which_nothing_is_whole_is_refused(settings: dict[str, Any], train: Train) -> None:
    config = merge(settings, {"validate.every": 10, "checkpoint.every": 3, "checkpoint.keep": 5})
    for checkpoint in stopped_after(config, 10).iterdir():
        flip_a_byte(checkpoint / "optimizer.safetensors")
    with pytest.raises(DamagedError, match="every checkpoint of the run is damaged") as raised:
        train(config)
    assert raised.value.where == settings["out"] and raised.value.hint


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: flip_a_byte(folder / "model.safetensors")])
def test_where_the_best_weights_are_lost_the_last_are_the_result_and_it_is_said(
    damage: Callable[[Path], None], settings: dict[str, Any]
) -> None:
    worse = {"optimizer.lr": 1.0, "schedule.kind": "constant", "schedule.warmup": 0, "validate.every": 2, "steps": 6}
    config, said = merge(settings, {**worse, "checkpoint.every": 100}), []
    checkpoints = Path(settings["out"]) / "checkpoints"

    def say(message: str) -> None:
        said.append(message)
        if message.startswith("step 6:"):
            for folder in checkpoints.iterdir():
                damage(folder)

    run = run_training(read_train_config(config), say=say)
    losses = {row["step"]: row["val_loss"] for row in run.metrics if "val_loss" in row}
    best = min((2, 4, 6), key=losses.__getitem__)
    assert best != 6, "or this would show nothing"
    assert any("the result is the last step's weights" in line and f"step-{best}" in line for line in said)
    assert (run.summary["best_step"], run.summary["val_loss"]) == (6, losses[6])
    last = checkpoints / "step-6" / "model.safetensors"
    assert (run.model / "model.safetensors").read_bytes() == last.read_bytes()


def test_what_an_interrupted_write_left_is_removed(settings: dict[str, Any], train: Train) -> None:
    config = merge(settings, {"validate.every": 10, "checkpoint.every": 3})
    folder = stopped_after(config, 10)
    left = folder / ".step-10.partial-abc"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    train(config)
    assert not left.exists()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size, where this process may make one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk may be mounted here")
    try:
        yield folder
    finally:
        # Lazily: a failed run's traceback may still hold a file that it had mapped into memory.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_during_a_save_leaves_the_last_checkpoint_and_the_same_command_finishes(
    settings: dict[str, Any], train: Train, curve: Curve, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "1200k") as disk:
        config = merge(settings, {"out": str(disk / "run"), "checkpoint.every": 1, "checkpoint.keep": 9})
        folder = disk / "run" / "checkpoints"
        for attempt in range(2):
            with pytest.raises(StorageError, match="cannot write: the disk is full") as raised:
                train(config)
            assert "step-3" in str(raised.value.where), attempt
            assert str(raised.value.hint).startswith("free some space and run the same command again")
            assert sorted(f.name for f in folder.iterdir()) == ["step-1", "step-2"], "and no half of a third"
            verify_folder(folder / "step-2")
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        trained = train(config)
        assert "resuming at step 2" in trained.said
        found = curve(trained.run.folder)
    assert found == curve(train(settings, out=str(tmp_path / "whole")).run.folder)


@pytest.mark.parametrize("file", ["metrics.jsonl", "run.log"])
def test_a_disk_that_fills_between_two_saves_gives_one_sentence(
    file: str, settings: dict[str, Any], train: Train, tmp_path: Path
) -> None:
    """Even the shortest line, when it no longer fits."""
    with small_disk(tmp_path / "small", "4m") as disk:
        settled = {"optimizer.lr": 1e-12, "checkpoint.every": 500, "validate.every": 1, "steps": 60}
        config = merge(settings, {"out": str(disk / "run"), **settled})

        def say(message: str) -> None:
            # From the second step on the loss does not fall, so nothing is saved; the next lines meet a full disk.
            if message.startswith("step 3:"):
                room = 4096 - (disk / "run" / file).stat().st_size % 4096
                other = disk / "run" / ({"metrics.jsonl", "run.log"} - {file}).pop()
                with (disk / "run" / file).open("a") as partly:
                    partly.write("\n" * (room - 10))
                with other.open("a") as roomy:
                    roomy.write("\n" * 8192)
                with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
                    while True:
                        filler.write(b"x" * 4096)

        with pytest.raises(StorageError, match="cannot write: the disk is full") as raised:
            run_training(read_train_config(config), say=say)
        assert str(raised.value.where) == str(disk / "run" / file)
        (disk / "filler").unlink()
        if file == "run.log":
            assert train(config, steps=5).run.summary["steps"] == 5


def test_a_disk_that_may_only_be_read_is_named(settings: dict[str, Any], train: Train, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StorageError, match="read-only") as raised:
            train(settings, out=str(disk / "run"))
        assert raised.value.where == str(disk / "run") and raised.value.hint == "choose a folder on a writable disk"


def test_what_was_read_from_a_checkpoint_does_not_hang_on_its_files(settings: dict[str, Any], train: Train) -> None:
    """A file that is mapped into memory keeps its space on the disk when it is deleted, until the process ends."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not tell what is mapped")
    config = merge(settings, {"validate.every": 10, "checkpoint.every": 3})
    stopped_after(config, 10)
    mapped: list[str] = []

    def say(message: str) -> None:
        if message.startswith("step 10:"):
            mapped.extend(line for line in maps.read_text().split("\n") if "/checkpoints/step-" in line)

    run_training(read_train_config(config), say=say)
    assert not mapped
