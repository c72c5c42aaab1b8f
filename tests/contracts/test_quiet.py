"""Quiet: no network call unless the user names a remote source. No telemetry.

A process of its own does a user's whole day with local files while an audit hook, which Python calls before every
look-up and connection, notes and refuses them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

WATCHED = """
import json, sys

calls = []

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto"):
        calls.append(event + " " + repr(arguments))
        raise OSError("no network in this test")
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        calls.append(event + " " + repr(arguments[1]))
        raise OSError("no network in this test")

sys.addaudithook(watch)

from ownlm.cli.main import main

codes = [main(line) for line in json.loads(sys.argv[1])]
print(json.dumps({"codes": codes, "calls": calls}), file=open(sys.argv[2], "w"))
"""


def do(lines: list[list[str]], tmp_path: Path, home: Path) -> dict[str, Any]:
    """Runs command lines one after another in one watched process; returns their exit codes and what was tried."""
    answer = tmp_path / "answer.json"
    command = [sys.executable, "-c", WATCHED, json.dumps(lines), str(answer)]
    child = subprocess.run(command, cwd=tmp_path, env={**os.environ, "OWNLM_HOME": str(home)})
    assert child.returncode == 0
    return json.loads(answer.read_text())


def test_a_day_with_local_files_makes_no_network_call(settings: dict[str, Any], corpus: Path, tmp_path: Path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    run = settings["out"]
    lines = [
        ["--help"],
        ["doctor", "--json"],
        ["models"],
        ["tokenizer", "train", str(corpus / "train.jsonl"), "--vocab-size", "300", "--out", "tok"],
        ["train", str(config), "steps=2"],
        ["generate", run, "--prompt", "the model", "--max-tokens", "2"],
        ["data", "show", run, "--html", "batch.html"],
        ["export", run, "--to", "hf", "--out", "exported"],
        ["export", run, "--to", "gguf", "--out", "exported.gguf"],
    ]
    result = do(lines, tmp_path, tmp_path / "home")
    assert result == {"codes": [0] * len(lines), "calls": []}


def test_the_watch_would_notice(tmp_path: Path):
    # A name of the hub is a remote source, so here a call is due: the hook must see it.
    result = do([["pull", "hf:nobody/nothing", "--json"]], tmp_path, tmp_path / "home")
    assert result["codes"] == [1]
    assert result["calls"]
