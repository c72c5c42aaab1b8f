"""Preferences: an answer is made likelier than a worse one, by DPO, ORPO or KTO.

The losses need the log-probability of whole answers, log p(y|x), the sum over an answer's tokens; with the starting
model's as reference, r = log p(y|x) - log p_reference(y|x). With s the logistic function:

| method | loss of a pair, or of a single answer |
|---|---|
| dpo | -(1 - e) log s(beta (r_chosen - r_rejected)) - e log s(-beta (r_chosen - r_rejected)), e = label_smoothing |
| | (Rafailov et al. 2023, eq. 7; conservative: Mitchell 2023) |
| orpo | -m_chosen - weight x log s(log odds_chosen - log odds_rejected), m = log p(y|x) / tokens, odds = p / (1 - p) |
| | of p = exp(m) (Hong et al. 2024, eq. 3 to 7); it has no reference |
| kto | weight x (1 - s(beta (r - z0))) of a desirable answer, weight x (1 - s(beta (z0 - r))) of another |
| | (Ethayarajh et al. 2024, eq. 8) |

KTO's z0 estimates how far the model has moved from its reference. The paper takes it from mismatched pairs of the
micro-batch, so that the loss would depend on how a step is cut. Here **z0 is 0**, which it is exactly at the start.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ...config import Config
from ...errors import ConfigError, DataError
from ...files import write_bytes
from ...model.cross_entropy import token_losses
from ...progress import Progress
from ...tokens.batch import Batch
from ...tokens.loader import Loader
from ...tokens.preferences import KIND, tokenize_preferences
from ...tokens.prepare import PreparedData
from ...tokens.tokenizer import Tokenizer
from .base import Objective, Reading
from .classify import check_whole

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer
    from ...tokens.shards import TokenDataset
    from ..data import TrainingData

# The reference log-probabilities, in the run's folder.
REFERENCE = "reference.safetensors"
# Tokens that the starting model reads at once for them; fixed, so that they do not depend on the run's micro-batches.
REFERENCE_TOKENS = 4096
# An answer's mean log-probability is held below this, where the odds are still finite.
HIGHEST = -1e-6


class PreferenceConfig(Config):
    """Prefer an answer to a worse one."""

    kind: Literal["preference"] = "preference"
    """preference: answers that were chosen over others."""
    method: Literal["dpo", "orpo", "kto"] = "dpo"
    """dpo: pairs, against the starting model (Rafailov et al. 2023). orpo: pairs, with no reference (Hong et al. 2024).
    kto: single answers, each good or bad, against the starting model (Ethayarajh et al. 2024)."""
    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """dpo, kto: how closely the model stays with the starting one; the higher, the closer."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """dpo: the share of pairs that may be the wrong way round."""
    weight: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """orpo: the share of the odds ratio beside the chosen answer's ordinary loss."""
    desirable_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """kto: how much a good answer counts."""
    undesirable_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """kto: how much a bad one counts; of n good and m bad ones, n x desirable_weight / (m x undesirable_weight) should
    be between 1 and 1.5."""

    @model_validator(mode="after")
    def _sound(self) -> PreferenceConfig:
        owners = {"beta": "dpo and kto", "label_smoothing": "dpo", "weight": "orpo"}
        owners |= {"desirable_weight": "kto", "undesirable_weight": "kto"}
        for name, owner in owners.items():
            usual = type(self).model_fields[name].default
            if self.method not in owner and getattr(self, name) != usual:
                raise ValueError(f"{name} is for {owner}, and the method is {self.method}")
        return self

    @property
    def pairs(self) -> bool:
        """Whether answers are learned from in pairs."""
        return self.method != "kto"

    @property
    def has_reference(self) -> bool:
        """Whether the starting model's opinion counts."""
        return self.method != "orpo"


