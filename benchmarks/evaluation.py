r"""Evaluating on a CPU: ours beside lm-evaluation-harness's own Hugging Face backend, on the same items and examples.

python benchmarks/evaluation.py --model FOLDER                       ours alone
python benchmarks/evaluation.py --model FOLDER --peer PYTHON         in turn with the harness

FOLDER is a Hugging Face checkpoint. The items are those that come with ownlm, or files of --data, such as whole sets made by
tools/core_data.py. Both compute in float32, so that figures can be set side by side to the last digits; the harness runs with the
batch size of --batch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import machine_line

TASKS = ("hellaswag", "arc_easy", "boolq", "winogrande", "lambada_openai", "wikitext")
SHOTS = (0, 5)
# The harness's name of each of our metrics.
METRICS = {
    "accuracy": "acc",
    "accuracy_norm": "acc_norm",
    "perplexity": "perplexity",
    "word_perplexity": "word_perplexity",
    "byte_perplexity": "byte_perplexity",
    "bits_per_byte": "bits_per_byte",
}
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{gold}}",
    "doc_to_choice": "{{choices}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
HARNESS: dict[str, dict[str, Any]] = {
    "hellaswag": CHOICE | {"doc_to_text": "{{query}}"},
    "arc_easy": CHOICE | {"doc_to_text": "{{query}}\nAnswer:"},
    "boolq": CHOICE | {"doc_to_text": "{{query}}\nAnswer:"},
    # The harness's way for prompts that differ: the text is the right one's number, the choices stand before.
    "winogrande": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{gold}}",
        "doc_to_target": "{{continuation}}",
        "doc_to_choice": "{{context_options}}",
        "metric_list": [{"metric": "acc"}],
    },
    "lambada_openai": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + continuation}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "wikitext": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    },
}
PEER = """
import json, sys, time
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
folder, tasks, names, shots, batch = sys.argv[1], sys.argv[2], sys.argv[3].split(","), int(sys.argv[4]), int(sys.argv[5])
model = HFLM(pretrained=folder, dtype="float32", batch_size=batch, device="cpu")
manager = TaskManager(include_path=tasks, include_defaults=False)
found = {}
for name in names:
    began = time.perf_counter()
    result = simple_evaluate(
        model=model, tasks=["bench_" + name], num_fewshot=None if name == "wikitext" else shots, task_manager=manager,
        bootstrap_iters=0,
    )
    seconds = time.perf_counter() - began
    found[name] = {"seconds": seconds, "results": result["results"]["bench_" + name]}
print(json.dumps(found, default=str))
"""


def rows_of(name: str, data: Path | None) -> list[dict[str, Any]]:
    """A task's items: of a file in the folder of --data, or as they come with ownlm."""
    from ownlm.evaluate.suites import find_data, read_task
    from ownlm.evaluate.task import read_items

    task, folder = read_task(name)
    return [dict(item.values) for item in read_items(find_data(task.data, folder, data, name))]


def ours(folder: str, place: Path, names: list[str], shots: int) -> dict[str, Any]:
    """Seconds and scores of each task, as the harness's are."""
    import ownlm
    from ownlm.config import read_yaml, validate
    from ownlm.evaluate.kinds import KINDS
    from ownlm.evaluate.subject import Subject
    from ownlm.evaluate.task import read_items

    subject = Subject(ownlm.load_model(folder, dtype="float32"), ownlm.load_tokenizer(folder), hidden=True)
    tasks = Path(ownlm.__file__).parent / "evaluate" / "tasks"
    found = {}
    for name in names:
        values = read_yaml(tasks / f"{name}.yaml")
        task = validate(KINDS[values["kind"]], values)
        began = time.perf_counter()
        items, pool = read_items(place / f"{name}.jsonl"), read_items(place / f"{name}-examples.jsonl")
        if name == "wikitext":
            pool = []
        measured = task.measure(subject, items, pool[:shots])
        results = {METRICS[m.metric.name]: m.value for m in measured.measurements if m.metric.name in METRICS}
        found[name] = {"seconds": time.perf_counter() - began, "results": results}
    return found


def prepare(place: Path, data: Path | None, names: list[str], limit: int) -> None:
    """Writes items, examples and the harness's task files; the first five items are the examples."""
    for name in names:
        rows = rows_of(name, data)
        most = max(SHOTS)
        for end, part in (
            ("", rows[most : most + limit] if name != "wikitext" else rows[: -(-limit // 20)]),
            ("-examples", rows[:most]),
        ):
            lines = [json.dumps(row, ensure_ascii=False) for row in part]
            (place / f"{name}{end}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        task = {
            "task": f"bench_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(place / f"{name}.jsonl"), "examples": str(place / f"{name}-examples.jsonl")}
            },
            "test_split": "test",
            "fewshot_split": "examples",
            "fewshot_config": {"sampler": "first_n"},
            **HARNESS[name],
        }
        # JSON is YAML.
        (place / f"bench_{name}.yaml").write_text(json.dumps(task), encoding="utf-8")


def harness(python: str, folder: str, place: Path, names: list[str], shots: int, batch: int) -> dict[str, Any]:
    """The harness's seconds and scores."""
    command = [python, "-c", PEER, folder, str(place), ",".join(names), str(shots), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found = json.loads(done.stdout.strip().split("\n")[-1])
    for one in found.values():
        one["results"] = {key.split(",")[0]: value for key, value in one["results"].items() if ",none" in key}
    return found


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, help="a folder with the tasks' data; used before what comes with ownlm")
    parser.add_argument("--peer", help="a Python with lm-eval and transformers")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--limit", type=int, default=200, help="items of each task (pages of WikiText: a twentieth)")
    parser.add_argument("--batch", type=int, default=16, help="the harness's batch size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(place, arguments.data, arguments.tasks, arguments.limit)
        result: dict[str, Any] = {"machine": machine_line(), "items": arguments.limit, "tasks": {}}
        total = [0.0, 0.0]
        for shots in SHOTS:
            names = [name for name in arguments.tasks if not (shots and name == "wikitext")]
            mine = ours(arguments.model, place, names, shots)
            theirs = (
                harness(arguments.peer, arguments.model, place, names, shots, arguments.batch) if arguments.peer else {}
            )
            for name in names:
                line: dict[str, Any] = {"seconds": round(mine[name]["seconds"], 2), "scores": mine[name]["results"]}
                if theirs:
                    other = theirs[name]
                    shared = mine[name]["results"].keys() & other["results"].keys()
                    line["harness_seconds"] = round(other["seconds"], 2)
                    line["speed_ratio"] = round(other["seconds"] / mine[name]["seconds"], 2)
                    line["differences"] = {k: mine[name]["results"][k] - other["results"][k] for k in sorted(shared)}
                    total[0] += mine[name]["seconds"]
                    total[1] += other["seconds"]
                result["tasks"][f"{name}, {shots} shots"] = line
        if total[0]:
            result["speed_ratio"] = round(total[1] / total[0], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
