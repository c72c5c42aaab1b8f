"""Box 3, evaluation: what did fine-tuning change? The same items before and after, with intervals and a verdict.

python examples/four_boxes/evaluate.py
"""

import argparse
from pathlib import Path

import ownlm
from ownlm.evaluate.differences import differences
from ownlm.evaluate.run import measure_all, score_of
from ownlm.evaluate.subject import Subject

HERE = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/four-boxes"))
out = parser.parse_args().out

# A task is a file that says what a model is shown and what is measured.
tasks = [str(HERE / "answers.yaml"), str(HERE / "texts.yaml")]
measured = {}
for name in ("base", "tuned"):
    folder = out / name / "model"
    subject = Subject(ownlm.load_model(folder), ownlm.load_tokenizer(folder), name)
    measured[name] = measure_all(subject, tasks, None, [0])
    for score in map(score_of, measured[name]):
        print(f"{name:6} {score.task:8} {score.metric:16} {score.value:6.3f}  ({score.low:.3f} to {score.high:.3f})")

# Both models saw the same items, so the difference is surer than the two scores are.
for found in differences(measured["tuned"], measured["base"]):
    print(f"{found.task} {found.metric}: {found.words}")
