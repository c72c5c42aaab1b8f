"""LoRA on support conversations: real tokens/s, peak memory, held-out loss, beside Transformers' Trainer with PEFT.

    python benchmarks/finetune.py --base MODEL                              ours alone
    python benchmarks/finetune.py --base MODEL --peer PYTHON --gguf FILE    in turn with the peer, A B A B

The same 160 + 40 conversations, rank, learning rate, epochs and conversations an update as ``peers/hf_sft.py``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import PEERS, machine_line, peer, ratios

DATA = PEERS.parent / "data"


def conversations(train: int, held: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The peer's conversations: the same permutation of the same file."""
    import torch

    path = DATA / "bitext_support" / "bitext_support_long_responses.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(7)).tolist()[: train + held]
    pairs = [{"prompt": rows[i]["instruction"], "response": rows[i]["response"]} for i in order]
    return pairs[:train], pairs[train:]


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """One epoch through the public API."""
    import ownlm

    train, held = conversations(arguments.train, arguments.held)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, rows in (("train", train), ("held", held)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = ownlm.train(
            {
                "out": str(folder / "run"),
                "base": arguments.base,
                "tokenizer": arguments.tokenizer,
                "adapter": {"rank": arguments.rank},
                "data": {"train": str(folder / "train.jsonl"), "validation": str(folder / "held.jsonl")},
                "objective": {"kind": "chat"},
                "batch_tokens": arguments.batch_tokens,
                "epochs": 1,
                # The peer's schedule, a line from the first step to the last, whose rate is a twentieth.
                "schedule": {"kind": "wsd", "warmup": 0, "decay": 1.0, "floor": 0.05},
                "optimizer": {"lr": arguments.lr, "betas": [0.9, 0.999], "weight_decay": 0.0},
                "precision": "bf16",
                "validate": {"every": 10**9},
                "checkpoint": {"every": 10**9},
            }
        )
        summary = run.summary
    return {
        "real_tokens": summary["tokens"],
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "real_tokens_per_second": round(summary["tokens"] / summary["seconds"], 1),
        "held_out_loss_before": round(summary["val_loss_before"], 4),
        "held_out_loss_after": round(summary["val_loss"], 4),
        "peak_bytes": summary["peak_memory_bytes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = {"train": 160, "held": 40, "rank": 16, "batch_tokens": 1536, "turns": 2}
    for name, value in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--tokenizer", help="the tokenizer's folder, to compare losses over the very same tokens")
    parser.add_argument("--peer", help="the Python of an environment with the peer installed")
    parser.add_argument("--gguf", help="the same model as a GGUF file, for the peer")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(ours(arguments)))
        return
    mine, theirs = [], []
    for _ in range(arguments.turns):
        done = subprocess.run(
            [sys.executable, __file__, "--once", *sys.argv[1:]], stdout=subprocess.PIPE, text=True, check=True
        )
        mine.append(json.loads(done.stdout.strip().split("\n")[-1]))
        if arguments.peer:
            shape = ["--train", str(arguments.train), "--held", str(arguments.held), "--rank", str(arguments.rank)]
            theirs.append(peer(arguments.peer, "hf_sft.py", "--gguf", arguments.gguf, *shape))
    result: dict[str, Any] = {"benchmark": "finetune", "machine": machine_line(), "ours": mine}
    if theirs:
        result["peer"] = theirs
        speeds = ([run["real_tokens_per_second"] for run in runs] for runs in (mine, theirs))
        result["speed_ratio"] = ratios(*speeds)
        result["memory_ratio"] = ratios(*([run["peak_bytes"] for run in runs] for runs in (mine, theirs)))
        result["loss_difference"] = round(mine[-1]["held_out_loss_after"] - theirs[-1]["held_out_loss_after"], 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
