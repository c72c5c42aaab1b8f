"""Families: how each public architecture's config and weight names map to ours.

A family is one file with four functions; adding one is that file and a line in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...config import validate
from ...errors import ConfigError, ModelError, nearest
from ..config import ModelConfig
from . import gpt2, llama, mistral, qwen2, qwen3
from .heads import head_from_hf
from .weights import Weight

__all__ = ["FAMILIES", "Family", "Weight", "config_from_hf", "config_from_user", "family_of"]


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: as in ``config.json``'s ``model_type`` and our ``model.family``.
        classes: what the Transformers class that reads the folder is called, before "ForCausalLM" and its like.
        module: holds ``defaults(values)``, ``from_hf(config)``, ``to_hf(config)`` and ``weights(config)``.
        causal: whether it is a decoder.
        language_head: the class of a decoder with its language head, where it is not "ForCausalLM".
    """

    name: str
    classes: str
    module: ModuleType
    causal: bool = True
    language_head: str = "ForCausalLM"

    @property
    def architectures(self) -> dict[str, str]:
        """The Transformers class for each head that the family can have."""
        first = {"lm": self.classes + self.language_head} if self.causal else {"masked": f"{self.classes}ForMaskedLM"}
        rest = {
            "classify": f"{self.classes}ForSequenceClassification",
            "span": f"{self.classes}ForQuestionAnswering",
            "none": f"{self.classes}Model",
        }
        return first | rest


FAMILIES = {
    "gpt2": Family("gpt2", "GPT2", gpt2, language_head="LMHeadModel"),
    "llama": Family("llama", "Llama", llama),
    "mistral": Family("mistral", "Mistral", mistral),
    "qwen2": Family("qwen2", "Qwen2", qwen2),
    "qwen3": Family("qwen3", "Qwen3", qwen3),
}


def family_of(name: str, *, where: str | None = None) -> Family:
    """The family of that name.

    Raises:
        ModelError: unknown; names the nearest.
    """
    if name not in FAMILIES:
        raise ModelError(f"unknown model family '{name}'", where=where, hint=nearest(name, FAMILIES))
    return FAMILIES[name]


def config_from_hf(values: Mapping[str, Any], *, where: str) -> ModelConfig:
    """Our config from the content of a Hugging Face ``config.json``.

    Raises:
        ModelError: an unknown architecture, a missing key, or a feature we do not have.
    """
    family = family_of(str(values.get("model_type", "")), where=where)
    try:
        return validate(ModelConfig, family.module.from_hf(values) | head_from_hf(values, family.architectures))
    except KeyError as error:
        raise ModelError(f"the key {error} is missing", where=where) from None
    except ConfigError as error:
        raise ModelError(error.message, where=f"{where}: {error.where}", hint=error.hint) from None


def config_from_user(values: Mapping[str, Any]) -> ModelConfig:
    """Our config from the ``model`` section of a training config; the family fills what is not given.

    Raises:
        ConfigError: an unknown family or key, or values that do not fit together.
    """
    known = set(ModelConfig.model_fields)
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key '{key}'", where=f"model.{key}", hint=nearest(key, known))
    family = values.get("family", "llama")
    if family not in FAMILIES:
        raise ConfigError(f"unknown model family '{family}'", where="model.family", hint=nearest(str(family), FAMILIES))
    for key in ("layers", "width", "heads", "vocab_size", "max_positions"):
        if not isinstance(values.get(key), int):
            raise ConfigError("a whole number is needed here", where=f"model.{key}")
    if values["width"] % values["heads"] and "head_width" not in values:
        raise ConfigError(
            f"width ({values['width']}) must be a multiple of heads ({values['heads']})", where="model.heads"
        )
    shape = {"family": family, "kv_heads": values["heads"], "head_width": values["width"] // values["heads"]}
    filled = {**shape, **FAMILIES[family].module.defaults(values), **values}
    try:
        return validate(ModelConfig, filled)
    except ConfigError as error:
        raise ConfigError(error.message, where=f"model.{error.where}", hint=error.hint) from None
