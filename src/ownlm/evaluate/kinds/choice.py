"""Multiple choice: which of several continuations the model finds likeliest (HellaSwag, ARC, BoolQ, WinoGrande, ...)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...errors import DataError
from ..measurement import Floats, Measurement, Metric, mean, of_values
from ..subject import Subject
from ..tables import calibration_error, macro_f1, matthews, of_confidences, of_confusions
from ..task import Item, Measured, Sought, TaskConfig, clusters_of
from ..templates import Template, compiled

MetricName = Literal["accuracy", "accuracy_norm", "macro_f1", "matthews", "calibration_error"]


class ChoiceTask(TaskConfig):
    """The likeliest continuation is the model's answer.

    ``accuracy`` compares their whole logarithms, ``accuracy_norm`` those divided by the choices' lengths in characters, as the
    lm-evaluation-harness does. ``macro_f1`` and ``matthews`` need the same choices for every item, as a classification
    has. ``calibration_error`` compares the shares that the model gives its answers with how often they are right.
    """

    kind: Literal["choice"] = "choice"
    prompt: str
    """What stands before a choice; ``{{ choice }}`` is the choice itself, for tasks whose prompts differ."""
    choices: str | tuple[str, ...]
    """The choices: a list, or a template that gives one."""
    answer: str
    """The right choice: a template that gives its number, counted from 0, or its text."""
    continuation: str = " {{ choice }}"
    """What is scored after the prompt."""
    metrics: tuple[MetricName, ...] = Field(("accuracy", "accuracy_norm"), min_length=1)
    """What is measured."""

    def sought(self, item: Item) -> Sought:
        """See TaskConfig.sought."""
        asked = _Reader(self)(item)
        if len(set(asked.prompts)) > 1:
            # The choices are beginnings of one text, whose end is the same.
            return Sought(asked.prompts[asked.right] + asked.continuations[asked.right])
        question = compiled(self.prompt, "prompt").own.line({**item.values, "choice": ""}, item.where)
        return Sought(question, (asked.choices[asked.right],), asked.choices)

    def measure(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> Measured:
        """See TaskConfig.measure."""
        read = _Reader(self)
        head = "".join(read.example(item) + self.shots.joined_by for item in examples)
        asked = [read(item) for item in items]
        pairs = [
            (head + prompt, end) for one in asked for prompt, end in zip(one.prompts, one.continuations, strict=True)
        ]
        scored = subject.likelihoods(pairs, self.long, self.name)
        place, answered, logprobs = 0, [], []
        for item, one in zip(items, asked, strict=True):
            found = scored.likelihoods[place : place + len(one.choices)]
            place += len(one.choices)
            if None not in found:
                answered.append((item, one))
                logprobs.append(np.array([likelihood.logprob for likelihood in found if likelihood is not None]))
        questions = [one for _, one in answered]
        kept = [item for item, _ in answered]
        keys, clusters = [item.key for item in kept], clusters_of(self, kept)
        measurements = [
            Measurement(self.name, *self._rows(name, questions, logprobs), keys, clusters, len(examples), subject.name)
            for name in self.metrics
        ]
        records = [
            {
                "where": item.where,
                "prompt": one.prompts[one.right],
                "choices": list(one.choices),
                "logprobs": found.tolist(),
                "right": one.right,
                "chosen": int(found.argmax()),
            }
            for (item, one), found in zip(answered, logprobs, strict=True)
        ]
        item_of = [number for number, one in enumerate(asked) for _ in one.choices]
        long = len({item_of[place] for place in scored.long})
        return Measured(measurements, records, long)

    def _rows(
        self, name: MetricName, asked: Sequence[_Asked], logprobs: Sequence[NDArray[np.float64]]
    ) -> tuple[Metric, Floats]:
        right = np.array([one.right for one in asked])
        chosen = np.array([found.argmax() for found in logprobs])
        if name == "accuracy":
            return mean(name, best=1.0), of_values(chosen == right)
        if name == "accuracy_norm":
            # A choice may be empty, as "no answer" is in some tasks.
            scaled = [found / np.maximum(one.lengths, 1) for found, one in zip(logprobs, asked, strict=True)]
            return mean(name, best=1.0), of_values(np.array([found.argmax() for found in scaled]) == right)
        if name == "calibration_error":
            shares = [np.exp(found - np.logaddexp.reduce(found)) for found in logprobs]
            return calibration_error(), of_confidences(np.array([share.max() for share in shares]), chosen == right)
        labels = {one.choices for one in asked}
        if len(labels) > 1:
            raise DataError(f"{name} needs the same choices for every item", where=f"metrics of {self.name}")
        (classes,) = labels or {()}
        metric = macro_f1(len(classes)) if name == "macro_f1" else matthews(len(classes))
        return metric, of_confusions(right, chosen, len(classes))


@dataclass(frozen=True)
class _Asked:
    """One item as it is shown."""

    prompts: Sequence[str]
    choices: tuple[str, ...]
    continuations: Sequence[str]
    right: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(choice) for choice in self.choices])


class _Reader:
    """Items to what is shown of them."""

    def __init__(self, task: ChoiceTask) -> None:
        self._prompt, self._continuation = Template(task.prompt, "prompt"), Template(task.continuation, "continuation")
        self._answer = Template(task.answer, "answer")
        self._choices = Template(task.choices, "choices") if isinstance(task.choices, str) else task.choices

    def __call__(self, item: Item) -> _Asked:
        values, where = item.values, item.where
        choices = self._choices if isinstance(self._choices, tuple) else self._choices.value(values, where)
        if not isinstance(choices, list | tuple) or not choices or not all(isinstance(x, str) for x in choices):
            raise DataError(f"choices must be a list of texts, not {choices!r}", where=where)
        with_choice = [{**values, "choice": choice} for choice in choices]
        return _Asked(
            [self._prompt.line(one, where) for one in with_choice],
            tuple(choices),
            [self._continuation.line(one, where) for one in with_choice],
            self._right(choices, values, where),
        )

    def example(self, item: Item) -> str:
        """A worked example."""
        asked = self(item)
        return asked.prompts[asked.right] + asked.continuations[asked.right]

    def _right(self, choices: Sequence[str], values: Mapping[str, Any], where: str) -> int:
        answer = self._answer.value(values, where)
        if isinstance(answer, str) and answer in choices:
            return choices.index(answer)
        number = int(answer) if isinstance(answer, str) and answer.strip().isdigit() else answer
        if isinstance(number, bool):
            number = int(number)
        if not isinstance(number, int) or not 0 <= number < len(choices):
            raise DataError(f"the answer {answer!r} is not among the choices {list(choices)!r}", where=where)
        return number
