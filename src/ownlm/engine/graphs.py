"""A pass recorded once and replayed: on CUDA all its kernels are launched by one call (CUDA graphs).

Whatever is recorded must read its inputs from, and leave its output in, memory that stays where it is, and must not wait
for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class Recorder(Protocol):
    """Records passes."""

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What does again what ``run`` does, and gives the same tensor with new values each time.

        ``run`` itself is called more than once meanwhile, so doing it again must change nothing.
        """
        ...


class CudaRecorder:
    """Records into CUDA graphs that share their memory: only one runs at a time, and its output is read before the next.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # The framework's name for the memory; what type it has differs between its versions.
        self._pool: Any = None

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """See ``Recorder``."""
        with torch.cuda.device(self._device):
            # What is done on first use (kernels compiled, workspaces made) cannot be recorded, so it is done before, and
            # on another stream, as the framework asks for.
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device for something else meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                out = run()
            self._pool = graph.pool()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay
