"""Tasks that score text as it stands: perplexity, and the last word of a passage (LAMBADA)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..measurement import Measurement, exponent_of_mean, mean, of_values, quotient
from ..subject import Subject
from ..task import Item, Measured, Sought, TaskConfig, clusters_of
from ..templates import Template, compiled

BITS_A_NAT = 1 / np.log(2)


class PerplexityTask(TaskConfig):
    """How well the model predicts texts: each token once, in windows as full as possible.

    Perplexity a token depends on the tokenizer; a word's and a byte's, and bits a byte, compare models of any. Words and
    bytes are counted in ``counted``, where a text has been changed since, as WikiText's is.
    """

    kind: Literal["perplexity"] = "perplexity"
    text: str
    """The text that is predicted."""
    counted: str | None = None
    """The text whose words (between whitespace) and bytes are counted; the same without it."""
    metrics: tuple[Literal["word_perplexity", "byte_perplexity", "bits_per_byte", "token_perplexity"], ...] = Field(
        ("word_perplexity", "byte_perplexity", "bits_per_byte", "token_perplexity"), min_length=1
    )
    """What is measured."""

    @property
    def takes_examples(self) -> bool:
        """A text stands for itself."""
        return False

    def sought(self, item: Item) -> Sought:
        """See TaskConfig.sought."""
        return Sought(compiled(self.text, "text").own.line(item.values, item.where))

    def measure(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> Measured:
        """See TaskConfig.measure; there are no worked examples before a text that stands for itself."""
        text = Template(self.text, "text")
        counted = text if self.counted is None else Template(self.counted, "counted")
        texts = [text.line(item.values, item.where) for item in items]
        counts = [counted.line(item.values, item.where) for item in items]
        nats = -np.array(subject.rolling(texts, self.name))
        tokens = np.array([len(ids) for ids in subject.tokenizer.encode_many(texts)], float)
        words = np.array([len(re.split(r"\s+", one)) for one in counts], float)
        sizes = np.array([len(one.encode()) for one in counts], float)
        kinds = {
            "word_perplexity": (exponent_of_mean("word_perplexity"), nats, words),
            "byte_perplexity": (exponent_of_mean("byte_perplexity"), nats, sizes),
            "token_perplexity": (exponent_of_mean("token_perplexity"), nats, tokens),
            "bits_per_byte": (quotient("bits_per_byte", higher_is_better=False, unit="bits"), nats * BITS_A_NAT, sizes),
        }
        keys, clusters = [item.key for item in items], clusters_of(self, items)
        measurements = [
            Measurement(self.name, metric, np.stack((above, below), -1), keys, clusters, 0, subject.name)
            for metric, above, below in (kinds[name] for name in self.metrics)
        ]
        records: list[dict[str, Any]] = [
            {"where": item.where, "text": one, "nats": float(loss)}
            for item, one, loss in zip(items, texts, nats, strict=True)
        ]
        return Measured(measurements, records)


class ContinuationTask(TaskConfig):
    """Whether the model goes on with the right text: it counts where each of its tokens is the likeliest.

    ``perplexity`` is of the continuations, each as one: e to the mean of their losses, as LAMBADA's usually is.
    """

    kind: Literal["continuation"] = "continuation"
    prompt: str
    """What stands before."""
    continuation: str
    """What should come, with the space before it."""
    metrics: tuple[Literal["accuracy", "perplexity"], ...] = Field(("accuracy", "perplexity"), min_length=1)
    """What is measured."""

    def sought(self, item: Item) -> Sought:
        """See TaskConfig.sought."""
        prompt, end = compiled(self.prompt, "prompt").own, compiled(self.continuation, "continuation").own
        return Sought(prompt.line(item.values, item.where), (end.line(item.values, item.where).strip(),))

    def measure(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> Measured:
        """See TaskConfig.measure."""
        prompt, continuation = Template(self.prompt, "prompt"), Template(self.continuation, "continuation")

        def both(item: Item) -> tuple[str, str]:
            return prompt.line(item.values, item.where), continuation.line(item.values, item.where)

        head = "".join("".join(both(item)) + self.shots.joined_by for item in examples)
        pairs = [both(item) for item in items]
        scored = subject.likelihoods([(head + before, after) for before, after in pairs], self.long, self.name)
        kept = [
            (item, pair, found)
            for item, pair, found in zip(items, pairs, scored.likelihoods, strict=True)
            if found is not None
        ]
        keys, clusters = [item.key for item, _, _ in kept], clusters_of(self, [item for item, _, _ in kept])
        kinds = {
            "accuracy": (mean("accuracy", best=1.0), of_values([found.greedy for _, _, found in kept])),
            "perplexity": (exponent_of_mean("perplexity"), of_values([-found.logprob for _, _, found in kept])),
        }
        measurements = [
            Measurement(self.name, *kinds[name], keys, clusters, len(examples), subject.name) for name in self.metrics
        ]
        records: list[dict[str, Any]] = [
            {
                "where": item.where,
                "prompt": before,
                "right": after,
                "logprob": found.logprob,
                "greedy": found.greedy,
            }
            for item, (before, after), found in kept
        ]
        return Measured(measurements, records, len(scored.long))
