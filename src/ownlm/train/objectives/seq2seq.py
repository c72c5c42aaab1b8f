"""One text made from another: a translation, a summary, a rewriting (Sutskever et al. 2014; Vaswani et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator
from torch import Tensor

from ...config import Config
from ...errors import ConfigError, DataError, UserError
from ...model.cross import SourceTokens
from ...tokens.batch import Batch
from ...tokens.dataset import is_dataset
from ...tokens.prepare import PreparedData
from ...tokens.shards import TokenDataset
from ...tokens.text_pairs import KIND, PairFormat, Preparing, tokenize_text_pairs
from ...tokens.tokenizer import Tokenizer
from .base import Objective, Reading

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer


class Seq2SeqConfig(Config):
    """Make one text from another."""

    kind: Literal["seq2seq"] = "seq2seq"
    """seq2seq: a text from another, such as a translation or a summary, by an encoder and a decoder."""
    source: str | None = None
    """The column, or JSON key, of the text that is read; none is a usual pair of names such as source and target."""
    target: str | None = None
    """The column of the text that is made from it."""
    columns: list[str] = Field(default_factory=list)
    """The columns' names, for CSV and TSV files whose first line is a row and no header."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of a token's probability that is spread over the vocabulary (Szegedy et al. 2016; 0.1 as in Vaswani et
    al. 2017). The held-out loss is without it."""

    @field_validator("columns", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @property
    def format(self) -> PairFormat:
        """How the files are read."""
        return PairFormat(self.source, self.target, tuple(self.columns))


class Seq2Seq(Objective[Seq2SeqConfig]):
    """A text made from another.

    The loss is the mean over the target's tokens, its end included, each seen from those before it and all of the source.
    Measured besides: the accuracy, the share of them that is the likeliest token there.
    """

    kind: ClassVar[str] = "seq2seq"
    heads: ClassVar[tuple[str, ...]] = ("seq2seq",)
    data_kind: ClassVar[str] = KIND

    def __init__(self, config: Seq2SeqConfig, seed: int) -> None:
        super().__init__(config, seed)
        self._start: int | None = None

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """The same; it must know how a text ends, and have something for one to begin with.

        Raises:
            ConfigError: it has no end-of-text token.
        """
        if tokenizer.eos_id is None:
            raise ConfigError(
                "this tokenizer has no end-of-text token, so no text would ever end",
                where="tokenizer",
                hint="name its eos_token in tokenizer_config.json, or train one with 'ownlm tokenizer train'",
            )
        # Marian's convention: padding, which no text holds.
        tokens = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
        self._start = next(token for token in tokens if token is not None)
        return tokenizer

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """The base, which must have an encoder and a decoder."""
        if base.head != "seq2seq":
            raise ConfigError(
                f"a {base.family} model has no encoder beside its decoder",
                where="objective.kind",
                hint="set model.family to marian, or use the objective 'chat', which learns to answer",
            )
        for source in filter(is_dataset, sources):
            hint = "name the files of pairs themselves: JSON Lines, CSV or TSV"
            raise DataError("a built data set holds texts with nothing made from them", where=source, hint=hint)
        if base.start_token is not None:
            self._start = base.start_token
        return base.model_copy(update={"start_token": self._start})

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        assert self._start is not None, "the tokenizer is known"
        preparing = Preparing(reading.tokenizer, self.config.format, self._start, reading.length, reading.too_long)
        return tokenize_text_pairs(path, preparing, cache_folder=reading.cache, progress=reading.progress)

    def check(self, dataset: TokenDataset, where: str) -> None:
        """See Objective.check."""
        super().check(dataset, where)
        if dataset.group != 2 or dataset.info.get("start_token") != self._start:
            hint = "name the files that it was made of"
            raise DataError("this dataset's targets begin with another token than the model's", where=where, hint=hint)

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """The targets, with their sources beside them."""
        return batch.split_pairs()

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss."""
        smoothing = self.config.smoothing if model.training else 0.0
        stream = read_pairs(model, batch)
        return model.loss_of(stream, batch.targets, batch.weights * share, smoothing, batch.rows)[0]

    @property
    def measures(self) -> Mapping[str, bool]:
        """See Objective.measures."""
        return {"accuracy": True}

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss without smoothing, and the accuracy."""
        total = right = units = 0.0
        for batch in batches:
            there = batch.to(model.device)
            hidden = read_pairs(model, there)
            total += model.loss_of(hidden, there.targets, there.weights)[0].item()
            for rows in there.rows.split(_ROWS):
                best = model.logits_of(hidden[rows]).argmax(-1)
                right += (best == there.targets[rows]).sum().item()
            units += self.units(batch)
        return {"loss": total / units, "accuracy": right / units} if units else {}


# Tokens whose logits are there at once.
_ROWS = 1024


def read_pairs(model: Transformer, batch: Batch) -> Tensor:
    """The decoder's stream of a batch of targets with their sources: [at least tokens, width]."""
    source = batch.source
    if source is None:
        raise UserError("a model with an encoder needs a source for each text")
    tokens = SourceTokens(source.tokens, source.positions, source.document_starts)
    return model.read(batch.tokens, batch.positions, batch.document_starts, source=tokens)
