"""What one would want to know of a model before choosing it, counted and measured: shape, size, speed, cost, limits."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..engine.engine import Engine
from ..engine.measure import Speed, measure
from ..engine.pages import PAGE
from ..model.config import ModelConfig
from ..prediction.passes import Document, passes
from .subject import Subject

# What speed is measured with: prompts and answers of a short exchange, and texts of a paragraph.
PROMPT_TOKENS, ANSWER_TOKENS, TOGETHER = 128, 64, 8
TEXT_TOKENS, TEXTS = 128, 8

USES = {
    "lm": "goes on from a text: chat, writing, scoring; tasks by likelihood and by answers",
    "masked": "fills gaps and scores texts; a base for classes, answers and search",
    "classify": "gives texts a class or a number",
    "span": "finds the answer to a question in a text",
    "seq2seq": "makes a text from another",
    "none": "turns texts into vectors; a base for classes, answers and search",
}


@dataclass(frozen=True)
class Facts:
    """One model's.

    Attributes:
        model: its name.
        architecture: family, layers, width, heads and vocabulary, in a line.
        use: what it can be used for.
        parameters: how many.
        weight_bytes: that its weights take as they are loaded.
        cache_token_bytes: that keys and values of one token of a conversation take; None of a model that writes none.
        dtype: that it computes in.
        context: the most tokens that it reads.
        read_tokens_per_second: reading texts; of a model that writes, prompts.
        write_tokens_per_second: writing one answer; None of a model that writes none.
        together_tokens_per_second: writing eight answers at once.
        cost_per_million: of a million tokens written, eight answers at once, or read, in what the hour was given in; None
            without a price.
        limitations: what it cannot do, in words.
    """

    model: str
    architecture: str
    use: str
    parameters: int
    weight_bytes: int
    cache_token_bytes: int | None
    dtype: str
    context: int
    read_tokens_per_second: float
    write_tokens_per_second: float | None
    together_tokens_per_second: float | None
    cost_per_million: float | None
    limitations: tuple[str, ...]


def facts_of(subject: Subject, price_per_hour: float | None = None) -> Facts:
    """Counts and measures; takes some seconds, and nobody else should use the machine meanwhile.

    Args:
        subject: the model.
        price_per_hour: what an hour of this machine costs, in any currency.
    """
    config = subject.model.config
    write = together = None
    if subject.writes:
        read, write, together = _writing(subject)
    else:
        read = _reading(subject)
    busy = read if together is None else together
    return Facts(
        model=subject.name,
        architecture=architecture(config),
        use=USES[config.head],
        parameters=config.parameters(),
        weight_bytes=weight_bytes_of(subject),
        cache_token_bytes=cache_token_bytes(config, subject.model.compute_dtype) if subject.writes else None,
        dtype=str(subject.model.compute_dtype).removeprefix("torch."),
        context=config.max_positions,
        read_tokens_per_second=read,
        write_tokens_per_second=write,
        together_tokens_per_second=together,
        cost_per_million=None if price_per_hour is None else price_per_hour / 3600 / busy * 1e6,
        limitations=tuple(limitations(subject)),
    )


def weight_bytes_of(subject: Subject) -> int:
    """What the weights take as they are loaded."""
    return sum(weight.numel() * weight.element_size() for weight in subject.model.parameters())


def cache_token_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """What the keys and values of one token take in all layers."""
    return 2 * config.layers * config.kv_heads * config.head_width * dtype.itemsize


def speeds_of(subject: Subject, requests: Sequence[int]) -> list[Speed]:
    """How fast a model answers so many requests at once, of a question's and an answer's length as far as it reads so much.

    Raises:
        ModelError: it writes no text.
    """
    room = subject.model.config.max_positions
    prompt = min(PROMPT_TOKENS, room // 2)
    tokens = max(2, min(ANSWER_TOKENS, room - prompt))
    most = max(requests)
    # Guessing ahead would show random text's repeats, not the model's speed.
    engine = Engine(
        subject.model, subject.tokenizer, max_sequences=most, drafts=0, cache_tokens=most * (prompt + tokens + PAGE)
    )
    # What the machine could do at best is not asked.
    return measure(engine, requests, prompt_tokens=prompt, tokens=tokens, bandwidth=math.inf)


def architecture(config: ModelConfig) -> str:
    """Family and sizes in a line."""
    heads = f"{config.heads} heads" + (f" over {config.kv_heads}" if config.kv_heads != config.heads else "")
    parts = [config.family, f"{config.layers} layers", f"width {config.width}", heads, f"{config.vocab_size:,} tokens"]
    return ", ".join(parts)


def limitations(subject: Subject) -> list[str]:
    """What the model cannot do, told from its shape and its tokenizer."""
    return limitations_of(subject.model.config, chats=subject.tokenizer.chat_template is not None)


def limitations_of(config: ModelConfig, *, chats: bool) -> list[str]:
    """The same of a model that is not loaded; chats: whether its tokenizer has a chat template."""
    found = [f"reads at most {config.max_positions:,} tokens at once"]
    writes = config.head == "lm"
    if not writes:
        found.append("writes no text")
    elif not chats:
        found.append("has no chat template: it was not trained to follow a conversation, or does not say how")
    if config.causal and not writes:
        found.append("sees only what stands before a token")
    return found


def _writing(subject: Subject) -> tuple[float, float, float]:
    """Tokens a second: of prompts read, of one answer, of eight at once."""
    one, several = speeds_of(subject, (1, TOGETHER))
    return one.prompt_tokens_per_second, 1 / one.token, several.tokens_per_second


def _reading(subject: Subject) -> float:
    """Tokens a second of texts read."""
    length = min(TEXT_TOKENS, subject.model.config.max_positions)
    draw = random.Random(0)
    vocab = subject.tokenizer.vocab_size
    texts = [Document([draw.randrange(vocab) for _ in range(length)], length) for _ in range(TEXTS)]
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _part in passes(subject.model, texts):
            pass
        best = min(best, time.perf_counter() - began)
    return TEXTS * length / best
