"""``ownlm plan`` beside what the run then takes: memory and speed of six different configs.

python benchmarks/plan.py --base smollm2-135m-instruct        with the adapter configs
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from corpus import documents
from measure import machine_line

STEPS = 6


def configs(base: str | None) -> dict[str, dict[str, Any]]:
    """Shapes, objectives and settings that differ in what they keep in memory."""
    gpt2 = {"family": "gpt2", "layers": 12, "width": 768, "heads": 12, "vocab_size": 8192, "max_positions": 512}
    llama = {"family": "llama", "layers": 8, "width": 512, "heads": 8, "kv_heads": 2, "vocab_size": 8192}
    bert = {"family": "bert", "layers": 6, "width": 384, "heads": 6, "max_positions": 512}
    result: dict[str, dict[str, Any]] = {
        "gpt2 124M shape, bf16": {"model": gpt2, "batch_tokens": 2048, "precision": "bf16"},
        "llama, float32, four micro-batches": {
            "model": llama | {"max_positions": 1024},
            "batch_tokens": 8192,
            "micro_batch_tokens": 2048,
            "precision": "fp32",
        },
        "bert masked, bf16": {
            "model": bert,
            "objective": {"kind": "masked"},
            "batch_tokens": 4096,
            "precision": "bf16",
        },
        "gpt2 wide, recomputed, eight-bit states": {
            "model": gpt2 | {"layers": 6, "width": 1024, "heads": 16},
            "batch_tokens": 4096,
            "micro_batch_tokens": 4096,
            "recompute": 6,
            "optimizer": {"states": "eight_bit"},
        },
    }
    if base is not None:
        lora = {"base": base, "adapter": {"rank": 16}, "batch_tokens": 4096}
        result["SmolLM2 LoRA, bf16"] = lora
        result["SmolLM2 LoRA over nf4"] = lora | {"adapter": {"rank": 16, "quantize_base": "nf4"}}
    return result


def measured(config: dict[str, Any], folder: Path) -> dict[str, float]:
    """Plans and trains in processes of their own; what came of it over what was planned."""
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    answers = []
    for command in ("plan", "train"):
        line = [sys.executable, "-m", "ownlm", command, str(path), "--json"]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
        answers.append(json.loads(done.stdout))
    plan, run = answers
    return {
        "planned_bytes": plan["memory_bytes"],
        "actual_bytes": run["peak_memory_bytes"],
        "memory_ratio": round(run["peak_memory_bytes"] / plan["memory_bytes"], 3),
        "speed_ratio": round(run["tokens_per_second"] / plan["tokens_per_second"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", help="a pretrained model for the adapter configs")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = folder / "texts.jsonl"
        texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(3)))
        for kind, name in (("bpe", "bpe"), ("wordpiece", "wordpiece")):
            line = [sys.executable, "-m", "ownlm", "tokenizer", "train", str(texts), "--vocab-size", "8192"]
            line += ["--kind", kind, "--out", str(folder / name)]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number, (name, config) in enumerate(configs(arguments.base).items()):
            masked = config.get("objective", {}).get("kind") == "masked"
            whole = config | {"steps": STEPS, "data": {"train": str(texts), "length": 512}}
            whole |= {"out": str(folder / f"run-{number}"), "checkpoint": {"every": 10**6}}
            if "model" in config:
                whole["tokenizer"] = str(folder / ("wordpiece" if masked else "bpe"))
                whole["model"] = {"vocab_size": 8192} | config["model"]
            inner = folder / str(number)
            inner.mkdir()
            results[name] = measured(whole, inner)
            print(name, results[name], file=sys.stderr, flush=True)
    worst = max(abs(1 - result["memory_ratio"]) for result in results.values())
    print(
        json.dumps({"benchmark": "plan", "machine": machine_line(), "runs": results, "worst_memory": round(worst, 3)})
    )


if __name__ == "__main__":
    main()
