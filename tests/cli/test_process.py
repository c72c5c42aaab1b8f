"""The command line as a process: what a shell sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "matplotlib", "huggingface_hub", "numpy", "pydantic", "typer", "rich")


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ownlm", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **options
    )  # type: ignore[call-overload]


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, ownlm; from ownlm.cli.main import main; main(['--help']); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.split("\n")[-2] == "[]"


def test_the_installed_command_gives_exit_codes_and_one_object():
    command = Path(sys.executable).with_name("ownlm")
    if not command.exists():
        pytest.skip("ownlm is not installed into this environment")
    child = subprocess.run([command, "modles", "--json"], capture_output=True, text=True)
    assert child.returncode == 2
    assert json.loads(child.stdout)["error"]["hint"] == "did you mean 'models'?"
    assert child.stderr == ""


def test_ctrl_c_ends_with_130_and_no_traceback(corpus: Path, tmp_path: Path):
    environment = {**os.environ, "OWNLM_HOME": str(tmp_path)}
    child = start("chat", str(corpus / "base"), env=environment)
    assert child.stdin is not None
    assert child.stderr is not None
    try:
        # The model is loaded once it says how to use it; from then on Ctrl-C leaves the conversation in good order.
        assert child.stderr.readline().startswith("Type a message")
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (child.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_ctrl_c_while_working_is_130(tmp_path: Path):
    # An input that never ends keeps the command at work, inside a library that does not look for signals itself.
    pipe = tmp_path / "endless.txt"
    os.mkfifo(pipe)
    child = start("tokenizer", "train", str(pipe), "--vocab-size", "300", "--out", str(tmp_path / "out"), "--json")
    try:
        with pipe.open("w"):
            # Opening succeeds once the command has begun to read.
            time.sleep(0.2)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert json.loads(out)["error"]["type"] == "interrupted"
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error_worth_a_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ownlm", "--help"]
    child = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert child.stderr == ""


def test_sigterm_while_training_saves_and_is_an_object_and_0(corpus: Path, tmp_path: Path):
    config = tmp_path / "config.yaml"
    shape = "{family: gpt2, layers: 1, width: 16, heads: 2, vocab_size: 320, max_positions: 32}"
    config.write_text(
        f"out: {tmp_path / 'run'}\nmodel: {shape}\ntokenizer: {corpus / 'tokenizer'}\ndevice: cpu\n"
        f"data: {{train: {corpus / 'train.jsonl'}}}\nbatch_tokens: 64\nsteps: 100000\n"
    )
    child = start("train", str(config), "--json", env={**os.environ, "OWNLM_HOME": str(tmp_path / "home")})
    metrics = tmp_path / "run" / "metrics.jsonl"
    try:
        while not metrics.is_file() and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0 and "Traceback" not in err
    error = json.loads(out)["error"]
    assert error["type"] == "interrupted" and error["message"].endswith("all of it is saved")
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
