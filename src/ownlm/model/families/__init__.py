"""Families: how each public architecture's config and weight names map to ours.

A family is one file with four functions and its published sizes; adding one is that file and a line in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...config import validate
from ...errors import ConfigError, ModelError, nearest
from ..config import ModelConfig
from . import (
    bert,
    distilbert,
    gemma,
    gemma2,
    gemma3,
    gpt2,
    gpt3,
    gpt_neo,
    gpt_neox,
    llama,
    marian,
    mistral,
    qwen2,
    qwen3,
    roberta,
    xlm_roberta,
)
from .heads import head_from_hf, head_to_hf
from .weights import Weight

__all__ = ["FAMILIES", "Family", "Weight", "config_from_hf", "config_from_user", "config_to_hf", "family_of"]


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: as in ``config.json``'s ``model_type`` and our ``model.family``.
        classes: what the Transformers class that reads the folder is called, before "ForCausalLM" and its like.
        module: holds ``defaults(values)``, ``from_hf(config)``, ``to_hf(config)``, ``weights(config)`` and ``SIZES``.
        causal: whether it is a decoder.
        language_class: the class of a decoder with its language head, where it is not ``classes`` and "ForCausalLM".
        next_sentence: whether its masked-language head can also tell if a pair's second half follows its first.
        heads: the class for each head, where the family has no other.
        unused: tensors that a checkpoint may hold and no head of ours reads.
    """

    name: str
    classes: str
    module: ModuleType
    causal: bool = True
    language_class: str | None = None
    next_sentence: bool = False
    heads: Mapping[str, str] | None = None
    unused: tuple[str, ...] = ()

    @property
    def architectures(self) -> dict[str, str]:
        """The Transformers class for each head that the family can have."""
        if self.heads is not None:
            return dict(self.heads)
        lm = self.language_class or f"{self.classes}ForCausalLM"
        first = {"lm": lm} if self.causal else {"masked": f"{self.classes}ForMaskedLM"}
        rest = {
            "classify": f"{self.classes}ForSequenceClassification",
            "span": f"{self.classes}ForQuestionAnswering",
            "none": f"{self.classes}Model",
        }
        return first | rest

    @property
    def sizes(self) -> dict[str, dict[str, Any]]:
        """The published sizes by name: what ``model.size`` fills in."""
        return dict(self.module.SIZES)


# RoBERTa's classification head has a dense layer of its own.
_ROBERTA: dict[str, Any] = {"causal": False, "unused": ("roberta.pooler.dense.weight", "roberta.pooler.dense.bias")}

FAMILIES = {
    "bert": Family("bert", "Bert", bert, causal=False, next_sentence=True),
    "roberta": Family("roberta", "Roberta", roberta, **_ROBERTA),
    "xlm-roberta": Family("xlm-roberta", "XLMRoberta", xlm_roberta, **_ROBERTA),
    "distilbert": Family("distilbert", "DistilBert", distilbert, causal=False),
    "marian": Family("marian", "Marian", marian, heads={"seq2seq": "MarianMTModel"}, unused=marian.UNUSED),
    "gpt2": Family("gpt2", "GPT2", gpt2, language_class="GPT2LMHeadModel"),
    "gpt3": Family("gpt3", "GPT2", gpt3, language_class="GPT2LMHeadModel"),
    "gpt_neo": Family("gpt_neo", "GPTNeo", gpt_neo),
    "gpt_neox": Family("gpt_neox", "GPTNeoX", gpt_neox),
    "llama": Family("llama", "Llama", llama),
    "mistral": Family("mistral", "Mistral", mistral),
    "qwen2": Family("qwen2", "Qwen2", qwen2),
    "qwen3": Family("qwen3", "Qwen3", qwen3),
    "gemma": Family("gemma", "Gemma", gemma),
    "gemma2": Family("gemma2", "Gemma2", gemma2),
    "gemma3_text": Family("gemma3_text", "Gemma3Text", gemma3, language_class="Gemma3ForCausalLM"),
}


