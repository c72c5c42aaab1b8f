"""Counterfactual pairs made from the user's own prompts: does the model treat them alike when only a group is exchanged?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ...engine.requests import Completion, SamplingOptions
from ...errors import DataError, ModelError
from ..bias.task import BiasTask, check_subject
from ..counterfactual import Pair, answer_likelihoods, hidden_likelihoods, measure_gaps
from ..likelihood import Request
from ..refusals import refuses
from ..subject import Subject
from ..swaps import FRAMES, TwoGroups, framed_variants, groups_of, variants
from ..task import Item, Measured, Sought, clusters_of
from ..templates import compiled

Swap = Literal["names", "gender", "religion", "age", "nationality"]
Measure = Literal["likelihood", "length", "refusal", "sentiment", "toxicity"]
# What a scorer is asked for.
_SCORED: tuple[Measure, ...] = ("sentiment", "toxicity")
# Stands between a conversation's messages while words are looked for in all of them together.
_BETWEEN = "\n\x1e\n"


@dataclass(frozen=True)
class Prompt:
    """What the model is asked: a text, or a conversation whose last message is a user's.

    Attributes:
        roles: of its messages; empty for a text.
        contents: their texts, or the text alone.
    """

    roles: tuple[str, ...]
    contents: tuple[str, ...]

    @property
    def text(self) -> str:
        """As people read it."""
        return "\n".join(self.contents)

    def swapped(self, kind: str, frame: str | None, number: int) -> tuple[dict[str, Prompt], bool]:
        """The prompt about each group, and whether a frame was needed; empty where nothing can be exchanged.

        Raises:
            TwoGroups: it names two groups.
        """
        found = variants(_BETWEEN.join(self.contents), kind)
        if found or frame is None:
            return {group: Prompt(self.roles, tuple(one.split(_BETWEEN))) for group, one in found.items()}, False
        last = framed_variants(self.contents[-1], kind, frame, number)
        return {group: Prompt(self.roles, (*self.contents[:-1], one)) for group, one in last.items()}, True


@dataclass(frozen=True)
class Asked:
    """One pair of prompts.

    Attributes:
        item: the place of the item it was made from.
        part: such as "gender:she-he".
        first, second: the prompts.
        framed: whether a frame says who asks.
    """

    item: int
    part: str
    first: Prompt
    second: Prompt
    framed: bool


@dataclass
class Made:
    """All pairs, and what became of prompts that gave none: counts by kind of swap."""

    pairs: list[Asked] = field(default_factory=list)
    framed: Counter[str] = field(default_factory=Counter)
    none: Counter[str] = field(default_factory=Counter)
    two: Counter[str] = field(default_factory=Counter)


class CounterfactualTask(BiasTask):
    """Each prompt is asked about several groups, and the answers are compared in pairs (counterfactual.py, swaps/).

    | measure | of the first group's prompt, less the second's |
    |---|---|
    | ``likelihood`` | how likely the same answer is, in nats a token |
    | ``length`` | tokens of the answer |
    | ``refusal`` | whether the answer refuses (refusals.py) |
    | ``sentiment``, ``toxicity`` | what a scorer gives the answer, where the model's subject has one |

    Each gives the metrics ``X_gap`` and ``X_gap_size``; ``answers_differ`` is the share of pairs with two answers. Scores are
    named by groups, such as ``mine/gender:she-he``; each group is compared with the first of its kind. Intervals are over
    prompts. A masked model, which answers nothing, has ``likelihood`` alone: of the answer, or else of the prompt's words that
    were not exchanged, each hidden alone.
    """

    kind: Literal["counterfactual"] = "counterfactual"
    prompt: str = "{{ prompt }}"
    """What the model is asked: a template that gives a text, or a list of messages."""
    chat: bool = False
    """Whether a text is a message of a user's, in the model's own chat template."""
    swaps: tuple[Swap, ...] = Field(("names", "gender", "religion", "age", "nationality"), min_length=1)
    """What is exchanged."""
    frames: dict[Swap, str | None] | Literal[False] = Field(default_factory=dict)
    """What says who asks where a prompt does not, such as "My name is {name}. {prompt}", by kind of swap; null leaves such
    prompts out of a kind, and false out of all."""
    max_tokens: int = Field(64, ge=1)
    """The most tokens of an answer."""
    answer: str | None = None
    """A template that gives a reference answer, whose likelihood is compared; without it, the model's own answers' is."""
    measures: tuple[Measure, ...] | None = None
    """What is compared; without it, all that can be."""

    @model_validator(mode="after")
    def _is_whole(self) -> CounterfactualTask:
        if self.long == "cut":
            raise ValueError("'long: cut' would cut off what was exchanged: leave it at skip")
        for kind, frame in (self.frames or {}).items():
            if frame is not None:
                framed_variants("x", kind, frame, 0)
        return self

    def frame(self, kind: Swap) -> str | None:
        """The frame of a kind of swap."""
        return None if self.frames is False else self.frames.get(kind, FRAMES[kind])

    def check(self, subject: Subject) -> None:
        """See TaskConfig.check."""
        check_subject(subject)
        if subject.masked and set(self.measures or ()) - {"likelihood"}:
            raise ModelError(
                "a masked model answers nothing, so only likelihood can be compared",
                where=subject.name,
                hint="leave 'measures' out, or write [likelihood]",
            )

    def sought(self, item: Item) -> Sought:
        """See TaskConfig.sought."""
        answer = None if self.answer is None else compiled(self.answer, "answer").line(item.values, item.where)
        return Sought(self._prompt(item).contents[-1], () if answer is None else (answer,))

    def measure(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> Measured:
        """See TaskConfig.measure."""
        self.check(subject)
        prompts = [self._prompt(item) for item in items]
        made = self._pairs(prompts)
        if not made.pairs:
            what = f"nothing can be exchanged in any of {len(items)} prompts ({', '.join(self.swaps)})"
            raise DataError(what, where=self.data, hint="give frames that say who asks, or other swaps")
        answers = [
            None if self.answer is None else compiled(self.answer, "answer").line(item.values, item.where)
            for item in items
        ]
        measure = _masked if subject.masked else _causal
        compared, long = measure(self, subject, made.pairs, answers)
        clusters = clusters_of(self, items)
        if clusters is None:
            numbers: dict[Prompt, int] = {}
            clusters = np.array([numbers.setdefault(prompt, len(numbers)) for prompt in prompts], np.int64)
        pairs, records = [], []
        for asked, values, texts in compared:
            differ = None if texts is None else texts[0] != texts[1]
            pairs.append(Pair(asked.part, items[asked.item].key, int(clusters[asked.item]), values, differ))
            records.append(
                {"where": items[asked.item].where, "pair": asked.part, "framed": asked.framed}
                | {"prompts": [asked.first.text, asked.second.text]}
                | ({} if texts is None else {"answers": list(texts)})
                | {measure: list(both) for measure, both in values.items()}
            )
        return Measured(
            measure_gaps(self.name, pairs, subject.name), records, len(long), self._notes(subject, made, len(items))
        )

    def wants(self, measure: str) -> bool:
        """Whether a measure is taken."""
        return self.measures is None or measure in self.measures

    def _prompt(self, item: Item) -> Prompt:
        found = compiled(self.prompt, "prompt").value(item.values, item.where)
        if isinstance(found, str) and found.strip():
            return Prompt(("user",) if self.chat else (), (found,))
        try:
            prompt = Prompt(tuple(str(one["role"]) for one in found), tuple(_text(one["content"]) for one in found))
        except (TypeError, KeyError):
            raise DataError("a prompt is a text, or messages with role and content", where=item.where) from None
        # What stands behind the last question is an answer, which the model is to give itself.
        last = max((place for place, role in enumerate(prompt.roles) if role == "user"), default=None)
        if last is None:
            raise DataError("the conversation has no message of a user's", where=item.where)
        return Prompt(prompt.roles[: last + 1], prompt.contents[: last + 1])

    def _pairs(self, prompts: Sequence[Prompt]) -> Made:
        made = Made()
        for place, prompt in enumerate(prompts):
            for kind in self.swaps:
                try:
                    found, framed = prompt.swapped(kind, self.frame(kind), place)
                except TwoGroups:
                    made.two[kind] += 1
                    continue
                made.framed[kind] += framed
                made.none[kind] += not found
                first, *others = groups_of(kind)
                made.pairs += [
                    Asked(place, f"{kind}:{first}-{other}", found[first], found[other], framed)
                    for other in others
                    if first in found and other in found
                ]
        return made

    def _notes(self, subject: Subject, made: Made, count: int) -> list[str]:
        counts = {
            "prompts say nothing of it, and a frame says who asks": made.framed,
            "prompts left out, in which nothing can be exchanged": made.none,
            "prompts left out that name two groups, so that nobody can say which way a gap goes": made.two,
        }
        notes = [
            f"of {count} {what}: {', '.join(f'{kind} {number}' for kind, number in of_kind.items() if number)}"
            for what, of_kind in counts.items()
            if any(of_kind.values())
        ]
        if subject.masked:
            what = "the reference answer" if self.answer else "the words that were not exchanged"
            notes.append(f"a masked model answers nothing: only its pseudo-log-likelihood of {what} is compared")
        else:
            missing = [one for one in _SCORED if self.wants(one) and one not in subject.scorers]
            if missing:
                notes.append(f"{' and '.join(missing)} not measured, for want of a scorer")
            used = [scorer for name, scorer in subject.scorers.items() if name in _SCORED and self.wants(name)]
            notes += [note for scorer in used for note in scorer.notes]
            if used:
                notes.append("a scorer may hear the name of a group that an answer repeats, rather than its tone")
        return notes


_Compared = list[tuple[Asked, dict[str, tuple[float, float]], tuple[str, str] | None]]


def _causal(
    task: CounterfactualTask, subject: Subject, pairs: Sequence[Asked], answers: Sequence[str | None]
) -> tuple[_Compared, set[int]]:
    """What the model answers and how likely it finds it, and the items that are too long."""
    prompts = list(dict.fromkeys(prompt for pair in pairs for prompt in (pair.first, pair.second)))
    ids = dict(zip(prompts, _ids(subject, prompts), strict=True))
    references = {
        (prompt, answer): _reference(subject, prompt, ids[prompt], answer)
        for pair in pairs
        for prompt in (pair.first, pair.second)
        if (answer := answers[pair.item]) is not None
    }
    most = subject.model.config.max_positions
    long: set[int] = set()
    for pair in pairs:
        for prompt in (pair.first, pair.second):
            request = references.get((prompt, answers[pair.item] or ""))
            fits = request is None or len(request.context) + len(request.continuation) <= most + 1
            if len(ids[prompt]) + task.max_tokens > most or not fits:
                long.add(pair.item)
    kept = [pair for pair in pairs if pair.item not in long]
    asked = list(dict.fromkeys(prompt for pair in kept for prompt in (pair.first, pair.second)))
    options = SamplingOptions(temperature=0, max_tokens=task.max_tokens)
    written: dict[Prompt, Completion] = (
        dict(zip(asked, subject.answers([ids[prompt] for prompt in asked], options), strict=True)) if asked else {}
    )
    texts = {prompt: one.text.strip() for prompt, one in written.items()}
    values: list[dict[str, tuple[float, float]]] = [{} for _ in kept]
    if task.wants("likelihood"):
        requests = []
        for pair in kept:
            answer = answers[pair.item]
            if answer is not None:
                requests.append([(references[pair.first, answer], references[pair.second, answer])])
                continue
            own = [written[prompt].tokens for prompt in (pair.first, pair.second)]
            requests.append(
                [(Request(ids[pair.first], tokens), Request(ids[pair.second], tokens)) for tokens in own if tokens]
            )
        for into, both in zip(values, answer_likelihoods(subject, requests, task.name), strict=True):
            # Two empty answers say nothing.
            if not np.isnan(both).any():
                into["likelihood"] = (float(both[0]), float(both[1]))
    for measure, value in _of_answers(task, subject, texts, written).items():
        for pair, into in zip(kept, values, strict=True):
            into[measure] = (value[pair.first], value[pair.second])
    return [(pair, one, (texts[pair.first], texts[pair.second])) for pair, one in zip(kept, values, strict=True)], long


def _of_answers(
    task: CounterfactualTask, subject: Subject, texts: Mapping[Prompt, str], written: Mapping[Prompt, Completion]
) -> dict[str, dict[Prompt, float]]:
    """By measure, what each answer has of it."""
    found: dict[str, dict[Prompt, float]] = {}
    if task.wants("length"):
        found["length"] = {prompt: float(len(one.tokens)) for prompt, one in written.items()}
    if task.wants("refusal"):
        found["refusal"] = {prompt: float(refuses(text)) for prompt, text in texts.items()}
    for measure in _SCORED:
        if measure in subject.scorers and task.wants(measure) and texts:
            scores = subject.scorers[measure].scores(list(texts.values()))
            found[measure] = dict(zip(texts, map(float, scores), strict=True))
    return found


def _masked(
    task: CounterfactualTask, subject: Subject, pairs: Sequence[Asked], answers: Sequence[str | None]
) -> tuple[_Compared, set[int]]:
    """How likely a masked model finds what both prompts share, or the answer after both; and the items that are too long."""
    lines = []
    for pair in pairs:
        answer = answers[pair.item] or ""
        ending = f" {answer}" if answer else ""
        lines.append((pair.first.text + ending, pair.second.text + ending, answer))
    found = hidden_likelihoods(subject, lines, task.name)
    long = {pair.item for pair, both in zip(pairs, found, strict=True) if both is None}
    return [
        (pair, {"likelihood": both}, None)
        for pair, both in zip(pairs, found, strict=True)
        if both is not None and pair.item not in long
    ], long


def _ids(subject: Subject, prompts: Sequence[Prompt]) -> list[list[int]]:
    plain = iter(subject.tokenizer.encode_many([prompt.text for prompt in prompts if not prompt.roles]))
    return [
        subject.tokenizer.render(
            [{"role": role, "content": content} for role, content in zip(prompt.roles, prompt.contents, strict=True)],
            add_generation_prompt=True,
        )
        if prompt.roles
        else subject.with_bos(next(plain))
        for prompt in prompts
    ]


def _reference(subject: Subject, prompt: Prompt, ids: list[int], answer: str) -> Request:
    if not prompt.roles:
        (request,) = subject.requests([(prompt.text, f" {answer}")])
        return request
    return Request(ids, subject.tokenizer.encode(answer))


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise TypeError
    return content
