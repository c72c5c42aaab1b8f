"""The answer to a question as a part of its text: where it begins and where it ends (Devlin et al. 2018, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...config import Config
from ...devices import on_device
from ...errors import DataError
from ...prediction.forward import by_document, span_logits
from ...prediction.spans import Decoded, ReadWindow, decode, window_logits
from ...prediction.squad import best_threshold, squad_scores
from ...tokens.batch import Batch
from ...tokens.dataset import is_dataset
from ...tokens.prepare import PreparedData
from ...tokens.questions import Question, read_questions, right_answers
from ...tokens.shards import TokenDataset
from ...tokens.windows import KIND, EncodedText, Windowing, encode_with_places, tokenize_questions
from .base import Objective, Reading
from .classify import check_whole

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer
    from ..data import TrainingData


class SpanConfig(Config):
    """Find the answer to a question in a text."""

    kind: Literal["span"] = "span"
    """span: the answer to a question as a part of a text."""
    stride: int = Field(default=128, ge=0)
    """A context that is longer than data.length leaves is read in windows; how many tokens two neighbours share."""
    max_answer: int = Field(default=30, ge=1)
    """The most tokens of an answer that is given in validation; learning takes answers of any length."""
    on_bad: Literal["refuse", "drop"] = "refuse"
    """What to do with a question whose answer is not in its context: refuse, or drop, which counts it."""


@dataclass(frozen=True)
class _Asked:
    """A question of the validation data, with its context's tokens."""

    question: Question
    context: EncodedText