# The keys of config.json by which something is made for each of a number, and the largest number.
COUNTS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers", "decoder_layers", "num_labels")
MOST = 1_000_000


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
    family = family_of(str(values.get("ownlm_family") or values.get("model_type", "")), where=where)
    for key in COUNTS:
        # Before a list of so many is made.
        if isinstance(values.get(key), int | float) and values[key] > MOST:
            raise ModelError(f"no model has so many ({values[key]})", where=f"{where}: {key}")
    try:
        return validate(ModelConfig, family.module.from_hf(values) | head_from_hf(values, family.architectures))
    except KeyError as error:
        raise ModelError(f"the key {error} is missing", where=where) from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ModelError(f"a value is not of the kind that this architecture has: {error}", where=where) from None
    except (ConfigError, ModelError) as error:
        place = f"{where}: {error.where}" if error.where else where
        raise ModelError(error.message, where=place, hint=error.hint) from None


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of a Hugging Face ``config.json``, the class of the model's head among it.

    Raises:
        ModelError: the family has no such head.
    """
    family = family_of(config.family)
    if config.head not in family.architectures:
        known = ", ".join(family.architectures)
        raise ModelError(f"a {config.family} model has no head '{config.head}'", where="head", hint=f"known: {known}")
    architecture = family.architectures[config.head]
    if config.head == "masked" and config.next_sentence and family.next_sentence:
        architecture = f"{family.classes}ForPreTraining"
    return {"architectures": [architecture], **family.module.to_hf(config), **head_to_hf(config)}


def config_from_user(values: Mapping[str, Any]) -> ModelConfig:
    """Our config from the ``model`` section of a training config; ``size`` and the family fill what is not given.

    Raises:
        ConfigError: an unknown family, size or key, values that do not fit together, or a shape that the family's
            checkpoints cannot hold.
    """
    known = {*ModelConfig.model_fields, "size"}
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key '{key}'", where=f"model.{key}", hint=nearest(key, known))
    family = str(values.get("family", "llama"))
    if family not in FAMILIES:
        raise ConfigError(f"unknown model family '{family}'", where="model.family", hint=nearest(family, FAMILIES))
    values = _sized(FAMILIES[family], values)
    needed = ["layers", "width", "heads", "vocab_size", "max_positions"]
    for key in needed + [key for key in ("head_width",) if key in values]:
        if type(values.get(key)) is not int or values[key] < 1:
            hint = None if key in values else "or give a published size: " + ", ".join(FAMILIES[family].sizes)
            raise ConfigError("a whole number of at least 1 is needed here", where=f"model.{key}", hint=hint)
    if values["width"] % values["heads"] and "head_width" not in values:
        raise ConfigError(
            f"width ({values['width']}) must be a multiple of heads ({values['heads']})", where="model.heads"
        )
    shape = {"family": family, "kv_heads": values["heads"], "head_width": values["width"] // values["heads"]}
    filled = {**shape, **FAMILIES[family].module.defaults(values), **values}
    try:
        config = validate(ModelConfig, filled)
    except ConfigError as error:
        place = f"model.{error.where}" if error.where else "model"
        raise ConfigError(error.message, where=place, hint=error.hint) from None
    _check_family(config)
    return config


def _sized(family: Family, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of a published size before them."""
    given = {key: value for key, value in values.items() if key != "size"}
    if "size" not in values:
        return given
    size = str(values["size"]).lower()
    if size not in family.sizes:
        message = f"the family '{family.name}' has no size '{values['size']}'"
        raise ConfigError(message, where="model.size", hint="known: " + ", ".join(family.sizes))
    return family.sizes[size] | given


def _check_family(config: ModelConfig) -> None:
    """Refuses a shape that the family's config.json cannot say: the folder would be read as another network."""
    try:
        read = config_from_hf(config_to_hf(config), where="config.json")
    except ModelError as error:
        where = "model.head" if error.where == "head" else "model"
        raise ConfigError(error.message, where=where, hint=error.hint) from None
    for key in ModelConfig.model_fields:
        ours, theirs = getattr(config, key), getattr(read, key)
        if ours != theirs:
            raise ConfigError(
                f"a {config.family} model cannot have {ours!r} here: its saved folder would say {theirs!r}",
                where=f"model.{key}",
                hint="leave it out, or choose another family",
            )
