"""Nothing lost: killed at any moment or out of space, what was saved before is whole, and damage is named."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import DamagedError, StorageError
from ownlm.files import remove_partial, verify_folder, write_bytes, write_json
from ownlm.model.checkpoint import load_model_folder, save_model_folder
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training

WRITER = """
import sys
from pathlib import Path
from ownlm.files import new_folder, write_json
place, number = Path(sys.argv[1]), int(sys.argv[2])
while True:
    number += 1
    write_json(place / "state.json", {"number": number, "fill": "x" * 300_000})
    with new_folder(place / "model") as new:
        for name in "abc":
            (new / name).write_text(str(number) * 50_000)
    print(number, flush=True)
"""


def saved_numbers(place: Path) -> tuple[int, int]:
    """The number in the file and the one in the folder, both checked to be whole."""
    state = json.loads((place / "state.json").read_text())
    assert state["fill"] == "x" * 300_000
    verify_folder(place / "model")
    texts = {(place / "model" / name).read_text() for name in "abc"}
    assert len(texts) == 1
    text = texts.pop()
    number = int(text[: len(text) // 50_000])
    assert text == str(number) * 50_000
    return state["number"], number


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path):
    draw = random.Random(5)
    last = (0, 0)
    for _ in range(12):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(max(last))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(draw.randint(1, 3)):
                writer.stdout.readline()
            # The next writes take some milliseconds; the kill falls somewhere into them.
            time.sleep(draw.random() * 0.02)
            writer.kill()
        remove_partial(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "state.json"]
        now = saved_numbers(tmp_path)
        assert now > last
        assert now[1] in (now[0], now[0] - 1)
        last = now


def test_a_file_beyond_the_limit_leaves_what_stood_there(tmp_path: Path):
    path = tmp_path / "state.json"
    write_json(path, {"number": 1})
    code = (
        "import resource, sys; from pathlib import Path; from ownlm.errors import StorageError\n"
        "from ownlm.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_bytes(Path(sys.argv[1]), b'x' * 200_000)\n"
        "except StorageError as error: print(error.message, '|', error.hint)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert child.stdout.startswith("cannot write: ")
    assert json.loads(path.read_text()) == {"number": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_weights_beyond_the_limit_are_an_error_in_one_sentence(tmp_path: Path):
    code = (
        "import resource, sys, torch; from pathlib import Path; from ownlm.errors import StorageError\n"
        "from ownlm.files import new_folder; from ownlm.model.checkpoint import save_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    with new_folder(Path(sys.argv[1])) as new: save_tensors({'w': torch.zeros(50_000)}, new / 'w.safetensors')\n"
        "except StorageError as error: print(error.message)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], capture_output=True, text=True)
    assert child.stdout == "cannot write: file too large\n", child.stderr
    assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A real file system of this size; only the superuser may make one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        made = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    except (OSError, AttributeError):
        made = False
    if not made:
        pytest.skip("a small file system can be mounted only by the superuser, outside a locked container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_files_and_models_as_they_were(corpus: Path, tmp_path: Path):
    model = load_model_folder(corpus / "base")
    with small_disk(tmp_path / "disk", "400k") as disk:
        write_bytes(disk / "state", b"before")
        save_model_folder(model, disk / "model")
        verify_folder(disk / "model")
        with pytest.raises(StorageError, match="the disk is full"):
            write_bytes(disk / "state", b"x" * 1_000_000)
        write_bytes(disk / "ballast", b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 40_000))
        with pytest.raises(StorageError, match="the disk is full"):
            save_model_folder(model, disk / "model")
        assert (disk / "state").read_bytes() == b"before"
        verify_folder(disk / "model")
        assert sorted(p.name for p in disk.iterdir()) == ["ballast", "model", "state"]


def test_a_run_that_filled_the_disk_goes_on_once_there_is_space(settings: dict[str, Any], tmp_path: Path):
    whole = run_training(read_train_config({**settings, "out": str(tmp_path / "whole")}), say=lambda line: None)
    with small_disk(tmp_path / "disk", "900k") as disk:
        config = read_train_config({**settings, "out": str(disk / "run")})
        with pytest.raises(StorageError, match="the disk is full"):
            run_training(config, say=lambda line: None)
        subprocess.run(["mount", "-o", "remount,size=20M", str(disk)], check=True)
        resumed = run_training(config, say=lambda line: None)
        losses = [[line["loss"] for line in run.metrics if "loss" in line] for run in (whole, resumed)]
        assert losses[0] == losses[1]


@pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
def test_a_model_with_one_bit_flipped_is_refused_and_the_file_named(corpus: Path, tmp_path: Path, place: float):
    save_model_folder(load_model_folder(corpus / "base"), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[int(place * len(content))] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DamagedError) as caught:
        load_model_folder(tmp_path / "model")
    assert caught.value.where == str(weights)
