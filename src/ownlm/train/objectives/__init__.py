"""Objectives: what a model can learn, each a file of its own and a line here."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .base import Objective, Reading
from .classify import Classify, ClassifyConfig
from .distill import Distill, DistillConfig
from .language import Causal, CausalConfig, Chat, ChatConfig
from .masked import Masked, MaskedConfig
from .preference import Preference, PreferenceConfig
from .seq2seq import Seq2Seq, Seq2SeqConfig
from .span import Span, SpanConfig

__all__ = ["OBJECTIVES", "Objective", "ObjectiveConfig", "Reading", "make_objective"]

ObjectiveConfig = Annotated[
    CausalConfig
    | MaskedConfig
    | ChatConfig
    | ClassifyConfig
    | SpanConfig
    | PreferenceConfig
    | DistillConfig
    | Seq2SeqConfig,
    Field(discriminator="kind"),
]

OBJECTIVES: dict[str, type[Objective[Any]]] = {
    "causal": Causal,
    "masked": Masked,
    "chat": Chat,
    "classify": Classify,
    "span": Span,
    "preference": Preference,
    "distill": Distill,
    "seq2seq": Seq2Seq,
}


def make_objective(config: Any, seed: int) -> Objective[Any]:
    """The objective that a config names."""
    return OBJECTIVES[config.kind](config, seed)
