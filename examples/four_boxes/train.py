"""Box 1, training: a tokenizer and a model of random weights learn a small world's texts.

python examples/four_boxes/train.py
"""

import argparse
from pathlib import Path

import ownlm

DATA = Path(__file__).parent / "data"
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/four-boxes"))
out = parser.parse_args().out

# Text becomes tokens: pieces of words that are frequent in it.
ownlm.train_tokenizer([DATA / "train.jsonl"], vocab_size=600, out=out / "tokenizer")

# Tokens become a prediction of the next one. All weights are random at first.
run = ownlm.train(
    {
        "out": str(out / "base"),
        "model": {"family": "gpt2", "layers": 2, "width": 64, "heads": 4, "vocab_size": 600, "max_positions": 128},
        "tokenizer": str(out / "tokenizer"),
        "data": {"train": str(DATA / "train.jsonl"), "validation": str(DATA / "held-out.jsonl"), "length": 128},
        "batch_tokens": 1024,
        "steps": 320,
        "precision": "fp32",
        "optimizer": {"lr": 5e-3},
        "validate": {"every": 25},
    }
)
model = ownlm.load_model(run.model)
print("The nurse" + ownlm.generate(model, ["The nurse"], max_tokens=24, temperature=0)[0])
print(f"Weights: {run.model}   Curves: {out / 'base' / 'report.html'}")
