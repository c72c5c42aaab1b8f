"""Preparing data: MB/s a core from files to signals, and how much memory ten times the input takes.

    python benchmarks/data.py                      20 MB, then the whole command on 10 and on 100 MB
    python benchmarks/data.py --megabytes 100

The first figure is one process on one core, by its CPU time: JSON Lines read, text repaired, every signal measured,
personal data found, three tables written. The second is the peak memory of ``ownlm data build --workers 1``: of the worker, which
does all that touches texts, of the main process, which compares fingerprints, and of both, without pages of mapped files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from corpus import write_json_lines

RECIPE = """
sources: [{{name: corpus, path: {path}}}]
filters: {{preset: none}}
tokenizer: {tokenizer}
split: {{validation: 0.05}}
"""


def to_signals(folder: Path, megabytes: float) -> dict[str, Any]:
    """One process: files to text, signals and personal data, by CPU time."""
    from ownlm.data.pipeline import _plan
    from ownlm.data.recipe import Recipe
    from ownlm.data.stages import FINGERPRINTS, work_on_shard
    from ownlm.data.store import Store

    path = folder / "corpus.jsonl"
    size = write_json_lines(path, megabytes)
    recipe = Recipe.model_validate(
        {"sources": [{"name": "corpus", "path": str(path)}], "duplicates": {"exact": False, "near": None}}
    )
    rates = {}
    for turn in ("cold", "warm"):
        works = _plan(recipe, Store(folder / turn), ()).works
        assert FINGERPRINTS not in works[0].keys
        began = time.process_time()
        for work in works:
            work_on_shard(work, {}, lambda place: None)
        rates[turn] = round(size / 1e6 / (time.process_time() - began), 2)
    return {"megabytes": round(size / 1e6, 1), "megabytes_per_cpu_second": rates}


def whole_build(folder: Path, megabytes: float, tokenizer: Path) -> dict[str, Any]:
    """The command, with the peak memory of its processes."""
    folder.mkdir()
    size = write_json_lines(folder / "corpus.jsonl", megabytes)
    (folder / "recipe.yaml").write_text(RECIPE.format(path=folder / "corpus.jsonl", tokenizer=tokenizer))
    command = [
        sys.executable,
        "-m",
        "ownlm",
        "data",
        "build",
        str(folder / "recipe.yaml"),
        "--out",
        str(folder / "out"),
        "--json",
        "--workers",
        "1",
    ]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peaks: dict[str, int] = {"main": 0, "worker": 0, "all": 0}
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    watcher.start()
    output, errors = process.communicate()
    seconds = time.monotonic() - began
    assert process.returncode == 0, errors.decode()
    answer = json.loads(output)
    return {
        "megabytes": round(size / 1e6, 1),
        "documents": answer["documents"]["read"],
        "kept": answer["documents"]["kept"],
        "seconds": round(seconds, 1),
        "peak_bytes": peaks,
    }


def _watch(parent: int, peaks: dict[str, int]) -> None:
    """Follows the private and shared memory of a process and its children."""
    while Path(f"/proc/{parent}").is_dir():
        sizes = {pid: _resident(pid) for pid in [parent, *_children(parent)]}
        peaks["main"] = max(peaks["main"], sizes[parent])
        peaks["worker"] = max(peaks["worker"], *(size for pid, size in sizes.items() if pid != parent), 0)
        peaks["all"] = max(peaks["all"], sum(sizes.values()))
        time.sleep(0.02)


def _resident(pid: int) -> int:
    """Resident memory without pages of mapped files, which the kernel drops when it needs room."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument(
        "--build", type=float, default=10, help="millions of bytes of the smaller whole build; 0 for none"
    )
    parser.add_argument(
        "--tokenizer", type=Path, required=False, help="a tokenizer's folder; one is trained without it"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        result: dict[str, Any] = {"to_signals": to_signals(folder, arguments.megabytes)}
        if arguments.build:
            tokenizer = arguments.tokenizer or _tokenizer(folder)
            small, large = (whole_build(folder / str(n), n * arguments.build, tokenizer) for n in (1, 10))
            growth = {
                name: round(large["peak_bytes"][name] / small["peak_bytes"][name], 3) for name in small["peak_bytes"]
            }
            result |= {"small": small, "large": large, "memory_growth": growth}
    print(json.dumps(result))


def _tokenizer(folder: Path) -> Path:
    from corpus import documents

    from ownlm.tokens.train_bpe import train_tokenizer

    train_tokenizer(documents(3), 8192).save(folder / "tokenizer")
    return folder / "tokenizer"


if __name__ == "__main__":
    main()
