"""Weights that are spread over two workers move as whole ones do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("spread_updates.py")


def test_updates_over_two_workers_are_those_of_one(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(tmp_path / "meeting")], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    differences = json.loads(outputs[0])
    assert len(differences) == 4 * 4 + 1
    for name, difference in differences.items():
        # Norms are summed in another order; every update is the same.
        assert difference <= (1e-4 if name == "clipped" or name.endswith("norm") else 0), name
