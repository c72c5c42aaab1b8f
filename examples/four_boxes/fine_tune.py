"""Box 2, fine-tuning: the model of box 1 learns to answer in conversations.

python examples/four_boxes/fine_tune.py
"""

import argparse
from pathlib import Path

import ownlm

DATA = Path(__file__).parent / "data"
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/four-boxes"))
out = parser.parse_args().out

# The questions of test.jsonl are other ones: what is right there was learned from the texts of box 1.
# Small matrices beside the frozen weights (LoRA) are trained, on the answers alone; the result has them merged in.
run = ownlm.train(
    {
        "out": str(out / "tuned"),
        "base": str(out / "base" / "model"),
        "adapter": {"rank": 16},
        "objective": {"kind": "chat"},
        "data": {"train": str(DATA / "questions.jsonl"), "validation": str(DATA / "test.jsonl")},
        "batch_tokens": 512,
        "steps": 100,
        "precision": "fp32",
        "optimizer": {"lr": 3e-3},
        "validate": {"every": 20},
    }
)
model, tokenizer = ownlm.load_model(run.model), ownlm.load_tokenizer(run.model)
for question in ("Where does the nurse work?", "What does the sailor use?"):
    prompt = tokenizer.render([{"role": "user", "content": question}], add_generation_prompt=True)
    print(question, ownlm.generate(model, [prompt], max_tokens=20, temperature=0)[0])
print(f"Weights: {run.model}   Curves: {out / 'tuned' / 'report.html'}")
