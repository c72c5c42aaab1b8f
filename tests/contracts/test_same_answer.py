"""Promise 8: an answer depends neither on who else is answered, on what the cache holds, nor on how it is computed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
import torch

from ownlm.engine.engine import Engine
from ownlm.engine.native_decoder import runs_natively
from ownlm.engine.requests import Completion, SamplingOptions
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "width": 64, "heads": 4, "kv_heads": 2, "head_width": 16},
    "gpt2": {"family": "gpt2", "width": 48, "heads": 3},
    "mistral": {"family": "mistral", "width": 64, "heads": 4, "kv_heads": 2, "head_width": 16, "sliding_window": 21},
}
SIZE = {"layers": 2, "vocab_size": 300, "max_positions": 224, "initializer_range": 0.3}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(300)}, unk_token="w0"))
    return Tokenizer.from_parts(backend, bos=None, eos=None, pad=None, chat_template=None)


# By the framework in float32, and in every kind of weights by the kernels.
KINDS = {"llama": ("float32", "bf16", "int8", "int4"), "gpt2": ("bf16",), "mistral": ("int4",)}


@pytest.fixture(scope="module", params=[(name, kind) for name, kinds in KINDS.items() for kind in kinds])
def make_engine(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Callable[..., Engine]:
    """Engines of one model."""
    name, kind = request.param
    model, other = (Transformer(config_from_user({**SIZE, **SHAPES[name]})).eval() for _ in range(2))
    model.initialize(0)
    other.initialize(1)
    if kind != "float32":
        for one in (model, other):
            one.to(torch.bfloat16).compute_dtype = torch.bfloat16
        if not runs_natively(model):
            pytest.skip("this processor has no AVX-512 BF16, or no compiler is installed")
    weights = "auto" if kind == "float32" else kind
    drafts = {None: None, "itself": model, "another": other}

    def make(draft: str | None = None, **options: Any) -> Engine:
        return Engine(model, tokenizer, **{"weights": weights, "draft_model": drafts[draft], **options})

    return make


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Of all lengths; half of them begin alike."""
    rng = random.Random(seed)
    shared = [rng.randrange(300) for _ in range(100)]
    return [
        [*shared[: rng.choice([0, 0, 40, 64, 100])], *(rng.randrange(300) for _ in range(rng.randint(1, 60)))]
        for _ in range(count)
    ]


def comparable(answers: list[Completion], exact: bool) -> list[Any]:
    """All that an answer says, and of float32 log-probabilities what may be compared."""
    if exact:
        return list(answers)
    return [(a.text, a.tokens, a.finish_reason) for a in answers]


OPTIONS = [
    SamplingOptions(temperature=0, max_tokens=24, ignore_eos=True, logprobs=2),
    SamplingOptions(temperature=0.8, top_p=0.9, seed=5, max_tokens=20, ignore_eos=True, logprobs=2),
    # Of three tokens only, so that there is much to guess, rightly and wrongly.
    SamplingOptions(seed=5, max_tokens=20, ignore_eos=True, logprobs=2, logit_bias={5: 40, 6: 40, 7: 39}),
]
WAYS: dict[str, dict[str, Any]] = {
    "mixed": {},
    "two at once": {"max_sequences": 2},
    "read in small pieces": {"prefill_tokens": 7},
    "read in small pieces beside others": {"shared_prefill_tokens": 5, "max_sequences": 3},
    "read at once": {"prefill_tokens": 1000},
    "a small cache": {"cache_tokens": 192, "max_sequences": 9},
    "no prefix cache": {"prefix_cache": False},
    "no guesses": {"drafts": 0},
    "guesses": {"drafts": 7, "max_sequences": 3},
    "a draft model that is right": {"draft": "itself", "drafts": 7, "max_sequences": 3},
    "a draft model that is wrong": {"draft": "another", "drafts": 7, "max_sequences": 3},
    "a draft model, a small cache": {"draft": "itself", "drafts": 7, "cache_tokens": 192, "prefill_tokens": 7},
    "a small cache without prefixes": {"prefix_cache": False, "cache_tokens": 192, "prefill_tokens": 50},
}


@pytest.mark.parametrize("options", OPTIONS, ids=["greedy", "drawn", "repeating"])
def test_the_same_answer(make_engine: Callable[..., Engine], options: SamplingOptions) -> None:
    asked = prompts(6)
    engine = make_engine()
    exact = engine.weights != "float32"
    alone = comparable([make_engine().generate([prompt], options)[0] for prompt in asked], exact)
    preempted = guessed = 0
    for way, limits in WAYS.items():
        engine = make_engine(**limits)
        assert comparable(engine.generate(asked, options), exact) == alone, way
        preempted += engine.preemptions
        guessed += engine.guessed_tokens
        if options.temperature == 0 and limits.get("draft"):
            share = engine.right_tokens / engine.guessed_tokens
            assert share > 0.8 if limits["draft"] == "itself" else share < 0.3, way
        # Once more, when the cache knows them all.
        assert comparable(engine.generate(asked[::-1], options), exact) == alone[::-1], way
        assert bool(engine.reused_tokens) == limits.get("prefix_cache", True), way
        assert (engine.running, engine.waiting, engine.cached_tokens) == (0, 0, 0)
    assert guessed if options.logit_bias else preempted


def test_threads_change_nothing(make_engine: Callable[..., Engine]) -> None:
    if make_engine().weights == "float32":
        pytest.skip("the framework shares a product out differently")
    before = torch.get_num_threads()
    try:
        answers = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(make_engine().generate(prompts(5), OPTIONS[0]))
    finally:
        torch.set_num_threads(before)
    assert answers[0] == answers[1] == answers[2]
