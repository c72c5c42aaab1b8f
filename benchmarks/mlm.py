"""BERT masked-LM on texts of mixed lengths, beside Transformers' Trainer: real (unpadded) tokens/s, and the loss.

python benchmarks/mlm.py --peer PYTHON --turns 2
python benchmarks/mlm.py --peer PYTHON --turns 3 --steps 150     the loss too: each turn is another seed for both
OMP_NUM_THREADS=1 python benchmarks/mlm.py --peer PYTHON     its cpu_ratio holds where other work shares the machine

The peer's script names its vocabulary file by a keyword that Transformers 5 no longer reads, and so trains on nothing but
unknown tokens with a vocabulary of five. ``--as-is`` runs it like that; otherwise the file is handed over as ``vocab``.

Both end as model folders, and one scorer reads both: the same hidden tokens of the same texts that neither was trained on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import PEERS, machine_line, ratios

DATA = PEERS.parent / "data"
# The peer's script with its tokenizer mended, another seed, its losses and its model kept, and its CPU time beside the
# time on the wall.
WATCHED = """
import json, runpy, sys, time
import torch
from transformers import BertTokenizerFast, Trainer
losses, clock, trainers = [], [], []
seed, folder = int(sys.argv[2]), sys.argv[3]
seeded = torch.manual_seed
torch.manual_seed = lambda given: seeded(given + seed)
made, train = BertTokenizerFast.__init__, Trainer.training_step
def mended(self, *a, vocab_file=None, **k):
    made(self, *a, **k, **{"vocab_file" if as_is else "vocab": vocab_file})
def watched(self, *a, **k):
    clock.append(time.process_time())
    losses.append(train(self, *a, **k))
    trainers[:] = [self]
    return losses[-1]
as_is, sys.argv = sys.argv[1] == "as-is", sys.argv[4:]
BertTokenizerFast.__init__, Trainer.training_step = mended, watched
runpy.run_path(sys.argv[0], run_name="__main__")
losses = [float(loss) for loss in losses]
trainers[0].model.float().save_pretrained(folder)
print(json.dumps({"losses": losses, "cpu_seconds": clock[-1] - clock[2], "steps": len(clock) - 3}))
"""


def all_texts() -> list[str]:
    """The peer's own texts in its own order (see its script); it trains on the first so many."""
    import torch

    rows = (DATA / "sst2" / "train.tsv").read_text().split("\n")[1:4001]
    found = [line.split("\t")[0] for line in rows]
    posts = sorted((DATA / "brand_voice_18f" / "18f_posts").glob("*.md"))[:200]
    found += [part.strip() for post in posts for part in post.read_text().split("\n\n") if len(part) > 200]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(1)).tolist()
    return [found[i] for i in order]


def word_pieces() -> Any:
    """BERT's own tokenizer."""
    import tokenizers

    return tokenizers.BertWordPieceTokenizer(str(DATA / "tokenizers" / "bert_base_uncased_vocab.txt"))._tokenizer


def held_out_loss(folder: Path, texts: list[str]) -> float:
    """Nats a hidden token: one in seven of each text's, chosen by its place, so the same for every model."""
    import torch
    import torch.nn.functional as F

    import ownlm

    backend, model = word_pieces(), ownlm.load_model(str(folder), dtype="float32")
    generator, losses = torch.Generator().manual_seed(0), []
    for text in texts:
        ids = torch.tensor(backend.encode(text).ids[:256])
        hidden = torch.rand(len(ids), generator=generator) < 0.15
        hidden[[0, -1]] = False
        if hidden.any():
            shown = torch.where(hidden, backend.token_to_id("[MASK]"), ids)
            losses.append(F.cross_entropy(model.logits([shown.tolist()])[0][hidden], ids[hidden], reduction="none"))
    return float(torch.cat(losses).mean())


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same texts cut at 256 tokens as the peer's are, and as many real tokens a step."""
    import ownlm
    from ownlm.tokens.tokenizer import Tokenizer

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        backend = word_pieces()
        names = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "mask", "pad", "unk")}
        (folder / "tokenizer").mkdir()
        Tokenizer(backend, names=names).save(folder / "tokenizer")
        # Cut as the peer cuts, so that both learn from the same tokens.
        rows = all_texts()[: arguments.steps * arguments.batch]
        encoded = [backend.encode(text, add_special_tokens=False) for text in rows]
        kept = [text[: e.offsets[min(len(e.ids), 254) - 1][1]] for text, e in zip(rows, encoded, strict=True) if e.ids]
        tokens = sum(min(len(e.ids), 254) + 2 for e in encoded)
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in kept))
        shape = {"family": "bert", "layers": arguments.layers, "width": arguments.width, "vocab_size": 30522}
        clock = _clock()
        run = ownlm.train(
            {
                "out": str(folder / "run"),
                "seed": arguments.seed,
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
        held = held_out_loss(Path(run.model), all_texts()[-arguments.held :])
    result = {"held_out_loss": round(held, 4), "real_tokens_per_second": speeds[len(speeds) // 2]}
    result["real_tokens_per_cpu_second"] = round(read / (clock[-1] - clock[1]), 1)
    return result | {"first_loss": round(losses[0], 4), "last_loss": _mean_of_last(losses), "peak_bytes": memory}


def _mean_of_last(losses: list[float]) -> float:
    """Over the last fifth of the steps: a single step's loss scatters by a tenth."""
    return round(statistics.mean(losses[-max(1, len(losses) // 5) :]), 4)


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
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        how = ["as-is" if arguments.as_is else "mended", str(arguments.seed), folder]
        command = [arguments.peer, "-c", WATCHED, *how, script, *given]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for line in done.stdout.split("\n"):
            if line.startswith("{") and '"' in line[:3]:
                result |= json.loads(line)
        if not arguments.as_is:
            result["held_out_loss"] = round(held_out_loss(Path(folder), all_texts()[-arguments.held :]), 4)
    losses = result.pop("losses")
    result["first_loss"], result["last_loss"] = round(losses[0], 4), _mean_of_last(losses)
    tokens = result["mean_length"] * arguments.batch * result.pop("steps")
    result["real_tokens_per_cpu_second"] = round(tokens / result.pop("cpu_seconds"), 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {
        "layers": 6,
        "width": 384,
        "batch": 16,
        "steps": 12,
        "held": 300,
        "turns": 2,
        "seed": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peer", help="the Python of an environment with the peer installed")
    parser.add_argument("--as-is", action="store_true", help="the peer's script with its vocabulary of five")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(ours(arguments)))
        return
    mine, others = [], []
    names = ("layers", "width", "batch", "steps", "held", "seed")
    for turn in range(arguments.turns):
        arguments.seed = turn
        given = [text for name in names for text in (f"--{name}", str(getattr(arguments, name)))]
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
        if not arguments.as_is:
            pairs = [a["held_out_loss"] - b["held_out_loss"] for a, b in zip(mine, others, strict=True)]
            result["loss_difference"] = round(statistics.mean(pairs), 4)
            if len(pairs) > 1:
                # Of a difference that is only chance, with as many seeds.
                spread = [run["held_out_loss"] for run in mine], [run["held_out_loss"] for run in others]
                error = [statistics.variance(losses) / len(losses) for losses in spread]
                result["loss_difference_error"] = round(sum(error) ** 0.5, 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
