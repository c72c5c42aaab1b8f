"""Half of a model's layers learn its answers: held-out loss with and without the teacher, at equal steps.

    python benchmarks/distill.py

SmolLM2-135M-Instruct is first taught to answer support questions (recipes/support-lora.yaml). Every second of its layers
then makes a student, which is trained on the same conversations twice from the same weights, over the same batches: by
the answers alone (objective chat), and by recipes/distill.yaml. Losses are the ordinary cross-entropy in nats a token over
held-out answers; intervals are 95% bootstrap intervals over conversations (10,000 resamples, percentiles).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from finetune import conversations
from measure import machine_line

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def write_data(folder: Path, train: int, held: int) -> dict[str, str]:
    """data.train and data.validation."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    names = ("train", "validation")
    for name, rows in zip(names, conversations(train, held), strict=True):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths[f"data.{name}"] = str(path)
    return paths


def run(recipe: str, out: Path, changes: dict[str, Any]) -> Any:
    from ownlm.config import read_yaml
    from ownlm.train.config import read_train_config
    from ownlm.train.run import run_training

    return run_training(read_train_config(read_yaml(RECIPES / recipe), {"out": str(out), **changes}))


def student_of(teacher: Path, out: Path) -> Path:
    """A model folder with every second layer of the teacher."""
    from ownlm.model.checkpoint import load_model_folder, save_model_folder
    from ownlm.model.chosen_layers import take_layers
    from ownlm.tokens.tokenizer import load_tokenizer

    model = load_model_folder(teacher)
    save_model_folder(take_layers(model, range(0, model.config.layers, 2)), out, tokenizer=load_tokenizer(teacher))
    return out


def losses(model: Path, held: str) -> np.ndarray:
    """Of each held-out conversation, its loss and its trained tokens: [conversations, 2]."""
    import torch

    from ownlm.files import home
    from ownlm.model.checkpoint import load_model_folder
    from ownlm.tokens.prepare import tokenize_files
    from ownlm.tokens.shards import TokenDataset
    from ownlm.tokens.tokenizer import load_tokenizer
    from ownlm.train.objectives.reference import document_log_probs, packed

    cache = home() / "cache" / "tokens"
    prepared = tokenize_files([held], load_tokenizer(model), kind="chat", length=2048, cache_folder=cache)
    dataset, network = TokenDataset(prepared.folder), load_model_folder(model, dtype=torch.float32)
    documents = [dataset.document(i) for i in range(len(dataset))]
    with torch.no_grad():
        rows = [[-document_log_probs(network, packed([d])).item(), int(d[1][1:].sum())] for d in documents]
    return np.array(rows)


def interval(*columns: np.ndarray) -> list[float]:
    """[value, low, high] of the first's mean loss a token; of two, of the first minus the second."""
    draws = np.random.default_rng(0).integers(0, len(columns[0]), (10_000, len(columns[0])))

    def mean(rows: np.ndarray) -> Any:
        return rows[..., 0].sum(-1) / rows[..., 1].sum(-1)

    values, resampled = [mean(c) for c in columns], [mean(c[draws]) for c in columns]
    value, sample = (values[0], resampled[0]) if len(columns) == 1 else (np.subtract(*values), np.subtract(*resampled))
    return [round(float(x), 4) for x in (value, *np.quantile(sample, [0.025, 0.975]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/distill-benchmark"))
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--held", type=int, default=60)
    arguments = parser.parse_args()
    from ownlm.model.checkpoint import read_config

    out, data = arguments.out, write_data(arguments.out / "data", arguments.train, arguments.held)
    teacher = run("support-lora.yaml", out / "teacher", data).model
    student = student_of(teacher, out / "student")
    same = {**data, "base": str(student)}
    taught = run("distill.yaml", out / "distill", {**same, "objective.teacher": str(teacher)})
    alone = run("distill.yaml", out / "alone", {**same, "objective": {"kind": "chat"}})
    measured = {
        name: losses(Path(model), data["data.validation"])
        for name, model in (("teacher", teacher), ("begun", student), ("alone", alone.model), ("taught", taught.model))
    }
    result = {
        "benchmark": "distill",
        "machine": machine_line(),
        "parameters": {"teacher": read_config(teacher).parameters(), "student": taught.summary["parameters"]},
        "steps": [taught.summary["steps"], alone.summary["steps"]],
        "held_out_loss": {name: interval(rows) for name, rows in measured.items()},
        "taught_minus_alone": interval(measured["taught"], measured["alone"]),
        "seconds": {"taught": taught.summary["seconds"], "alone": alone.summary["seconds"]},
        "peak_bytes": {"taught": taught.summary["peak_memory_bytes"], "alone": alone.summary["peak_memory_bytes"]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
