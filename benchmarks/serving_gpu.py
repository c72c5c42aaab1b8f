r"""Answering on a GPU: one stream beside what memory allows, many at once beside Transformers' continuous batching.

python benchmarks/serving_gpu.py                   ours alone, on the GPU of this machine
python benchmarks/serving_gpu.py --peer PYTHON     beside Transformers (5 or later) of that environment
python benchmarks/serving_gpu.py --tiny            on any machine: it shows nothing but that it runs

Weights are random, which changes no time, so it needs no network and no files; three minutes with the peer. Every request
is a prompt of random tokens, no two alike, and as many greedy tokens as asked for; a round that nobody counts comes first.

    stream    bytes that a step reads (weights, keys and values) over its time, over the bytes that the machine copies
    pass      the same of the decoder alone: what is left when Python, sampling and text take no time
    many      tokens a second of all requests together, reading the prompts included
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measure import machine_line, on_gpu, peer

SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "layers": 30, "width": 576, "heads": 9, "kv_heads": 3, "feedforward_width": 1536, "vocab_size": 49152,
    },
    "llama-1.2b": {
        "layers": 16, "width": 2048, "heads": 32, "kv_heads": 8, "feedforward_width": 8192, "vocab_size": 128256,
    },
    "tiny": {"layers": 2, "width": 128, "heads": 4, "kv_heads": 2, "feedforward_width": 128, "vocab_size": 512},
}  # fmt: skip


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if on_gpu() else "cpu")


def copy_rate(size: int, repeats: int = 10) -> float:
    """Bytes read and written a second while memory is copied: the best of several."""
    source = torch.zeros(size, dtype=torch.uint8, device=device())
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        target.copy_(source)
        wait()
        best = min(best, time.perf_counter() - began)
    return 2 * size / best


def wait() -> None:
    """Until the device has done what it was asked for."""
    if on_gpu():
        torch.cuda.synchronize()


def memory() -> int | None:
    """The most bytes that tensors took on the GPU."""
    return torch.cuda.max_memory_allocated() if on_gpu() else None


def ours(shape: dict[str, Any], requests: int, prompt: int, tokens: int, bandwidth: float) -> dict[str, Any]:
    """What the engine does."""
    import tokenizers

    from ownlm.engine.engine import Engine
    from ownlm.engine.measure import measure
    from ownlm.model.families import config_from_user
    from ownlm.model.transformer import Transformer
    from ownlm.tokens.tokenizer import Tokenizer

    size = {**shape, "family": "llama", "max_positions": 2048, "tied_head": True}
    with device():
        model = Transformer(config_from_user(size)).to(torch.bfloat16).eval()
    model.compute_dtype = torch.bfloat16
    for name, weight in model.named_parameters():
        torch.nn.init.ones_(weight) if "norm" in name else torch.nn.init.normal_(weight, std=0.02)
    words = {f"w{number}": number for number in range(shape["vocab_size"])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer = Tokenizer.from_parts(backend, bos=None, eos=None, pad=None)
    engine = Engine(
        model,
        tokenizer,
        max_sequences=requests,
        cache_tokens=requests * (prompt + tokens + 64),
        prefill_tokens=8192,
        drafts=0,
    )
    counts = {"prompt_tokens": prompt, "bandwidth": bandwidth}
    began = time.perf_counter()
    measure(engine, [1, requests], tokens=min(tokens, 16), **counts)
    first = time.perf_counter() - began
    one, many = measure(engine, [1, requests], tokens=tokens, seed=1, **counts)
    config = model.config
    cached = 2 * config.layers * config.kv_heads * config.head_width * 2
    read = engine.weight_bytes + cached * (prompt + tokens // 2)
    alone = pass_seconds(engine, prompt + tokens // 2)
    return {
        "weights": engine.weights,
        "weight_bytes": engine.weight_bytes,
        "stream_tokens_per_second": round(1 / one.token, 1),
        "stream_bandwidth_share": round(read / one.token / bandwidth, 3),
        "pass_bandwidth_share": round(read / alone / bandwidth, 3),
        "first_token_ms": round(1000 * one.first_token, 2),
        "many_tokens_per_second": round(many.tokens_per_second, 1),
        "many_step_ms": round(1000 * many.token, 2),
        "warm_up_seconds": round(first, 1),
        "memory_bytes": memory(),
    }


def pass_seconds(engine: Any, length: int, repeats: int = 50) -> float:
    """The time of the decoder's pass over one token behind so many, one pass after the other."""
    pages = [list(range(1, length // 32 + 2))]
    for counted in (3, repeats):
        wait()
        began = time.perf_counter()
        for _ in range(counted):
            engine._decoder([5], [length], [0, 1], pages, [0])
        wait()
    return (time.perf_counter() - began) / repeats


def transformers(shape: dict[str, Any], requests: int, prompt: int, tokens: int) -> dict[str, Any]:
    """What Transformers' continuous batching does with the same shape."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape["width"],
        intermediate_size=shape["feedforward_width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        vocab_size=shape["vocab_size"],
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    with device():
        model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    options = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
    found = {}
    for name, count in (("stream", 1), ("many", requests)):
        for seed in range(2):
            draw = random.Random(seed)
            asked = [[draw.randrange(1, shape["vocab_size"]) for _ in range(prompt)] for _ in range(count)]
            wait()
            began = time.perf_counter()
            # The manager stays, so that in the second round everything is there and warm.
            answers = model.generate_batch(asked, generation_config=options, persistent_manager=True)
            wait()
            seconds = time.perf_counter() - began
        model.destroy_cached_continuous_batching_manager()
        made = sum(len(answer.generated_tokens) for answer in answers.values())
        assert made == count * tokens, f"{made} tokens for {count} requests of {tokens}"
        found[f"{name}_tokens_per_second"] = round(made / seconds, 1)
    return {**found, "memory_bytes": memory()}


def table(shapes: dict[str, Any]) -> str:
    """The figures side by side."""
    lines = [f"{'':44}{'ownlm':>14}{'transformers':>14}{'ratio':>8}"]
    for name, found in shapes.items():
        theirs = found.get("transformers", {})
        for key, value in found["ours"].items():
            if isinstance(value, int | float):
                other = theirs.get(key)
                beside = "" if other is None else f"{other:>14,}{value / other:>8.2f}"
                lines.append(f"{name + ' ' + key:44}{value:>14,}{beside}")
        if "error" in theirs:
            lines.append(f"{name} transformers: {theirs['error']}")
    return "\n".join(lines)


def main() -> None:
    """Prints a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python with transformers")
    parser.add_argument("--shapes", nargs="+", default=["smollm2-135m", "llama-1.2b"], choices=SHAPES)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--side", choices=["transformers"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.shapes, arguments.requests, arguments.prompt, arguments.tokens = ["tiny"], 4, 9, 5
    counts = (arguments.requests, arguments.prompt, arguments.tokens)
    if arguments.side:
        print(json.dumps(transformers(SHAPES[arguments.shapes[0]], *counts)))
        return
    bandwidth = copy_rate(1 << 24 if arguments.tiny else 1 << 31)
    result: dict[str, Any] = {"benchmark": "serving_gpu", "machine": machine_line(), "bandwidth": round(bandwidth)}
    result |= dict(zip(("requests", "prompt_tokens", "tokens"), counts, strict=True), shapes={})
    for name in arguments.shapes:
        found = result["shapes"][name] = {"ours": ours(SHAPES[name], *counts, bandwidth)}
        # What ours took is the peer's now.
        gc.collect()
        if on_gpu():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if arguments.peer:
            sizes = [str(value) for pair in zip(("--requests", "--prompt", "--tokens"), counts) for value in pair]
            try:
                own = [str(Path(__file__).resolve()), "--side", "transformers", "--shapes", name, *sizes]
                found["transformers"] = peer(arguments.peer, *own)
                ratio = found["ours"]["many_tokens_per_second"] / found["transformers"]["many_tokens_per_second"]
                found["many_ratio"] = round(ratio, 2)
            except subprocess.CalledProcessError as error:
                # Ours is worth knowing without it.
                found["transformers"] = {"error": error.stderr.strip().split("\n")[-1]}
    print(table(result["shapes"]), file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
