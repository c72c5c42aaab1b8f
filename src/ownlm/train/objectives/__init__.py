"""Objectives: what a model can learn, each a file of its own and a line here."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .base import Objective, Reading
from .language import Causal, CausalConfig, Chat, ChatConfig

__all__ = ["OBJECTIVES", "Objective", "ObjectiveConfig", "Reading", "make_objective"]

ObjectiveConfig = Annotated[CausalConfig | ChatConfig, Field(discriminator="kind")]

OBJECTIVES: dict[str, type[Objective[Any]]] = {"causal": Causal, "chat": Chat}


def make_objective(config: Any, seed: int) -> Objective[Any]:
    """The objective that a config names."""
    return OBJECTIVES[config.kind](config, seed)
