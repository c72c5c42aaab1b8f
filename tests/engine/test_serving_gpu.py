"""The benchmark that is meant for a GPU runs anywhere, in sizes that show nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serving_gpu.py"


def test_it_runs_and_prints_one_line_of_json() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--tiny"], env=os.environ, capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.strip().split("\n")
    found = json.loads(line)
    assert found["benchmark"] == "serving_gpu" and found["bandwidth"] > 0
    ours = found["shapes"]["tiny"]["ours"]
    assert min(value for value in ours.values() if isinstance(value, float)) >= 0
    # Its layers (qkv, output, up and down) and the head, which is the embedding; norms count or not.
    layer = 128 * (128 + 2 * 64) + 128 * 128 + 3 * 128 * 128
    matrices = 2 * (2 * layer + 512 * 128)
    assert matrices <= ours["weight_bytes"] <= matrices + 2 * 5 * 128
    assert "tiny many_tokens_per_second" in done.stderr
