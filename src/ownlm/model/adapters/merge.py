"""Adapters into the weights of their base, and out again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ..layers import Linear
from ..quantized import QuantizedLinear, replace_layer
from ..transformer import Transformer
from .attach import adapter_layers
from .lora import LoraLinear


class MergedLinear(Linear):
    """A projection with its adapter in it, and what it was before held aside."""

    def __init__(self, before: LoraLinear, weight: Tensor) -> None:
        assert isinstance(before.base, Linear)
        with torch.device("meta"):
            super().__init__(before.base.inputs, before.base.segments, bias=False)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = before.base.bias
        # In a tuple, so that it counts neither as a module of the model nor among its parameters.
        self._before = (before,)

    @property
    def before(self) -> LoraLinear:
        """The base, its bits untouched, and the adapter beside it."""
        return self._before[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MergedLinear:
        """Moves what is held aside with the rest."""
        self.before._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self


@torch.no_grad()
def merge(model: Transformer, *, keep: bool = False) -> None:
    """Adds every adapter into its base weight, in float32; the weight keeps its dtype.

    Args:
        model: what an adapter is attached to.
        keep: holds the base's weights and the adapters aside, as large again as the projections, for ``unmerge``;
            otherwise they are gone, and the model is a plain one that can be trained whole.

    Raises:
        ModelError: the base is quantized.
    """
    layers = adapter_layers(model)
    if any(isinstance(layer.base, QuantizedLinear) for layer in layers.values()):
        raise ModelError(
            "an adapter cannot be added into a quantized base, whose few bits would round it away",
            hint="attach it to the base as it is stored, or call dequantize_model first",
        )
    for name, layer in layers.items():
        assert isinstance(layer.base, Linear)
        weight = layer.base.weight
        if keep:
            replace_layer(model, name, MergedLinear(layer, layer.merged(weight).to(weight.dtype)))
        else:
            weight.copy_(layer.merged(weight))
            replace_layer(model, name, layer.base)
    if not keep:
        model.requires_grad_(True)


def unmerge(model: Transformer) -> None:
    """Puts base and adapters back as they were before ``merge(model, keep=True)``, bit for bit."""
    for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, MergedLinear)]:
        replace_layer(model, name, layer.before)
