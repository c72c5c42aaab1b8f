"""Next tokens: of a text, or of the answers in a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from ...config import Config
from ...data.read import Kind
from ...errors import ConfigError
from ...tokens.batch import Batch
from ...tokens.prepare import PreparedData, tokenize_files
from ...tokens.tokenizer import Tokenizer
from .base import C, Objective, Reading

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer


class CausalConfig(Config):
    """Predict every next token of a text."""

    kind: Literal["causal"] = "causal"
    """causal: every next token of a text."""


class ChatConfig(Config):
    """Predict the answers of a conversation."""

    kind: Literal["chat"] = "chat"
    """chat: the answers of a conversation."""


class _NextTokens(Objective[C]):
    """What both have in common."""

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """See Objective.shape."""
        if not base.causal:
            raise ConfigError(
                f"a {base.family} model sees what comes next, so it cannot learn to predict it",
                where="objective.kind",
                hint="use the objective 'masked', or a model of another family",
            )
        return base if base.head == "lm" else base.model_copy(update={"head": "lm", "labels": ()})

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss."""
        place = batch.tokens, batch.positions, batch.document_starts
        return model.loss(*place, batch.targets, batch.weights * share, rows=batch.rows)[0]

    def _read(self, path: Path, reading: Reading, kind: Kind, too_long: Any) -> PreparedData:
        return tokenize_files(
            [path],
            reading.tokenizer,
            kind=kind,
            length=reading.length,
            cache_folder=reading.cache,
            too_long=too_long,
            progress=reading.progress,
        )


class Causal(_NextTokens[CausalConfig]):
    """Every next token of a text; a longer one is split, with no token lost."""

    kind: ClassVar[str] = "causal"

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        return self._read(path, reading, "text", "split")


class Chat(_NextTokens[ChatConfig]):
    """The answers of a conversation, each as it would be generated."""

    kind: ClassVar[str] = "chat"
    data_kind: ClassVar[str] = "chat"

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """What a base without a template is trained on must be what its folder then says."""
        return tokenizer.with_explicit_template()

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        return self._read(path, reading, "chat", reading.too_long)
