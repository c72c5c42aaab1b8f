"""Preferences: of two answers the better one, or of one answer whether it is wanted.

Written ``r`` for an answer's log-probability minus the starting model's (summed over its tokens), ``sigma`` for the
logistic function, ``w`` and ``l`` for the chosen and the rejected answer:

| method | loss of a pair, or of an answer |
|---|---|
| dpo, sigmoid | -log sigma(beta (r_w - r_l)) (Rafailov et al. 2023) |
| dpo, hinge | max(0, 1 - beta (r_w - r_l)) (Zhao et al. 2023) |
| dpo, ipo | (r_w - r_l - 1 / (2 beta))^2 (Azar et al. 2023) |
| orpo | -p_w - lambda log sigma(log odds_w - log odds_l) (Hong et al. 2024), with p an answer's mean log-probability and |
| | odds = e^p / (1 - e^p); no starting model is asked |
| kto | weight (1 - sigma(beta (r - z))) if the answer is wanted, weight (1 - sigma(beta (z - r))) if not (Ethayarajh et |
| | al. 2024) |

KTO's z estimates how far the model has moved: the mean of ``r`` over answers that stand after messages of others, or 0
where that is negative. Answer i of the data is met with the messages of one half of the data further on, always the
same, so that what the starting model thinks of it is known before the first step too. z is the mean over all answers of
a step, or of a validation, computed before any gradient: neither micro-batches nor workers change it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ...config import Config
from ...errors import ConfigError, DataError
from ...tokens.batch import Batch
from ...tokens.preferences import DESIRABLE, KIND, Preparing, tokenize_preferences
from ...tokens.prepare import PreparedData
from ...tokens.tokenizer import Tokenizer
from .base import Objective, Reading
from .language import Causal, CausalConfig
from .reference import Document, Documents, document_log_probs, packed, reference_log_probs, trained_counts

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer
    from ...tokens.loader import Loader
    from ...tokens.shards import TokenDataset
    from ..data import TrainingData

REFERENCE = "reference"


class PreferenceConfig(Config):
    """Prefer better answers."""

    kind: Literal["preference"] = "preference"
    """preference: the better of two answers to the same question, or answers that are wanted and others that are not."""
    method: Literal["dpo", "orpo", "kto"] = "dpo"
    """dpo: pairs, held against the starting model. orpo: pairs, while the better answer is learned as in chat, without
    a starting model. kto: each answer by itself, wanted or not."""
    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """dpo and kto: how dear it is to move away from the starting model; less moves further."""
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """dpo: the loss of a pair's margin."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, allow_inf_nan=False)
    """dpo with the sigmoid loss: the share of pairs whose label is taken to be wrong (conservative DPO)."""
    average: bool = False
    """dpo: compare mean log-probabilities of an answer's tokens in place of their sums."""
    lambda_: float = Field(default=0.1, gt=0, allow_inf_nan=False, alias="lambda")
    """orpo: the weight of the preference beside the learning of the better answer."""
    desirable_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """kto: the weight of wanted answers."""
    undesirable_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """kto: the weight of the others."""
    unusable: Literal["refuse", "drop"] = "refuse"
    """What to do with a row that says nothing: equal answers, none, or different questions."""

    @model_validator(mode="after")
    def _sound(self) -> PreferenceConfig:
        for key, methods in _PARTS.items():
            field = type(self).model_fields[key]
            if self.method not in methods and getattr(self, key) != field.default:
                raise ValueError(f"{field.alias or key} is no part of {self.method}")
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing is no part of the loss '{self.loss}'")
        if not self.desirable_weight and not self.undesirable_weight:
            raise ValueError("one of desirable_weight and undesirable_weight must be above 0")
        return self


