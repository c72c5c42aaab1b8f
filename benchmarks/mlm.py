"""BERT masked-LM on texts of mixed lengths, beside Transformers' Trainer: real (unpadded) tokens/s, and the loss.

python benchmarks/mlm.py --peer PYTHON --turns 2
OMP_NUM_THREADS=1 python benchmarks/mlm.py --peer PYTHON     its cpu_ratio holds where other work shares the machine

The peer's script names its vocabulary file by a keyword that Transformers 5 no longer reads, and so trains on nothing but
unknown tokens with a vocabulary of five. ``--as-is`` runs it like that; otherwise the file is handed over as ``vocab``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import PEERS, machine_line, ratios

DATA = PEERS.parent / "data"
# The peer's script with its tokenizer mended, its losses kept, and its CPU time beside the time on the wall.
WATCHED = """
import json, runpy, sys, time
from transformers import BertTokenizerFast, Trainer
losses, clock = [], []
made, train = BertTokenizerFast.__init__, Trainer.training_step
def mended(self, *a, vocab_file=None, **k):
    made(self, *a, **k, **{"vocab_file" if as_is else "vocab": vocab_file})
def watched(self, *a, **k):
    clock.append(time.process_time())
    losses.append(train(self, *a, **k))
    return losses[-1]
as_is, sys.argv = sys.argv[1] == "as-is", sys.argv[2:]
BertTokenizerFast.__init__, Trainer.training_step = mended, watched
runpy.run_path(sys.argv[0], run_name="__main__")
losses = [float(loss) for loss in losses]
print(json.dumps({"losses": losses, "cpu_seconds": clock[-1] - clock[2], "steps": len(clock) - 3}))
"""


def texts(steps: int, batch: int) -> list[str]:
    """The peer's own texts in its own order (see its script)."""
    import torch

    rows = (DATA / "sst2" / "train.tsv").read_text().split("\n")[1:4001]
    found = [line.split("\t")[0] for line in rows]
    posts = sorted((DATA / "brand_voice_18f" / "18f_posts").glob("*.md"))[:200]
    found += [part.strip() for post in posts for part in post.read_text().split("\n\n") if len(part) > 200]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(1)).tolist()
    return [found[i] for i in order][: steps * batch]


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same texts cut at 256 tokens as the peer's are, and as many real tokens a step."""
    import tokenizers

    import ownlm
    from ownlm.tokens.tokenizer import Tokenizer

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        vocabulary = str(DATA / "tokenizers" / "bert_base_uncased_vocab.txt")
        backend = tokenizers.BertWordPieceTokenizer(vocabulary)._tokenizer
        names = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "mask", "pad", "unk")}
        (folder / "tokenizer").mkdir()
        Tokenizer(backend, names=names).save(folder / "tokenizer")
        # Cut as the peer cuts, so that both learn from the same tokens.
        rows = texts(arguments.steps, arguments.batch)
        encoded = [backend.encode(text, add_special_tokens=False) for text in rows]
        kept = [text[: e.offsets[min(len(e.ids), 254) - 1][1]] for text, e in zip(rows, encoded, strict=True) if e.ids]
        tokens = sum(min(len(e.ids), 254) + 2 for e in encoded)
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in kept))
        shape = {"family": "bert", "layers": arguments.layers, "width": arguments.width, "vocab_size": 30522}
        clock = _clock()
        run = ownlm.train(
            {
                "out": str(folder / "run"),
                "model": shape | {"heads": arguments.width // 64, "max_positions": 512},
                "tokenizer": str(folder / "tokenizer"),
                "objective": {"kind": "masked"},
                "data": {"train": str(folder / "texts.jsonl"), "length": 256},
                "batch_tokens": round(tokens / arguments.steps),
                "steps": arguments.steps,
                "precision": "bf16",
                # The Trainer's own: 5e-5 falling along a line, without decay.
                "optimizer": {"lr": 5e-5, "weight_decay": 0.0, "betas": [0.9, 0.999]},
                "schedule": {"kind": "linear", "warmup": 0, "floor": 0.0},
                "dropout": 0.1,
                "checkpoint": {"every": 10**9},
            }
        )
        speeds = sorted(row["tokens_per_second"] for row in run.metrics[2:])
        losses = [row["loss"] for row in run.metrics]
        memory = run.summary["peak_memory_bytes"]
        read = run.metrics[-1]["tokens"] - run.metrics[1]["tokens"]
    result = {"real_tokens_per_second": speeds[len(speeds) // 2]}
    result["real_tokens_per_cpu_second"] = round(read / (clock[-1] - clock[1]), 1)
    return result | {"losses": losses, "last": _mean_of_last(losses), "peak_bytes": memory}


def _mean_of_last(losses: list[float]) -> float:
    """Over the last fifth of the steps: a single step's loss scatters by a tenth."""
    last = losses[-max(1, len(losses) // 5) :]
    return round(sum(last) / len(last), 4)


def _clock() -> list[float]:
    """The CPU time at the end of each step of the training that follows."""
    from ownlm.train.loop import Loop

    times: list[float] = []
    step = Loop._step

    def stepped(self: Loop, *arguments: Any) -> float:
        loss = step(self, *arguments)
        times.append(time.process_time())
        return loss

    Loop._step = stepped  # type: ignore[method-assign]
    return times


def theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """The peer's script, mended unless told otherwise."""
    script = str(PEERS / "hf_mlm.py")
    given = [
        text for name in ("layers", "width", "batch", "steps") for text in (f"--{name}", str(getattr(arguments, name)))
    ]
    command = [arguments.peer, "-c", WATCHED, "as-is" if arguments.as_is else "mended", script]
    done = subprocess.run([*command, *given], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = {}
    for line in done.stdout.split("\n"):
        if line.startswith("{") and '"' in line[:3]:
            result |= json.loads(line)
    result["last"] = _mean_of_last(result["losses"])
    tokens = result["mean_length"] * arguments.batch * result.pop("steps")
    result["real_tokens_per_cpu_second"] = round(tokens / result.pop("cpu_seconds"), 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"layers": 6, "width": 384, "batch": 16, "steps": 12, "turns": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peer", help="the Python of an environment with the peer installed")
    parser.add_argument("--as-is", action="store_true", help="the peer's script with its vocabulary of five")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(ours(arguments)))
        return
    mine, others = [], []
    names = ("layers", "width", "batch", "steps")
    given = [text for name in names for text in (f"--{name}", str(getattr(arguments, name)))]
    for _ in range(arguments.turns):
        command = [sys.executable, __file__, "--once", *given]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        mine.append(json.loads(done.stdout.strip().split("\n")[-1]))
        if arguments.peer:
            others.append(theirs(arguments))
    result: dict[str, Any] = {"benchmark": "mlm", "machine": machine_line(), "ours": mine}
    if others:
        result["peer"] = others
        for name, kind in (("speed_ratio", "second"), ("cpu_ratio", "cpu_second")):
            result[name] = ratios(*([run[f"real_tokens_per_{kind}"] for run in runs] for runs in (mine, others)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
