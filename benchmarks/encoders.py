"""An encoder of 23M parameters learns sentiment and question answering by the recipes: scores with intervals, and time.

    python benchmarks/encoders.py                       # SST-2 and PolicyQA
    python benchmarks/encoders.py --task sentiment

Both run as a user runs them: ownlm train with the recipe, then ownlm predict on a file that training never saw. SST-2 is
judged on the 872 labelled sentences of GLUE's validation part (its test.tsv here); its own validation part is another.
PolicyQA learns from one half of its websites and is judged on the other; paragraphs that stand in both are left out of
the first. Its baselines take no training: the sentence of the paragraph that shares most words with the question, and
the same encoder under a new head. Intervals are 95% bootstrap intervals (10,000 resamples, percentiles), of sentences,
and of whole websites.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import PEERS, machine_line

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
DATA = PEERS.parent / "data"
SENTENCE = re.compile(r"(?<=[.!?;])\s+")


def ownlm(*arguments: str) -> dict[str, Any]:
    """The --json result of a command."""
    command = [sys.executable, "-m", "ownlm", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def train(recipe: str, out: Path, *changes: str) -> dict[str, Any]:
    """The run's time and memory."""
    before, began = os.times(), time.monotonic()
    summary = ownlm("train", str(RECIPES / recipe), f"out={out}", *changes)
    after, wall = os.times(), time.monotonic() - began
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "wall_s": round(wall, 1),
        "processor_s": round(processor, 1),
        "peak_bytes": summary["peak_memory_bytes"],
        "steps": summary["steps"],
    }


def interval(values: np.ndarray, groups: Sequence[Any] | None = None) -> list[float]:
    """[mean, low, high]; whole groups are drawn where there are any."""
    names = np.arange(len(values)) if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
    sums, counts = np.bincount(names, weights=values), np.bincount(names)
    draws = np.random.default_rng(0).integers(0, len(sums), (10_000, len(sums)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    return [round(float(x), 4) for x in (values.mean(), *np.quantile(means, [0.025, 0.975]))]


def sentiment(out: Path) -> dict[str, Any]:
    """SST-2: accuracy."""
    files = {name: DATA / "sst2" / f"{name}.tsv" for name in ("train", "dev", "test")}
    taken = train("sentiment.yaml", out, f"data.train={files['train']}", f"data.validation={files['dev']}")
    predictions = ownlm("predict", str(out), "--file", str(files["test"]))["predictions"]
    given = [line.rsplit("\t", 1)[1] for line in files["test"].read_text().splitlines()[1:]]
    right = np.array([a["label"] == b for a, b in zip(predictions, given, strict=True)], float)
    return {"accuracy": interval(right), "sentences": len(right), **taken}


def split(folder: Path) -> tuple[Path, Path]:
    """The file to learn from and the one to judge by."""
    whole = json.loads((DATA / "policyqa" / "test.json").read_text())
    judged = DATA / "policyqa" / "dev.json"
    known = {part["context"] for site in json.loads(judged.read_text())["data"] for part in site["paragraphs"]}
    for site in whole["data"]:
        site["paragraphs"] = [part for part in site["paragraphs"] if part["context"] not in known]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.json").write_text(json.dumps(whole))
    return folder / "train.json", judged


def overlap(question: str, context: str) -> str:
    """The sentence that shares most words with the question; the shortest of those."""
    asked = set(re.findall(r"\w+", question.lower()))
    sentences = [part for part in SENTENCE.split(context) if part.strip()]
    return max(sentences, key=lambda part: (len(asked & set(re.findall(r"\w+", part.lower()))), -len(part)))


def answers(out: Path) -> dict[str, Any]:
    """PolicyQA: exact match and F1."""
    from ownlm.prediction.squad import exact_match, word_f1

    learned, judged = split(out.with_name(f"{out.name}-data"))
    taken = train("question-answering.yaml", out, f"data.train={learned}")
    untrained = out.with_name(f"{out.name}-untrained")
    train("question-answering.yaml", untrained, f"data.train={learned}", "epochs=null", "steps=1", "optimizer.lr=1e-12")
    asked = [
        (question["question"], part["context"], [one["text"] for one in question["answers"]], site["title"])
        for site in json.loads(judged.read_text())["data"]
        for part in site["paragraphs"]
        for question in part["qas"]
    ]
    found = {
        name: [one["answer"] or "" for one in ownlm("predict", str(model), "--file", str(judged))["predictions"]]
        for name, model in (("trained", out), ("new_head", untrained))
    }
    found["best_overlap"] = [overlap(question, context) for question, context, _, _ in asked]
    sites = [site for *_, site in asked]
    scores = {}
    for name, given in found.items():
        for measure, of in (("exact", exact_match), ("f1", word_f1)):
            values = np.array([of(text, right) for text, (_, _, right, _) in zip(given, asked, strict=True)])
            scores[f"{name}_{measure}"] = interval(values, sites)
    return {**scores, "questions": len(asked), "websites": len(set(sites)), **taken}


TASKS = {"sentiment": sentiment, "answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=[*TASKS], action="append")
    parser.add_argument("--out", type=Path, default=Path("runs/encoders-benchmark"))
    arguments = parser.parse_args()
    chosen = arguments.task or [*TASKS]
    measured = {name: TASKS[name](arguments.out / name) for name in chosen}
    print(json.dumps({"benchmark": "encoders", "machine": machine_line(), **measured}))


if __name__ == "__main__":
    main()