# The methods that a setting is a part of.
_PARTS = {
    "beta": ("dpo", "kto"),
    "loss": ("dpo",),
    "label_smoothing": ("dpo",),
    "average": ("dpo",),
    "lambda_": ("orpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}


@dataclasses.dataclass(frozen=True)
class _Held:
    """A loader's documents, and what the starting model thinks of them.

    Attributes:
        documents: by number.
        reference: the sum of each one's log-probabilities: [documents] float32.
        mismatched: of KTO, the same of ``_Held.mismatch``; else empty.
    """

    documents: Documents
    reference: Tensor
    mismatched: Tensor


class Preference(Objective[PreferenceConfig]):
    """The better answer.

    The loss is the mean over pairs, with KTO over answers. Measured besides: the margin, the mean over pairs of the
    chosen answer's reward minus the rejected one's, and the accuracy, the share of pairs where that is above 0 (equal
    ones count half). A reward is beta r; with ORPO, an answer's mean log-probability.
    """

    kind: ClassVar[str] = "preference"
    unit: ClassVar[str] = "preference"
    data_kind: ClassVar[str] = KIND

    def __init__(self, config: PreferenceConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.judged = config.method == "kto"
        self.group = 1 if self.judged else 2
        self._training: _Held | None = None
        self._validation: _Held | None = None
        self._moved = 0.0

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """What a base without a template is trained on must be what its folder then says."""
        return tokenizer.with_explicit_template()

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """See Objective.shape."""
        return Causal(CausalConfig(), self.seed).shape(base, sources)

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        too_long: Any = reading.too_long
        preparing = Preparing(reading.tokenizer, reading.length, self.judged, too_long, self.config.unusable)
        return tokenize_preferences(path, preparing, cache_folder=reading.cache, progress=reading.progress)

    def check(self, dataset: TokenDataset, where: str) -> None:
        """See Objective.check."""
        super().check(dataset, where)
        if (DESIRABLE in dataset.columns) != self.judged:
            held, wanted = ("pairs", "single answers") if self.judged else ("single answers", "pairs")
            raise DataError(
                f"this dataset holds {held}, and {self.config.method} learns from {wanted}",
                where=where,
                hint="name the file that it was made from, or set objective.method",
            )

    def begin(self, model: Transformer, data: TrainingData, run: Path) -> None:
        """Asks the starting model for its opinion of every answer, or finds it in the run's folder."""
        if self.config.method == "orpo":
            return
        if self.judged:
            self._check_weighed(data)
        self._training = self._held(model, data.loader, run, "train")
        if data.validation is not None:
            self._validation = self._held(model, data.validation, run, "validation")

    def begin_step(
        self, model: Transformer, batches: Sequence[Batch], total: Callable[[Sequence[float]], list[float]]
    ) -> None:
        """Measures KTO's z over the whole step, of all workers, before any gradient is made."""
        if not self.judged or self._training is None:
            return
        moved = [self._mismatched_ratios(model, batch, self._training) for batch in batches]
        summed, count = total([sum(float(part.sum()) for part in moved), float(sum(map(len, moved)))])
        self._moved = max(0.0, summed / count) if count else 0.0

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """Adds what the starting model thinks of each document, once that is known."""
        held = self._validation if step is None else self._training
        if held is None or not batch.documents:
            return batch
        values = held.reference[self._numbers(batch)].unsqueeze(1)
        return dataclasses.replace(batch, columns={**batch.columns, REFERENCE: values})

    def units(self, batch: Batch) -> float:
        """See Objective.units; a batch that another worker waits with has none."""
        return len(batch.documents) / self.group

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss."""
        answers = self._answers(model, batch)
        losses = self._losses(answers, self._moved)
        # Nothing is trained of a batch that another worker waits with.
        there = answers.counts[:: self.group] > 0
        return torch.where(there, losses, 0.0).sum() * share

    @property
    def measures(self) -> Mapping[str, bool]:
        """See Objective.measures."""
        return {"margin": True} if self.judged else {"margin": True, "accuracy": True}

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss, the margin and the accuracy; with KTO the margin between the means of both kinds, and z."""
        parts, moved = [], []
        for batch in batches:
            if self._validation is not None and self.judged:
                moved.append(self._mismatched_ratios(model, batch, self._validation))
            parts.append(self._answers(model, batch.to(model.device)))
        if not parts:
            return {}
        answers = _Answers.joined(parts)
        if not self.judged:
            margins = self._rewards(answers)[::2] - self._rewards(answers)[1::2]
            right = (margins > 0).float() + 0.5 * (margins == 0)
            losses = self._losses(answers, 0.0)
            means = {"loss": losses, "margin": margins, "accuracy": right}
            return {name: values.double().mean().item() for name, values in means.items()}
        z = max(0.0, torch.cat(moved).double().mean().item()) if moved else 0.0
        result = {"loss": self._losses(answers, z).double().mean().item()}
        wanted, rewards = answers.desirable > 0, self._rewards(answers).double()
        if wanted.any() and not wanted.all():
            result["margin"] = (rewards[wanted].mean() - rewards[~wanted].mean()).item()
        return result | {"z": z}

    def _answers(self, model: Transformer, batch: Batch) -> _Answers:
        log_probs, counts = document_log_probs(model, batch), trained_counts(batch)
        reference = batch.columns.get(REFERENCE)
        desirable = batch.columns.get(DESIRABLE)
        zeros = torch.zeros_like(counts)
        return _Answers(
            log_probs,
            counts,
            zeros if reference is None else reference.squeeze(1),
            zeros if desirable is None else desirable.squeeze(1),
        )

    def _rewards(self, answers: _Answers) -> Tensor:
        """What each answer is compared by: [documents]."""
        if self.config.method == "orpo":
            return answers.log_probs / answers.counts.clamp(min=1)
        ratios = answers.log_probs - answers.reference
        return self.config.beta * (ratios / answers.counts.clamp(min=1) if self.config.average else ratios)

    def _losses(self, answers: _Answers, z: float) -> Tensor:
        """The loss of each pair: [pairs]; with KTO of each answer: [documents]."""
        config, rewards = self.config, self._rewards(answers)
        if config.method == "kto":
            wanted = answers.desirable > 0
            away = torch.where(wanted, rewards - config.beta * z, config.beta * z - rewards)
            return torch.where(wanted, config.desirable_weight, config.undesirable_weight) * torch.sigmoid(-away)
        chosen, rejected = rewards[::2], rewards[1::2]
        if config.method == "orpo":
            return config.lambda_ * F.softplus(_log_odds(rejected) - _log_odds(chosen)) - chosen
        margins = chosen - rejected
        if config.loss == "hinge":
            return F.relu(1 - margins)
        if config.loss == "ipo":
            return (margins / config.beta - 1 / (2 * config.beta)).square()
        smoothing = config.label_smoothing
        return (1 - smoothing) * F.softplus(-margins) + smoothing * F.softplus(margins)

    def _held(self, model: Transformer, loader: Loader, run: Path, name: str) -> _Held:
        documents = Documents(loader)
        reference = reference_log_probs(model, documents, loader, run, name)
        if not self.judged:
            return _Held(documents, reference, torch.zeros(0))
        if len(documents) < 2:
            raise DataError(
                "kto needs two answers or more, to hold them against each other",
                where=f"data.{name}",
                hint="add answers to it",
            )
        pairs = _Mismatched(documents, model.config.max_positions)
        return _Held(documents, reference, reference_log_probs(model, pairs, loader, run, f"{name}-mismatched"))

    def _check_weighed(self, data: TrainingData) -> None:
        """Checks before the first step that KTO has an answer to learn from.

        Raises:
            ConfigError: every answer is of the kind that weighs nothing.
        """
        weights = {1: self.config.desirable_weight, 0: self.config.undesirable_weight}
        kinds = {int(kind) for dataset in data.loader.datasets for kind in np.unique(dataset.columns[DESIRABLE])}
        if not any(weights[kind] for kind in kinds):
            word, key = ("wanted", "desirable_weight") if 1 in kinds else ("unwanted", "undesirable_weight")
            what = f"every answer is {word}, and these weigh 0, so there is nothing to learn"
            raise ConfigError(what, where=f"objective.{key}", hint="set it above 0, or add answers of the other kind")

    def _numbers(self, batch: Batch) -> list[int]:
        """The number of each of a batch's documents among the loader's."""
        pieces = np.array(batch.documents, np.int64)
        return (pieces * self.group + np.arange(len(pieces)) % self.group).tolist()

    @torch.no_grad()
    def _mismatched_ratios(self, model: Transformer, batch: Batch, held: _Held) -> Tensor:
        """r of a batch's answers after messages that they do not answer: [documents] float32, on the CPU."""
        training = model.training
        model.eval()
        if batch.documents:
            numbers = self._numbers(batch)
            pairs = _Mismatched(held.documents, model.config.max_positions)
            met = packed([pairs[number] for number in numbers])
            result = document_log_probs(model, met.to(model.device)).cpu() - held.mismatched[numbers]
        else:
            # Only for the weights that are spread over workers, who must all take part.
            result = document_log_probs(model, batch.to(model.device)).cpu()[:0]
        model.train(training)
        return result


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What is known of some answers, all [documents].

    Attributes:
        log_probs: the sum of the log-probabilities of its tokens.
        counts: how many tokens these are.
        reference: the starting model's sum.
        desirable: 1 where KTO wants it.
    """

    log_probs: Tensor
    counts: Tensor
    reference: Tensor
    desirable: Tensor

    @classmethod
    def joined(cls, parts: Sequence[_Answers]) -> _Answers:
        """Those of several batches."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(cls)))


class _Mismatched(Sequence[Document]):
    """Of each document what stands before its answer, with the answer of another, one half of the data further on.

    What is longer than the model reads is cut, in this estimate alone.
    """

    def __init__(self, documents: Documents, limit: int) -> None:
        self.documents, self.limit = documents, limit

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, number: int) -> Document:  # type: ignore[override]
        (asked, before), (said, answer) = (
            self.documents[place] for place in (number, (number + len(self) // 2) % len(self))
        )
        messages, words = asked[~_from_first(before)], said[_from_first(answer)]
        ids = np.concatenate((messages, words))[: self.limit]
        return ids, np.arange(len(ids)) >= len(messages)


def _from_first(trained: np.ndarray) -> np.ndarray:
    """Everything from the first trained token on."""
    return np.maximum.accumulate(trained)


def _log_odds(mean: Tensor) -> Tensor:
    """log(p / (1 - p)) of probabilities given by their logarithms; what is as good as certain stays finite."""
    mean = mean.clamp(max=-1e-6)
    return mean - torch.log(-torch.expm1(mean))