class Preference(Objective[PreferenceConfig]):
    """Answers that were chosen over others; the loss is the mean over a step's pairs, or its single answers.

    The loss is a function of a few sums, one for each answer. So the head runs twice, and no more than a chunk of logits
    is ever held: first without gradient for the sums, whose derivatives are then the weights of the answers' tokens in
    the ordinary loss, which has just the gradient wanted (see ``loss``).
    """

    kind: ClassVar[str] = "preference"
    unit: ClassVar[str] = "preference"
    data_kind: ClassVar[str] = KIND

    def __init__(self, config: PreferenceConfig, seed: int) -> None:
        super().__init__(config, seed)
        # The starting model's log-probability of each document of each piece: [pieces, documents of a piece].
        self._reference: dict[str, Tensor] = {}

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """What a base without a template is trained on must be what its folder then says."""
        return tokenizer.with_explicit_template()

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """See Objective.shape."""
        if not base.causal:
            raise ConfigError(
                f"a {base.family} model sees what comes next, so it writes no answers",
                where="objective.kind",
                hint="use a model of another family",
            )
        return base if base.head == "lm" else base.model_copy(update={"head": "lm", "labels": ()})

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        return tokenize_preferences(
            path,
            reading.tokenizer,
            reading.length,
            single=not self.config.pairs,
            too_long=reading.too_long,
            cache_folder=reading.cache,
            progress=reading.progress,
        )

    def check(self, dataset: TokenDataset, where: str) -> None:
        """Checks that a tokenized dataset has pairs, or single answers with labels, as the method needs."""
        super().check(dataset, where)
        pairs = dataset.group == 2
        if pairs != self.config.pairs or (not pairs and "desirable" not in dataset.columns):
            held, wanted = ("pairs", "single answers") if pairs else ("single answers", "pairs")
            raise DataError(
                f"this dataset holds {held}, and {self.config.method} learns from {wanted}",
                where=where,
                hint="name the files that it was made of",
            )

    def begin(self, model: Transformer, data: TrainingData, run: Path) -> None:
        """Reads what the starting model thinks of each answer, or finds it in the run's folder.

        The model is the starting one even where a run goes on: its checkpoint is read only afterwards. Of several
        workers each computes all of it, and the first one writes.
        """
        check_whole(data)
        if not self.config.has_reference:
            return
        path, key = run / REFERENCE, json.dumps(data.fingerprints)
        loaders = {"training": data.loader, "validation": data.validation}
        found = read_reference(path, key)
        if found is None:
            found = {name: reference_of(model, loader) for name, loader in loaders.items() if loader is not None}
            if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
                write_reference(path, key, found)
        self._reference = found

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """Adds the column "reference": the starting model's log-probability of each document's answer."""
        if not self.config.has_reference:
            return batch
        table = self._reference["validation" if step is None else "training"]
        width = table.shape[1]
        if not batch.documents:
            reference = torch.zeros(len(batch.document_starts) - 1, 1)
        else:
            # A piece's number stands once for each of its documents.
            reference = table[torch.tensor(batch.documents[::width])].reshape(-1, 1)
        return replace(batch, columns={**batch.columns, "reference": reference})

    def units(self, batch: Batch) -> float:
        """How many pairs, or single answers, are trained."""
        trained = self.trained_tokens(batch) > 0
        return float((trained.reshape(-1, 2).all(1) if self.config.pairs else trained).sum())

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss.

        With L the sum of the losses, a function of the answers' log-probabilities, the gradient is that of
        sum over tokens of weight x loss, each token's weight being -dL / d(log-probability of its answer).
        """
        hidden = model.read(batch.tokens, batch.positions, batch.document_starts, batch.segments)
        sums = answer_log_probabilities(model, hidden, batch)
        if not torch.is_grad_enabled():
            return self._losses(sums, batch).sum() * share
        with torch.enable_grad():
            sums.requires_grad_()
            total = self._losses(sums, batch).sum() * share
            (slopes,) = torch.autograd.grad(total, sums)
        weights = torch.where(batch.weights != 0, -_by_token(slopes, batch), 0.0)
        surrogate, _ = model.loss_of(hidden, batch.targets, weights)
        # Its gradient, and the loss's own value.
        return surrogate + (total - surrogate).detach()

    @torch.no_grad()
    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss and how clearly the better answers are preferred.

        | measure | dpo | orpo | kto |
        |---|---|---|---|
        | margin | mean of beta (r_chosen - r_rejected) | mean of the log odds ratio | mean of beta r of the desirable |
        | | | | answers minus that of the others |
        | accuracy | share of pairs with a margin above 0 | the same | share of answers with r on its side of 0 |
        | likelier | share of pairs whose chosen answer is the likelier, whatever the reference | the same | |
        """
        totals: dict[str, float] = {}
        units = 0.0
        for batch in batches:
            moved = batch.to(model.device)
            hidden = model.read(moved.tokens, moved.positions, moved.document_starts, moved.segments)
            sums = answer_log_probabilities(model, hidden, moved)
            units += self.units(batch)
            measured = {"loss": self._losses(sums, moved).sum(), **self._measures(sums, moved)}
            for name, value in measured.items():
                totals[name] = totals.get(name, 0.0) + value.item()
        if not units:
            return {}
        if self.config.pairs:
            return {name: value / units for name, value in totals.items()}
        result = {name: totals[name] / units for name in ("loss", "accuracy")}
        if totals["good"] and totals["bad"]:
            result["margin"] = totals["good_reward"] / totals["good"] - totals["bad_reward"] / totals["bad"]
        return result

    def _losses(self, sums: Tensor, batch: Batch) -> Tensor:
        """The loss of each pair, or single answer; sums: [documents]. What is not trained has none."""
        config, counts = self.config, _trained_of(batch)
        if config.method == "kto":
            good = batch.columns["desirable"][:, 0] != 0
            reward = config.beta * (sums - batch.columns["reference"][:, 0])
            weights = torch.where(good, config.desirable_weight, config.undesirable_weight)
            return weights * torch.sigmoid(torch.where(good, -reward, reward)) * (counts > 0)
        margins = self._margins(sums, batch)
        losses = -F.logsigmoid(margins)
        if config.method == "orpo":
            means = (sums / counts.clamp(min=1)).reshape(-1, 2)
            losses = config.weight * losses - means[:, 0]
        elif config.label_smoothing:
            losses = losses * (1 - config.label_smoothing) - F.logsigmoid(-margins) * config.label_smoothing
        return losses * (counts.reshape(-1, 2) > 0).all(1)

    def _margins(self, sums: Tensor, batch: Batch) -> Tensor:
        """By how much each chosen answer is preferred: [pairs]."""
        if self.config.method == "orpo":
            scores = log_odds(sums / _trained_of(batch).clamp(min=1))
        else:
            scores = self.config.beta * (sums - batch.columns["reference"][:, 0])
        chosen, rejected = scores.reshape(-1, 2).unbind(1)
        return chosen - rejected

    def _measures(self, sums: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What a batch adds to the sums of ``validate``."""
        if self.config.pairs:
            margins, both = self._margins(sums, batch), sums.reshape(-1, 2)
            likelier = (both[:, 0] > both[:, 1]).sum()
            return {"margin": margins.sum(), "accuracy": (margins > 0).sum(), "likelier": likelier}
        good = batch.columns["desirable"][:, 0] != 0
        reward = self.config.beta * (sums - batch.columns["reference"][:, 0])
        right = torch.where(good, reward > 0, reward < 0).sum()
        sums_of = {"good": good, "bad": ~good, "good_reward": reward[good], "bad_reward": reward[~good]}
        return {"accuracy": right} | {name: values.sum() for name, values in sums_of.items()}


@torch.no_grad()
def answer_log_probabilities(model: Transformer, hidden: Tensor, batch: Batch) -> Tensor:
    """The log-probability of each document's trained tokens, in nats, without gradient: [documents] float32.

    Args:
        model: whose head reads the stream.
        hidden: the stream as ``Transformer.read`` gave it.
        batch: what was read, on the model's device.
    """
    trained = batch.weights.nonzero().squeeze(1)
    found = torch.zeros(len(batch), device=hidden.device)
    targets, softcap = batch.targets[trained], model.config.logit_softcap
    found[trained] = -token_losses(hidden[trained], model.head_weight, targets, model.head_bias, softcap)
    return _by_document(found, batch)


def log_odds(means: Tensor) -> Tensor:
    """log (p / (1 - p)) of p = exp(mean)."""
    means = means.clamp(max=HIGHEST)
    return means - torch.log(-torch.expm1(means))


@torch.no_grad()
def reference_of(model: Transformer, loader: Loader) -> Tensor:
    """The log-probability of every answer of a loader, by its piece: [pieces, documents of a piece] float32."""
    model.eval()
    tables = []
    with Progress("Reading what the starting model thinks", len(loader), unit="pieces") as progress:
        done = 0
        for dataset in loader.datasets:
            longest = int(dataset.lengths.reshape(-1, dataset.group).sum(1).max())
            tokens = max(longest, REFERENCE_TOKENS)
            # Every piece just once, whatever the run's own loader repeats.
            pieces = Loader([dataset], batch_tokens=tokens, length=loader.length, seed=0)
            table = torch.zeros(len(pieces), dataset.group)
            for step in range(pieces.steps_in_epoch(0)):
                batch = pieces.batch(step)
                moved = batch.to(model.device)
                hidden = model.read(moved.tokens, moved.positions, moved.document_starts)
                sums = answer_log_probabilities(model, hidden, moved).cpu().reshape(-1, dataset.group)
                table[torch.tensor(batch.documents[:: dataset.group])] = sums
                done += len(sums)
                progress.update(done)
            tables.append(table)
    return torch.cat(tables)


def read_reference(path: Path, key: str) -> dict[str, Tensor] | None:
    """What an earlier call saved for the same data; None where there is nothing, or it is damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("data") != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        # It can be made again.
        return None


def write_reference(path: Path, key: str, tables: dict[str, Tensor]) -> None:
    """Saves reference log-probabilities, whole or not at all; ``key`` says of which data."""
    from safetensors.torch import save

    write_bytes(path, save(tables, {"data": key}))


def _by_document(values: Tensor, batch: Batch) -> Tensor:
    """The sums over each document; values: [tokens] float32 -> [documents]."""
    starts = torch.tensor(batch.document_starts, device=values.device)
    # In an order of its own for each document, which additions into place do not have on a GPU.
    return torch.segment_reduce(values, "sum", lengths=starts[1:] - starts[:-1], unsafe=True)


def _by_token(values: Tensor, batch: Batch) -> Tensor:
    """Each document's value at each of its tokens; values: [documents] -> [tokens]."""
    starts = torch.tensor(batch.document_starts, device=values.device)
    return values.repeat_interleave(starts[1:] - starts[:-1], output_size=len(batch))


def _trained_of(batch: Batch) -> Tensor:
    """How many tokens of each document are trained: [documents] float32, on the batch's device."""
    return _by_document((batch.weights != 0).float(), batch)
