"""What the engine asks of whatever computes: one pass over new tokens, with keys and values in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..errors import ConfigError, ModelError, nearest
from ..model.transformer import Transformer
from .adapters import Adapter
from .native_decoder import NativeDecoder, runs_natively
from .packing import KINDS, Kind
from .torch_decoder import TorchDecoder

WEIGHTS = ("auto", *KINDS)


class Decoder(Protocol):
    """Runs passes; holds the pages."""

    @property
    def kind(self) -> str:
        """How the weights are kept: bf16, int8 or int4 by the kernels, else the dtype that the framework computes in."""
        ...

    @property
    def weight_bytes(self) -> int:
        """What a pass reads of weights."""
        ...

    def reserve(self) -> None:
        """Takes all pages' memory now, rather than page by page as they are first used."""
        ...

    def __call__(
        self,
        ids: Sequence[int],
        places: Sequence[int],
        starts: Sequence[int],
        pages: Sequence[Sequence[int]],
        speaking: Sequence[int],
        adapters: Sequence[Any] = (),
    ) -> Tensor:
        """One pass over new tokens; their keys and values go into the pages.

        Args:
            ids: the new tokens, those of a sequence side by side.
            places: the position of each in its sequence.
            starts: where each sequence's begin, and where the last end.
            pages: the pages of each sequence, in order, up to its last new token at least.
            speaking: the rows whose logits are wanted, rising.
            adapters: what ``prepared`` made of each sequence's adapter, and None for a sequence without; empty if none
                has any.

        Returns:
            [speaking, vocab] float32 logits.
        """
        ...

    def prepared(self, adapter: Adapter) -> Any:
        """The adapter as passes take it; it lasts as long as somebody holds it."""
        ...


def check_writes(model: Transformer) -> None:
    """Checks that a model goes on from a text.

    Raises:
        ModelError: it has no language-model head.
    """
    config, where = model.config, None if model.source is None else str(model.source)
    if config.head == "seq2seq":
        raise ModelError(
            "this model makes a text from another, and goes on from none", where=where, hint="use 'ownlm predict'"
        )
    if config.head != "lm":
        raise ModelError(
            f"this model writes no text: it is a {config.family} model with the head '{config.head}'",
            where=where,
            hint="a model that generates has a language-model head, such as gpt2 or llama",
        )


def make_decoder(model: Transformer, weights: str, pages: int) -> Decoder:
    """The decoder that suits the model and the machine.

    Args:
        model: with a language-model head.
        weights: how the weights are kept while answering: ``auto`` is as the model computes, int8 and int4 fewer bits.
        pages: how many pages of 32 tokens there are.

    Raises:
        ConfigError: the weights cannot be kept so here.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"unknown kind of weights '{weights}'", where="weights", hint=nearest(weights, WEIGHTS))
    if runs_natively(model):
        kind = cast(Kind, "bf16" if weights == "auto" else weights)
        return NativeDecoder(model, kind, pages)
    if weights in ("int8", "int4"):
        raise ConfigError(
            f"{weights} weights need a CPU that multiplies bfloat16, a C++ compiler, and a model that computes in it",
            where="weights",
            hint="leave it out",
        )
    if weights == "bf16" and model.compute_dtype != torch.bfloat16:
        raise ConfigError("the model does not compute in bfloat16", where="weights", hint="load it with dtype bfloat16")
    return TorchDecoder(model, pages)
