"""Whether kernels written in Triton run on a device; found out by running one, since they are compiled where they run."""

from __future__ import annotations

import importlib.util
import logging

import torch

log = logging.getLogger(__name__)


def triton_runs(device: torch.device) -> bool:
    """Whether they do: on CUDA, with Triton and all that it needs; the first time takes about a second."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    try:
        from .triton_layers import rms_norm

        with torch.cuda.device(device):
            ones = torch.ones(1, 16, device=device)
            return bool(torch.isfinite(rms_norm(ones, ones[0], 1e-5, False)).all())
    except Exception:
        log.exception("kernels in Triton do not run on this device, so answers are slower")
        return False
