"""What every benchmark shares: the machine's own limits, a peer in turn with ours, one JSON line."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

# The peers' scripts, beside the checkout unless the environment names another folder.
PEERS = Path(os.environ.get("OWNLM_PEERS") or Path(__file__).resolve().parents[1].parent / "shared" / "peers")


def peer(python: str, script: str, *arguments: str) -> dict[str, Any]:
    """Runs a peer script with its own environment's Python and reads its last line."""
    command = [python, str(PEERS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().split("\n")[-1])


def matmul_rate(dtype_name: str = "bfloat16", size: int = 2048, repeats: int = 12) -> float:
    """The machine's measured rate of square matrix products, in FLOP/s: the best of several."""
    import torch

    dtype = getattr(torch, dtype_name)
    device = "cuda" if on_gpu() else "cpu"
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        product = a @ b
        if product.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def on_gpu() -> bool:
    """Whether this machine has a GPU that is used."""
    import torch

    return torch.cuda.is_available()


def machine_line() -> str:
    """The machine in a few words."""
    import torch

    what = torch.cuda.get_device_name() if on_gpu() else f"{platform.machine()}, {torch.get_num_threads()} threads"
    return f"{what}, torch {torch.__version__}"


def ratios(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios, run by run: what a noisy machine leaves comparable."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)
