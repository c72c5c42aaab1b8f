"""What gates ask of a model besides its scores: its size, its speed on this machine, and its likeliest answers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from ..engine.engine import Engine
from ..engine.measure import measure
from ..engine.requests import SamplingOptions
from ..errors import OwnlmError
from .gate_config import NeverAgainConfig
from .subject import Subject

SPEEDS = ("tokens_per_second", "first_token", "token")
# One request at a time, of a question's and an answer's length, as far as the model reads so much.
PROMPT_TOKENS, ANSWER_TOKENS = 128, 64


def facts_of(subject: Subject, wanted: Collection[str]) -> dict[str, float]:
    """Facts by the names in ``MachineGateConfig``; speeds are measured only where one of them is wanted.

    Raises:
        ModelError: a speed is wanted of a model that writes no text.
    """
    tensors = list(subject.model.parameters())
    found = {
        "parameters": float(sum(tensor.numel() for tensor in tensors)),
        "weight_bytes": float(sum(tensor.numel() * tensor.element_size() for tensor in tensors)),
    }
    if set(SPEEDS) & set(wanted):
        room = subject.model.config.max_positions
        prompt = min(PROMPT_TOKENS, room // 2)
        tokens = max(2, min(ANSWER_TOKENS, room - prompt))
        # Guessing ahead would show random text's repeats, not the model's speed.
        engine = Engine(subject.model, subject.tokenizer, max_sequences=1, drafts=0)
        # What the machine could do at best is not asked.
        (speed,) = measure(engine, [1], prompt_tokens=prompt, tokens=tokens, bandwidth=math.inf)
        found |= {name: float(getattr(speed, name)) for name in SPEEDS}
    return {name: value for name, value in found.items() if name in wanted}


def likeliest_answers(subject: Subject, asked: Sequence[NeverAgainConfig]) -> list[str]:
    """What the model says to each prompt at temperature 0: to a user's message where it has a template, else going on.

    Raises:
        UserError: a prompt is longer than the model reads.
        ModelError: it writes no text.
    """
    engine, tokenizer = Engine(subject.model, subject.tokenizer), subject.tokenizer
    texts = []
    for place, one in enumerate(asked):
        options = SamplingOptions(temperature=0, max_tokens=one.max_tokens)
        message = [{"role": "user", "content": one.prompt}]
        prompt = one.prompt if tokenizer.chat_template is None else tokenizer.render(message, True)
        try:
            texts.append(engine.generate([prompt], options)[0].text)
        except OwnlmError as error:
            error.where = f"never_again.{place}"
            raise
    return texts
