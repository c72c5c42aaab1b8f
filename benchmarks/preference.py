"""DPO on pairs of instructions' answers: how much more the better answer is preferred on held-out pairs, with intervals.

    python benchmarks/preference.py --file instruction-data-with-preference.json --split preference   only the two files
    python benchmarks/preference.py                                                                 the recipe, measured

The held-out pairs are those of a tenth of the questions, chosen by the question's hash: a question that is asked twice is
on one side. Intervals are 95% bootstrap intervals over pairs (10,000 resamples, percentiles).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import PEERS, machine_line

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "preference.yaml"
FILE = PEERS.parent / "data" / "rasbt_instruct" / "instruction-data-with-preference.json"


def split(file: Path, folder: Path) -> tuple[Path, Path]:
    """train.json and held-out.json."""
    rows = json.loads(file.read_text())
    parts: dict[bool, list[Any]] = {False: [], True: []}
    for row in rows:
        digest = hashlib.sha256(json.dumps([row["instruction"], row["input"]]).encode()).digest()
        parts[digest[0] < 26].append(row)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.json", folder / "held-out.json"
    for path, held in zip(paths, (False, True), strict=True):
        path.write_text(json.dumps(parts[held], indent=1))
    return paths


def answers(model: Path | str, held: Path, tokenizer_of: Path) -> np.ndarray:
    """Log-probabilities of the held-out answers: [pairs, 2], the better one first, summed over each answer's tokens."""
    import torch

    from ownlm.files import home
    from ownlm.model.checkpoint import load_model_folder
    from ownlm.model.registry import find_model
    from ownlm.tokens.preferences import Preparing, tokenize_preferences
    from ownlm.tokens.shards import TokenDataset
    from ownlm.tokens.tokenizer import load_tokenizer
    from ownlm.train.objectives.reference import document_log_probs, packed

    preparing = Preparing(load_tokenizer(tokenizer_of), 2048, unusable="drop")
    dataset = TokenDataset(tokenize_preferences(held, preparing, cache_folder=home() / "cache" / "tokens").folder)
    # In float32, so that the figures are not those of rounding.
    network = load_model_folder(find_model(str(model)), dtype=torch.float32)
    with torch.no_grad():
        sums = [document_log_probs(network, packed([dataset.document(i)])).item() for i in range(len(dataset))]
    return np.array(sums).reshape(-1, 2)


def interval(values: Sequence[float] | np.ndarray) -> list[float]:
    """[mean, low, high]."""
    data = np.asarray(values, float)
    draws = np.random.default_rng(0).integers(0, len(data), (10_000, len(data)))
    low, high = np.quantile(data[draws].mean(1), [0.025, 0.975])
    return [round(float(x), 4) for x in (data.mean(), low, high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--split", type=Path, help="only write train.json and held-out.json into this folder")
    parser.add_argument("--out", type=Path, default=Path("runs/preference-benchmark"))
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="changes to the recipe")
    arguments = parser.parse_args()
    if arguments.split:
        print(json.dumps([str(path) for path in split(arguments.file, arguments.split)]))
        return
    from ownlm.config import parse_override, read_yaml
    from ownlm.train.config import read_train_config
    from ownlm.train.run import run_training

    train, held = split(arguments.file, arguments.out / "data")
    overrides = dict(map(parse_override, arguments.set))
    overrides |= {"out": str(arguments.out / "run"), "data.train": str(train), "data.validation": str(held)}
    config = read_train_config(read_yaml(RECIPE), overrides)
    run = run_training(config)
    before, after = (answers(model, held, run.model) for model in (str(config.base), run.model))
    gap = {"before": before[:, 0] - before[:, 1], "after": after[:, 0] - after[:, 1]}
    gained = gap["after"] - gap["before"]
    result = {
        "benchmark": "preference",
        "machine": machine_line(),
        "pairs": len(before),
        "log_probability_of_chosen_over_rejected": {name: interval(values) for name, values in gap.items()},
        "chosen_is_likelier": {name: interval(values > 0) for name, values in gap.items()},
        "reward_margin": interval(config.objective.beta * gained),
        "reward_accuracy": interval(gained > 0),
        "log_probability_of_chosen": {"before": interval(before[:, 0]), "after": interval(after[:, 0])},
        "seconds": run.summary["seconds"],
        "peak_bytes": run.summary["peak_memory_bytes"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
