"""Where one GPT-2 training step goes on a CPU: each part's seconds, beside its products alone and the matrix rate.

OMP_NUM_THREADS=1 python benchmarks/step.py           one thread, by CPU time: comparable on a busy machine
python benchmarks/step.py --wall                      all threads, by the clock
OWNLM_KERNELS=off python benchmarks/step.py           plain torch

Everything is timed in turn with a 2,048-square product, whose best time is the machine's rate; parts are the best of
``--repeats`` steps, so they add up to a little less than the step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from measure import machine_line


class Parts:
    """Seconds of every framework operation and every kernel of ours while it watches."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}

    def add(self, name: str, began: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - began

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Times what runs inside the block."""
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        from ownlm.model.kernels import calls

        parts, plain = self, calls._call

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
                began = parts.clock()
                result = operation(*arguments, **(keywords or {}))
                sizes = [tuple(x.shape) for x in arguments if isinstance(x, torch.Tensor)]
                name = f"{operation.overloadpacket} {sizes}" if "mm" in str(operation) else str(operation)
                parts.add(name, began)
                return result

        def called(name: str, *arguments: object) -> None:
            began = parts.clock()
            plain(name, *arguments)
            parts.add(f"kernel {name}", began)

        calls._call = called
        try:
            with Watch():
                yield
        finally:
            calls._call = plain


def products(arguments: argparse.Namespace) -> list[tuple[Any, Any]]:
    """Every product of a step as a pair of operands that suit the library, head included; attention's are left out."""
    import torch

    tokens, width, pairs = arguments.batch * arguments.length, arguments.width, []
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] * arguments.layers
    for inputs, outputs in [*shapes, (width, arguments.vocab)]:
        for m, k, n in ((tokens, inputs, outputs), (tokens, outputs, inputs), (outputs, tokens, inputs)):
            pairs.append(tuple(torch.empty(*sizes, dtype=torch.bfloat16).normal_() for sizes in ((m, k), (k, n))))
    return pairs


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from ownlm.model.checkpoint import random_model
    from ownlm.model.families import config_from_user
    from ownlm.train.memory import prepare_memory

    prepare_memory(torch.device("cpu"))
    clock = time.perf_counter if arguments.wall else time.thread_time
    shape = {"family": "gpt2", "layers": arguments.layers, "width": arguments.width, "heads": arguments.heads}
    config = config_from_user(shape | {"vocab_size": arguments.vocab, "max_positions": arguments.length})
    model = random_model(config, seed=0)
    model.compute_dtype = torch.bfloat16
    rows = arguments.batch * arguments.length
    tokens = torch.randint(arguments.vocab, (rows,), generator=torch.Generator().manual_seed(0))
    positions, weights = torch.arange(arguments.length).repeat(arguments.batch), torch.full((rows,), 1 / rows)
    starts = list(range(0, rows + 1, arguments.length))

    def step() -> None:
        from ownlm.model.cross_entropy import linear_cross_entropy
        from ownlm.model.packed import Packed

        hidden = model(tokens, positions, Packed(starts, rows))
        linear_cross_entropy(hidden, model.head_weight, tokens.roll(-1), weights).backward()
        model.zero_grad()

    square, parts = torch.randn(2048, 2048).bfloat16(), Parts(clock)
    best: dict[str, float] = {}

    def timed(name: str, what: Callable[[], object]) -> None:
        began = clock()
        what()
        best[name] = min(best.get(name, float("inf")), clock() - began)

    step()
    lowest: dict[str, float] = {}
    for _ in range(arguments.repeats):
        timed("square", lambda: square @ square)
        timed("step", step)
        timed("square", lambda: square @ square)
        parts.seconds.clear()
        with parts.watching():
            step()
        lowest = {name: min(lowest.get(name, float("inf")), value) for name, value in parts.seconds.items()}
    pairs = products(arguments)
    for _ in range(2):
        timed("products", lambda: [a @ b for a, b in pairs])
    rate, flops = 2 * 2048**3 / best["square"], config.flops_per_token(arguments.length) * rows
    largest = sorted(lowest.items(), key=lambda item: -item[1])
    return {
        "matmul_flops_per_second": round(rate),
        "seconds": round(best["step"], 3),
        "share_of_matmul_rate": round(flops / best["step"] / rate, 3),
        "products_alone_seconds": round(best["products"], 3),
        "parts": {name: [round(value, 4), round(value / best["step"], 3)] for name, value in largest[: arguments.top]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shape = {"layers": 12, "heads": 12, "width": 768, "vocab": 50257, "length": 512, "batch": 4}
    for name, value in {**shape, "repeats": 4, "top": 24}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--wall", action="store_true", help="time by the clock instead of one thread's CPU time")
    arguments = parser.parse_args()
    kernels = os.environ.get("OWNLM_KERNELS", "on")
    print(json.dumps({"benchmark": "step", "machine": machine_line(), "kernels": kernels} | measured(arguments)))


if __name__ == "__main__":
    main()
