"""Recording into CUDA graphs: in what order the framework is asked, and on a GPU what comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ownlm.engine.graphs import CudaRecorder


class Cuda:
    """Keeps what the framework is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.recording = False

    def run(self) -> torch.Tensor:
        self.asked.append("recorded" if self.recording else "run")
        return torch.zeros(1)

    def put_into(self, patch: pytest.MonkeyPatch) -> None:
        asked, outer = self.asked, self

        class Stream:
            def __init__(self, name: str = "side") -> None:
                self.name = name

            def wait_stream(self, other: Stream) -> None:
                asked.append(f"{self.name} waits for {other.name}")

        class Graph:
            def pool(self) -> tuple[int, int]:
                return (7, 7)

            def replay(self) -> None:
                asked.append("replay")

        @contextlib.contextmanager
        def graph(_: Graph, pool: Any, capture_error_mode: str) -> Iterator[None]:
            asked.append(("begin", pool, capture_error_mode))
            outer.recording = True
            yield
            outer.recording = False

        current = Stream("current")
        patch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "current_stream", lambda: current)
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "graph", graph)


def test_a_pass_is_warmed_up_then_recorded_and_recordings_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda()
    cuda.put_into(monkeypatch)
    recorder = CudaRecorder(torch.device("cuda"))
    for pool in (None, (7, 7)):
        cuda.asked.clear()
        replay = recorder.record(cuda.run)
        assert cuda.asked == [
            "side waits for current",
            "run",
            "run",
            "current waits for side",
            ("begin", pool, "thread_local"),
            "recorded",
        ]
        assert replay() is replay()
        assert cuda.asked[-2:] == ["replay", "replay"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_does_again_what_was_recorded() -> None:
    recorder = CudaRecorder(torch.device("cuda"))
    source = torch.arange(4.0, device="cuda")
    replays = [recorder.record(lambda factor=factor: source * factor) for factor in (2, 3)]
    for start in (1.0, 5.0):
        source.copy_(torch.arange(4.0) + start)
        for replay, factor in zip(replays, (2, 3), strict=True):
            assert replay().tolist() == [(start + place) * factor for place in range(4)]