class Span(Objective[SpanConfig]):
    """The answer to a question as a part of its text.

    A document is a question with its context or a window of it. Its loss is the mean of two cross-entropies over its own
    tokens: where the answer begins and where it ends, both the [CLS] where it is not in this window. The loss of a step
    is the mean over its documents, and a document counts in the ledger whole.
    """

    kind: ClassVar[str] = "span"
    heads: ClassVar[tuple[str, ...]] = ("span",)
    unit: ClassVar[str] = "window"
    data_kind: ClassVar[str] = KIND

    def __init__(self, config: SpanConfig, seed: int) -> None:
        super().__init__(config, seed)
        self._shape: ModelConfig | None = None
        self._windowing: Windowing | None = None
        # Where each tokenized dataset's questions stand, for their texts.
        self._files: dict[Path, Path] = {}
        self._asked: dict[int, _Asked] = {}
        self._unanswerable = False

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """The base with a span head."""
        for source in filter(is_dataset, sources):
            hint = "name the files of questions themselves: SQuAD's JSON, or JSON Lines"
            raise DataError("a built data set holds texts without questions", where=source, hint=hint)
        changes: dict[str, Any] = {"head": "span", "labels": (), "next_sentence": False}
        self._shape = base if base.head == "span" else base.model_copy(update=changes)
        return self._shape

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        self._windowing = windowing = Windowing(
            tokenizer=reading.tokenizer,
            causal=self._known_shape.causal,
            length=reading.length,
            stride=self.config.stride,
            too_long=reading.too_long,
            on_bad=self.config.on_bad,
        )
        prepared = tokenize_questions(path, windowing, cache_folder=reading.cache, progress=reading.progress)
        self._files[prepared.folder] = path
        return prepared

    def begin(self, model: Transformer, data: TrainingData, run: Path) -> None:
        """Reads the texts of the questions that are held out, so that their answers can be judged."""
        check_whole(data)
        datasets = [*data.loader.datasets, *(data.validation.datasets if data.validation is not None else ())]
        self._unanswerable = any(dataset.info["unanswerable"] for dataset in datasets)
        for dataset in data.validation.datasets if data.validation is not None else ():
            self._ask(dataset)

    def _ask(self, dataset: TokenDataset) -> None:
        path = self._files.get(dataset.folder)
        if path is None or self._windowing is None:
            # A tokenized folder without its files: the loss is measured, but no answer can be read.
            return
        held = set(dataset.columns["key"][:, 0].tolist())
        questions = [question for question in read_questions([path]) if question.key in held]
        contexts = list(dict.fromkeys(question.context for question in questions))
        encoded = dict(zip(contexts, encode_with_places(self._windowing.tokenizer, contexts), strict=True))
        self._asked |= {q.key: _Asked(q, encoded[q.context]) for q in questions}

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """Every token of a window takes part in its loss; the context is a segment of its own where the model has two."""
        segments = None
        if self._known_shape.segments > 1:
            starts = torch.tensor(batch.document_starts)
            place = batch.columns["window"][:, 2].repeat_interleave(starts[1:] - starts[:-1])
            segments = (batch.positions >= place).long()
        return replace(batch, weights=torch.ones_like(batch.weights), segments=segments)

    def units(self, batch: Batch) -> float:
        """The number of windows."""
        return _trained(batch).sum().item()

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss."""
        return self._loss_of(span_logits(model, batch), batch, share)

    @property
    def measures(self) -> Mapping[str, bool]:
        """See Objective.measures."""
        return {"exact": True, "f1": True}

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss; exact match and F1; and where some questions have no answer, the doubt above which to say so."""
        return {name: value for name, value in self.assess(model, batches).items() if isinstance(value, float)}

    @torch.no_grad()
    def assess(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, Any]:
        """What ``validate`` gives, and what the result needs to know of itself to answer alike."""
        total, units = 0.0, 0.0
        windows: dict[int, list[ReadWindow]] = {}
        for batch in batches:
            moved = batch.to(model.device)
            logits = span_logits(model, moved)
            total += self._loss_of(logits, moved, 1.0).item()
            units += self.units(batch)
            self._keep(windows, batch, logits)
        result: dict[str, Any] = {"loss": total / units} if units else {}
        if windows:
            result |= self._judge(windows)
        return result | {"answers": self._answers()}

    def _answers(self) -> dict[str, Any]:
        """How the model is to be asked, as it was trained and judged."""
        settings = {
            "max_answer": self.config.max_answer,
            "stride": self.config.stride,
            "may_be_none": self._unanswerable,
        }
        return settings | ({} if self._windowing is None else {"length": self._windowing.length})

    def _keep(self, windows: dict[int, list[ReadWindow]], batch: Batch, logits: Tensor) -> None:
        """Adds what was read of each question that is known."""
        keys, places = batch.columns["key"][:, 0].tolist(), batch.columns["window"].tolist()
        rows = logits.cpu().numpy()
        for number, (key, (first, count, place)) in enumerate(zip(keys, places, strict=True)):
            if key in self._asked:
                start, end = batch.document_starts[number : number + 2]
                windows.setdefault(key, []).append(window_logits(rows[start:end], first, count, place))

    def _judge(self, windows: dict[int, list[ReadWindow]]) -> dict[str, float]:
        """The official scores of the questions that were read."""
        asked = [self._asked[key] for key in windows]
        given = [right_answers(one.question) for one in asked]
        options: dict[str, Any] = {"max_answer": self.config.max_answer, "may_be_none": self._unanswerable}
        decoded = [decode(windows[one.question.key], one.context, **options) for one in asked]
        answers = [_text(one, found) for one, found in zip(asked, decoded, strict=True)]
        if not self._unanswerable:
            return squad_scores(answers, given)
        doubts = [found.doubt for found in decoded]
        threshold = best_threshold(answers, given, doubts)
        kept = [answer if doubt <= threshold else "" for answer, doubt in zip(answers, doubts, strict=True)]
        # JSON has no infinity; no difference of logits comes near this.
        bounded = max(-1e9, min(1e9, threshold))
        return squad_scores(kept, given) | {"null_threshold": bounded}

    @property
    def _known_shape(self) -> ModelConfig:
        assert self._shape is not None, "the shape is asked for first"
        return self._shape

    def _loss_of(self, logits: Tensor, batch: Batch, share: float) -> Tensor:
        """The sum of the windows' losses times ``share``; logits: [tokens, 2]."""
        # [windows, longest, 2]: the tokens of other windows have no share in a window's probabilities.
        rows = by_document(logits, batch.document_starts, -math.inf)
        losses = F.cross_entropy(rows, batch.columns["span"], reduction="none").mean(-1)
        return (losses * (_trained(batch) * share)).sum()


def _trained(batch: Batch) -> Tensor:
    """1 for each window that is trained, else 0: [windows]."""
    return (batch.weights[on_device(batch.document_starts[:-1], batch.weights.device)] != 0).float()


def _text(asked: _Asked, decoded: Decoded) -> str:
    if not decoded.spans:
        return ""
    best = decoded.spans[0]
    return asked.question.context[best.start : best.end]
