"""Tasks for models with a classification head: texts whose class is known, such as HateCheck's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ...errors import ConfigError, DataError, ModelError, nearest
from ...prediction.classes import classify
from ...prediction.heads import check_head
from ...prediction.texts import Text
from ...progress import Progress
from ...tokens.frame import frame_of
from ..classes import MetricName, class_measurements
from ..measurement import Floats, Measurement
from ..subject import Subject
from ..task import Item, Measured, Sought, TaskConfig, clusters_of
from ..templates import compiled

# Texts that are read between two updates of the progress.
BATCH = 256
# What says nothing where all items have one class.
OF_SEVERAL = {"macro_f1", "matthews", "auroc"}


class ClassifyTask(TaskConfig):
    """The class that the model's head finds likeliest is its answer.

    ``auroc`` is how often a text of the class ``positive`` scores above one of the others. ``calibration_error`` compares the
    probability that the model gives its answers with how often they are right.
    """

    kind: Literal["classify"] = "classify"
    text: str
    """The text: a template."""
    pair: str | None = None
    """A second text, for models that compare two."""
    answer: str
    """The right class: a template."""
    classes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Names that models have for each class, whose probabilities are added up; without it, the model's own classes."""
    positive: str | None = None
    """The class that ``auroc`` looks for."""
    by: str | None = None
    """A template that puts items into groups, which are measured apart as well, as "hatecheck/slur_h"."""
    metrics: tuple[MetricName, ...] = Field(("accuracy", "macro_f1", "matthews", "calibration_error"), min_length=1)
    """What is measured."""

    @property
    def takes_examples(self) -> bool:
        """A head knows its classes."""
        return False

    def sought(self, item: Item) -> Sought:
        """See TaskConfig.sought."""
        text, answer = compiled(self.text, "text").own, compiled(self.answer, "answer").own
        passage = "" if self.pair is None else compiled(self.pair, "pair").own.line(item.values, item.where)
        asked = text.line(item.values, item.where)
        return Sought(asked, (answer.line(item.values, item.where),), passage=passage)

    def measure(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> Measured:
        """See TaskConfig.measure."""
        check_head(subject.model, "classify")
        names, place_of = self._classes(subject)
        texts = [self._text(item) for item in items]
        right = [self._right(item, names) for item in items]
        long = self._long(subject, texts)
        chosen = [i for i in range(len(items)) if self.long == "cut" or i not in long]
        found = self._probabilities(subject, [texts[i] for i in chosen], place_of, len(names))
        kept = [items[i] for i in chosen]
        answers = np.array([right[i] for i in chosen], np.int64)
        groups = [None if self.by is None else compiled(self.by, "by").line(i.values, i.where) for i in kept]
        records: list[dict[str, Any]] = [
            {
                "where": item.where,
                "text": texts[i],
                **({} if group is None else {"group": group}),
                "right": names[answer],
                "chosen": names[int(row.argmax())],
                "probability": float(row.max()),
            }
            for item, i, group, answer, row in zip(kept, chosen, groups, answers, found, strict=True)
        ]
        return Measured(self._measurements(subject, kept, names, found, answers, groups), records, len(long))

    def _measurements(
        self,
        subject: Subject,
        items: Sequence[Item],
        names: Sequence[str],
        found: Floats,
        right: np.ndarray,
        groups: Sequence[str | None],
    ) -> list[Measurement]:
        keys, clusters = [item.key for item in items], clusters_of(self, items)
        positive = 1 if self.positive is None else names.index(self.positive)
        measurements = []
        for group in [None, *sorted({group for group in groups if group})]:
            taken = np.array([group in (None, one) for one in groups], bool)
            several = group is None or len(set(right[taken].tolist())) > 1
            measurements += class_measurements(
                self.name if group is None else f"{self.name}/{group}",
                found[taken],
                right[taken],
                [metric for metric in self.metrics if several or metric not in OF_SEVERAL],
                [key for key, of_group in zip(keys, taken, strict=True) if of_group],
                positive=positive,
                clusters=None if clusters is None else clusters[taken],
                model=subject.name,
            )
        return measurements

    def _classes(self, subject: Subject) -> tuple[list[str], list[int]]:
        """The task's classes, and which of them each of the model's is."""
        config = subject.model.config
        if config.problem != "single":
            raise ModelError("this model does not give each text one class", where=subject.name or None)
        named = {name: (name,) for name in config.labels} if not self.classes else dict(self.classes)
        names, place_of = list(named), []
        for label in config.labels:
            places = [place for place, name in enumerate(names) if label in (name, *named[name])]
            if len(places) != 1:
                raise ModelError(
                    f"the model's class '{label}' is none of this task's: {', '.join(names)}",
                    where=self.name,
                    hint="say in a task file of your own, under 'classes', which of the model's classes each is",
                )
            place_of += places
        if self.positive is not None and self.positive not in names:
            raise ConfigError(f"'{self.positive}' is no class", where="positive", hint=nearest(self.positive, names))
        if "auroc" in self.metrics and self.positive is None and len(names) > 2:
            raise ConfigError("auroc needs to know which class it is about", where="positive")
        return names, place_of

    def _text(self, item: Item) -> Text:
        texts = [compiled(one, "text").line(item.values, item.where) for one in (self.text, self.pair) if one]
        if not all(text.strip() for text in texts):
            raise DataError("the text is empty", where=item.where)
        return texts[0] if self.pair is None else (texts[0], texts[1])

    def _right(self, item: Item, names: Sequence[str]) -> int:
        answer = compiled(self.answer, "answer").line(item.values, item.where)
        if answer not in names:
            raise DataError(f"the answer '{answer}' is not among the classes: {', '.join(names)}", where=item.where)
        return names.index(answer)

    def _long(self, subject: Subject, texts: Sequence[Text]) -> set[int]:
        """Those longer than the model reads."""
        frame = frame_of(subject.tokenizer, pair=self.pair is not None, causal=subject.model.config.causal)
        parts = [[text] if isinstance(text, str) else list(text) for text in texts]
        lengths = iter([len(ids) for ids in subject.tokenizer.encode_many([one for part in parts for one in part])])
        room = subject.model.config.max_positions - len(frame)
        return {place for place, part in enumerate(parts) if sum(next(lengths) for _ in part) > room}

    def _probabilities(self, subject: Subject, texts: Sequence[Text], place_of: Sequence[int], classes: int) -> Floats:
        """Of each of the task's classes: [items, classes]."""
        labels = subject.model.config.labels
        found = np.zeros((len(texts), classes))
        with Progress(self.name, total=len(texts), unit="texts", hidden=subject.hidden) as progress:
            for start in range(0, len(texts), BATCH):
                read = classify(subject.model, subject.tokenizer, texts[start : start + BATCH], cut=True)
                for row, one in zip(found[start:], read, strict=False):
                    np.add.at(row, place_of, [one.scores[label] for label in labels])
                progress.update(start + len(read))
        return found
