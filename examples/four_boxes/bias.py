"""Box 4, bias: which pronoun does the model expect of whom, and what do balanced texts change?

python examples/four_boxes/bias.py
"""

import argparse
from pathlib import Path

import ownlm

HERE = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/four-boxes"))
out = parser.parse_args().out

# The model goes on learning, from texts that say "she" and "he" of every job as often.
ownlm.train(
    {
        "out": str(out / "fair"),
        "base": str(out / "base" / "model"),
        "data": {"train": str(HERE / "data" / "balanced.jsonl"), "length": 128},
        "batch_tokens": 1024,
        "steps": 60,
        "precision": "fp32",
        "optimizer": {"lr": 2e-3},
    }
)

# Of two sentences that differ in the pronoun alone, how often is the expected one likelier? Without bias: 50.
for name in ("base", "fair"):
    for score in ownlm.evaluate(ownlm.load_model(out / name / "model"), tasks=[str(HERE / "pronouns.yaml")]):
        if score.task == "pronouns/overall":
            print(f"{name:6} {score.metric} {score.value:5.1f}  ({score.low:.1f} to {score.high:.1f})")
