r"""GPT-2 from random weights, one process: tokens/s and peak memory, beside Transformers' Trainer.

python benchmarks/pretrain.py                         ours alone
python benchmarks/pretrain.py --peer PYTHON --turns 2 in turn with the peer, A B A B

On a GPU, half a million tokens an update, and a Llama of 1.2 billion parameters:

python benchmarks/pretrain.py --length 1024 --batch 512 --steps 12 --turns 1 --peer PYTHON --peer-batch 64
python benchmarks/pretrain.py --family llama --layers 16 --width 2048 --heads 32 --kv-heads 8 --feedforward 8192 \
    --vocab 32000 --length 2048 --batch 128 --steps 6 --turns 1
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import machine_line, matmul_rate, on_gpu, peer, ratios


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """A run through the public API on random tokens, as the peer's: the same shape, batch and steps."""
    import numpy as np
    import tokenizers

    import ownlm
    from ownlm.model.families import config_from_user
    from ownlm.tokens.shards import ShardWriter
    from ownlm.tokens.tokenizer import Tokenizer

    names = {"family": "family", "layers": "layers", "width": "width", "heads": "heads", "kv_heads": "kv_heads"}
    names |= {"feedforward": "feedforward_width", "vocab": "vocab_size", "length": "max_positions"}
    model = {key: value for name, key in names.items() if (value := getattr(arguments, name)) is not None}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = {f"t{number}": number for number in range(arguments.vocab)}
        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t0"))
        tokenizer = Tokenizer.from_parts(backend, bos=None, eos=None, pad=None, chat_template=None)
        (folder / "tokenizer").mkdir()
        tokenizer.save(folder / "tokenizer")
        random = np.random.default_rng(0)
        info = {"tokenizer": ownlm.load_tokenizer(folder / "tokenizer").fingerprint}
        with ShardWriter(folder / "data", arguments.vocab, info) as writer:
            for _ in range(arguments.batch * arguments.steps):
                writer.add(random.integers(0, arguments.vocab, arguments.length))
        run = ownlm.train(
            {
                "out": str(folder / "run"),
                "model": model,
                "tokenizer": str(folder / "tokenizer"),
                "data": {"train": str(folder / "data")},
                "batch_tokens": arguments.batch * arguments.length,
                "steps": arguments.steps,
                "precision": "bf16",
                "checkpoint": {"every": 10**9},
            }
        )
        speeds = sorted(line["tokens_per_second"] for line in run.metrics[2:])
        speed = speeds[len(speeds) // 2]
        flops = config_from_user(model).flops_per_token(arguments.length)
        peak = run.summary["peak_memory_bytes"]
    return {"tokens_per_second": speed, "peak_bytes": peak, "flops_per_second": speed * flops}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shape = {"layers": 12, "heads": 12, "width": 768, "vocab": 50257, "length": 512, "batch": 4}
    for name, value in {**shape, "steps": 8, "turns": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--family", default="gpt2", help="ours alone: the peer's script knows gpt2")
    parser.add_argument("--kv-heads", type=int)
    parser.add_argument("--feedforward", type=int)
    parser.add_argument(
        "--peer-batch", type=int, help="the peer's documents a step, where ours do not fit into its memory"
    )
    parser.add_argument("--peer", help="the Python of an environment with the peer installed")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(ours(arguments)))
        return
    names = ("layers", "heads", "width", "vocab", "length", "batch", "steps")
    given = [text for name in names for text in (f"--{name}", str(getattr(arguments, name)))]
    own = ["--family", arguments.family]
    for name in ("kv-heads", "feedforward"):
        value = getattr(arguments, name.replace("-", "_"))
        own += [] if value is None else [f"--{name}", str(value)]
    mine, theirs = [], []
    for _ in range(arguments.turns):
        command = [sys.executable, __file__, "--once", *given, *own]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        mine.append(json.loads(done.stdout.strip().split("\n")[-1]))
        if arguments.peer:
            more = [] if arguments.peer_batch is None else ["--batch", str(arguments.peer_batch)]
            theirs.append(peer(arguments.peer, "hf_pretrain.py", *given, *more))
    rate = matmul_rate(size=8192 if on_gpu() else 2048)
    result: dict[str, Any] = {"benchmark": "pretrain", "machine": machine_line(), "ours": mine}
    result["share_of_matmul_rate"] = round(max(run["flops_per_second"] for run in mine) / rate, 3)
    result["matmul_flops_per_second"] = round(rate)
    if theirs:
        result["peer"] = theirs
        result["speed_ratio"] = ratios(*([run["tokens_per_second"] for run in runs] for runs in (mine, theirs)))
        result["memory_ratio"] = ratios(*([run["peak_bytes"] for run in runs] for runs in (mine, theirs)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
