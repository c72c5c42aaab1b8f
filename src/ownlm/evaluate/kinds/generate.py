"""Tasks that the model answers in its own words: questions, summaries, instructions whose keeping a program can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ...engine.requests import SamplingOptions
from ...errors import DataError
from ...prediction.squad import exact_match, word_f1
from ..measurement import Floats, Measurement, Metric, mean, of_values, quotient
from ..overlap import chrf, chrf_rows, rouge_l, rouge_n
from ..rules import is_json, kept
from ..subject import Subject
from ..task import Item, Measured, Sought, TaskConfig, clusters_of
from ..templates import compiled

MetricName = Literal[
    "exact",
    "squad_exact",
    "squad_f1",
    "rouge1",
    "rouge2",
    "rougeL",
    "chrf",
    "pattern",
    "json",
    "rules",
    "rules_each",
]
BY_ANSWERS = {"exact", "squad_exact", "squad_f1", "rouge1", "rouge2", "rougeL", "chrf"}


class GenerateTask(TaskConfig):
    """What the model writes is compared with right answers, or looked over by rules.

    | metric | |
    |---|---|
    | ``exact`` | equal to a right answer, but for spaces |
    | ``squad_exact``, ``squad_f1`` | as SQuAD compares answers: without case, punctuation and articles |
    | ``rouge1``, ``rouge2``, ``rougeL`` | shared words, pairs of words, words in order (F1) |
    | ``chrf`` | shared pieces of letters, of all items together |
    | ``pattern`` | the regular expression ``pattern`` is found |
    | ``json`` | it is JSON |
    | ``rules``, ``rules_each`` | items all of whose rules are kept; rules that are kept (rules.py) |
    """

    kind: Literal["generate"] = "generate"
    prompt: str
    """What the model is asked."""
    chat: bool = False
    """Whether the prompt is a message of a user's, in the model's own chat template, and examples are earlier turns."""
    answers: str | None = None
    """The right answers: a template that gives a text, or a list of texts any of which is right."""
    pattern: str | None = None
    """A regular expression for the metric ``pattern``."""
    rules: str | None = None
    """A template that gives the item's list of rules."""
    max_tokens: int = Field(128, ge=1)
    """The most tokens of an answer."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; what stands between examples always does where there are any and no chat."""
    metrics: tuple[MetricName, ...] = Field(min_length=1)
    """What is measured."""

    @model_validator(mode="after")
    def _has_what_it_measures(self) -> GenerateTask:
        needs = {"pattern": self.pattern, "rules": self.rules, "rules_each": self.rules}
        needs |= dict.fromkeys(BY_ANSWERS, self.answers)
        for metric in self.metrics:
            if needs.get(metric, "") is None:
                key = "answers" if metric in BY_ANSWERS else metric.removesuffix("_each")
                raise ValueError(f"the metric '{metric}' needs '{key}'")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern is no regular expression: {error}") from None
        return self

    def sought(self, item: Item) -> Sought:
        """See TaskConfig.sought."""
        return Sought(compiled(self.prompt, "prompt").own.line(item.values, item.where), tuple(self._right(item)))

    def measure(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> Measured:
        """See TaskConfig.measure."""
        # What is wrong with an item is told before anything is written.
        for item in items:
            self._right(item), self._kept(item, "")
        prompts = self._prompts(subject, items, examples)
        room = subject.model.config.max_positions - self.max_tokens
        fits = [len(prompt) <= room for prompt in prompts]
        chosen = [place for place, fit in enumerate(fits) if fit]
        if self.long == "cut":
            prompts = [prompt[-max(room, 1) :] for prompt in prompts]
            chosen = list(range(len(items)))
        stop = [*self.stop, *([self.shots.joined_by] if examples and not self.chat else [])]
        options = SamplingOptions(temperature=0, max_tokens=self.max_tokens, **({"stop": stop} if stop else {}))
        found = subject.answers([prompts[place] for place in chosen], options) if chosen else []
        texts = [one.text.strip() for one in found]
        asked = [items[place] for place in chosen]
        right = [self._right(item) for item in asked]
        rules = [self._kept(item, text) for item, text in zip(asked, texts, strict=True)]
        keys, clusters = [item.key for item in asked], clusters_of(self, asked)
        measurements = [
            Measurement(self.name, *self._rows(name, texts, right, rules), keys, clusters, len(examples), subject.name)
            for name in self.metrics
        ]
        prompt = compiled(self.prompt, "prompt")
        records: list[dict[str, Any]] = [
            {"where": item.where, "prompt": prompt.line(item.values, item.where), "answer": text}
            | ({"right_answers": list(texts_right)} if texts_right else {})
            | ({"rules": self._told(item), "rules_kept": of_rules} if of_rules else {})
            for item, text, texts_right, of_rules in zip(asked, texts, right, rules, strict=True)
        ]
        return Measured(measurements, records, fits.count(False))

    def _prompts(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> list[list[int]]:
        prompt = compiled(self.prompt, "prompt")
        shown = [(prompt.line(e.values, e.where), self._example_answer(e)) for e in examples]
        if self.chat:
            turns = [
                message
                for question, answer in shown
                for message in ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
            ]
            return [
                subject.tokenizer.render(
                    [*turns, {"role": "user", "content": prompt.line(item.values, item.where)}],
                    add_generation_prompt=True,
                )
                for item in items
            ]
        head = "".join(f"{question} {answer}{self.shots.joined_by}" for question, answer in shown)
        texts = [head + prompt.line(item.values, item.where) for item in items]
        return [subject.with_bos(ids) for ids in subject.tokenizer.encode_many(texts)]

    def _example_answer(self, item: Item) -> str:
        right = self._right(item)
        if not right:
            raise DataError("a worked example needs a right answer", where=item.where, hint="give 'answers'")
        return right[0]

    def _right(self, item: Item) -> list[str]:
        if self.answers is None:
            return []
        found = compiled(self.answers, "answers").value(item.values, item.where)
        right = [found] if isinstance(found, str) else found
        if not isinstance(right, list | tuple) or not right or not all(isinstance(one, str) for one in right):
            raise DataError(f"answers must be a text or a list of texts, not {found!r}", where=item.where)
        return list(right)

    def _kept(self, item: Item, text: str) -> list[bool]:
        if self.rules is None:
            return []
        return kept(text, compiled(self.rules, "rules").value(item.values, item.where), item.where)

    def _told(self, item: Item) -> list[str]:
        """An item's rules as a page shows them."""
        rules = compiled(self.rules or "", "rules").value(item.values, item.where)
        told = []
        for rule in rules:
            name, value = rule["rule"].replace("_", " "), rule.get("value", True)
            values = ", ".join(map(str, value if isinstance(value, list) else [value]))
            told.append(name if value is True else f"{name}: {values}")
        return told

    def _rows(
        self, name: MetricName, texts: Sequence[str], right: Sequence[Sequence[str]], rules: Sequence[Sequence[bool]]
    ) -> tuple[Metric, Floats]:
        if name == "chrf":
            return chrf(), chrf_rows(texts, [one[0] for one in right])
        if name == "rules_each":
            counts = [(sum(one), len(one)) for one in rules]
            return quotient(name, best=1.0), np.array(counts, float).reshape(len(rules), 2)
        pairs = list(zip(texts, right, strict=True))
        values: dict[str, Any] = {
            "exact": lambda: [" ".join(a.split()) in {" ".join(b.split()) for b in bs} for a, bs in pairs],
            "squad_exact": lambda: [exact_match(*pair) for pair in pairs],
            "squad_f1": lambda: [word_f1(*pair) for pair in pairs],
            "rouge1": lambda: [rouge_n(*pair, 1) for pair in pairs],
            "rouge2": lambda: [rouge_n(*pair, 2) for pair in pairs],
            "rougeL": lambda: [rouge_l(*pair) for pair in pairs],
            "pattern": lambda: [re.search(self.pattern or "", text) is not None for text in texts],
            "json": lambda: [is_json(text) for text in texts],
            "rules": lambda: [all(one) for one in rules],
        }
        return mean(name, best=1.0), of_values(values[name]())
