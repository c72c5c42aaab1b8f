"""What gates ask of a model besides its scores: its size, its speed on this machine, and its likeliest answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..engine.requests import SamplingOptions
from ..errors import OwnlmError
from .facts import speeds_of, weight_bytes_of
from .gate_config import NeverAgainConfig
from .subject import Subject

SPEEDS = ("tokens_per_second", "first_token", "token")


def machine_facts(subject: Subject, wanted: Collection[str]) -> dict[str, float]:
    """Facts by the names in ``MachineGateConfig``; speeds are measured only where one of them is wanted.

    Raises:
        ModelError: a speed is wanted of a model that writes no text.
    """
    found = {
        "parameters": float(subject.model.config.parameters()),
        "weight_bytes": float(weight_bytes_of(subject)),
    }
    if set(SPEEDS) & set(wanted):
        (speed,) = speeds_of(subject, [1])
        found |= {name: float(getattr(speed, name)) for name in SPEEDS}
    return {name: value for name, value in found.items() if name in wanted}


def likeliest_answers(subject: Subject, asked: Sequence[NeverAgainConfig]) -> list[str]:
    """What the model says to each prompt at temperature 0: to a user's message where it has a template, else going on.

    Raises:
        UserError: a prompt is longer than the model reads.
        ModelError: it writes no text.
    """
    tokenizer = subject.tokenizer
    texts = []
    for place, one in enumerate(asked):
        options = SamplingOptions(temperature=0, max_tokens=one.max_tokens)
        message = [{"role": "user", "content": one.prompt}]
        prompt = one.prompt if tokenizer.chat_template is None else tokenizer.render(message, True)
        try:
            texts.append(subject.answers([prompt], options)[0].text)
        except OwnlmError as error:
            error.where = f"never_again.{place}"
            raise
    return texts
