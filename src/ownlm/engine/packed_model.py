"""The model as the engine runs it: weights in the dtype it computes in, packed for the CPU's matrix units, no dropout.

oneDNN multiplies by a weight in a blocked layout, and brings an ordinary one into that layout in every call: with a
few rows of input that takes longer than the product. Packed once, a bfloat16 weight is read about twice as fast, and
the product has the same bits.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.attention import AttentionContext
from ..model.layers import Linear
from ..model.packed import rounded_rows
from ..model.quantized import replace_layer
from ..model.transformer import Transformer
from .adapters import Adapter
from .triton_ready import triton_runs

# An adapter: A [inner, inputs] and B [outputs, inner] of each projection that it adds to, by the projection's name.
Prepared = Mapping[str, tuple[Tensor, Tensor]]

# Packed weights are a second copy in memory; larger models go without.
MOST_PACKED_BYTES = 4 * 2**30
# Up to here row counts stay as they are.
MOST_EXACT_ROWS = 32


class PackedModel:
    """A model that only answers; the model it was made from is left as it is.

    Args:
        model: weights that are stored as they compute, and are not packed, are shared with it and not copied.
    """

    def __init__(self, model: Transformer) -> None:
        self.config, self.device, self.dtype = model.config, model.device, model.compute_dtype
        packing = _packs(model)
        # deepcopy takes what is in its memo for copied already: weights are shared, narrowed or packed, never copied.
        memo: dict[int, Any] = {id(weight): _narrowed(weight, self.dtype) for weight in model.parameters()}
        if packing:
            memo |= {id(layer): PackedLinear(layer, self.dtype) for layer in _linears(model)}
        self._model = copy.deepcopy(model, memo).eval()
        if triton_runs(model.device):
            from .fused_layers import fuse

            fuse(self._model)
        # Of the pass that is being computed, and what projections that some adapter adds to became.
        self._groups: list[tuple[Prepared, Tensor]] = []
        self._adapted: dict[str, AdaptedLinear] = {}
        self._head: PackedLinear | None = None
        if packing:
            self._head = PackedLinear(_head(model), self.dtype)

    @property
    def weight_bytes(self) -> int:
        """What a pass reads of weights: those of every layer and of the head."""
        config = self.config
        embedded = 0 if config.tied_head else config.vocab_size * config.width
        return (config.parameters() - embedded) * self.dtype.itemsize

    def __call__(self, tokens: Tensor, positions: Tensor, context: AttentionContext) -> Tensor:
        """tokens, positions: [tokens] -> the last norm's output: [tokens, width]."""
        return self._model(tokens, positions, context)

    def prepared(self, adapter: Adapter) -> Prepared:
        """The adapter as passes of this model take it."""
        for name in adapter.layers.keys() - self._adapted.keys():
            self._adapted[name] = AdaptedLinear(self._model.get_submodule(name), name, self._groups)
            replace_layer(self._model, name, self._adapted[name])
        like = (self.device, self.dtype)
        return {name: (low.a.to(*like), low.b.to(*like)) for name, low in adapter.layers.items()}

    def adapt(self, rows: Sequence[Prepared | None]) -> None:
        """Says which adapter each row of the next pass has; no rows: nobody has any."""
        places: dict[int, list[int]] = {}
        for row, prepared in enumerate(rows):
            if prepared is not None:
                places.setdefault(id(prepared), []).append(row)
        by_id = {id(prepared): prepared for prepared in rows if prepared is not None}
        self._groups[:] = [(by_id[key], torch.tensor(own, device=self.device)) for key, own in places.items()]

    def logits_of(self, hidden: Tensor) -> Tensor:
        """hidden: [tokens, width] -> float32 logits: [tokens, vocab]."""
        if self._head is None:
            return self._model.logits_of(hidden)
        logits, cap = self._head(hidden).float(), self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)


class AdaptedLinear(nn.Module):
    """A projection that adds to each row what the row's adapter has for it.

    Args:
        base: the projection.
        name: of its module.
        groups: the adapters of the pass that is being computed, and whose rows they are; filled by the model.
    """

    def __init__(self, base: nn.Module, name: str, groups: Sequence[tuple[Prepared, Tensor]]) -> None:
        super().__init__()
        self.base, self.name, self._groups = base, name, groups
        self.segments = base.segments

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, inputs] -> [tokens, outputs]."""
        out: Tensor = self.base(x)
        for layers, rows in self._groups:
            if self.name in layers:
                a, b = layers[self.name]
                out.index_add_(0, rows, F.linear(F.linear(x[rows], a), b))
        return out


class PackedLinear(nn.Module):
    """A linear layer whose weight lies in oneDNN's own layout."""

    def __init__(self, layer: Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.segments = layer.segments
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(dtype))
        self._bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, inputs] -> [tokens, outputs]."""
        rows = len(x)
        # Few rows are the sequences of a decoding pass; many are a part of a prompt, of any length, and every length
        # would be another compiled kernel to keep.
        if rows > MOST_EXACT_ROWS:
            x = F.pad(x, (0, 0, 0, rounded_rows(rows, x.device) - rows))
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")[:rows]


def _packs(model: Transformer) -> bool:
    """Whether this machine gains by packing, and the model is small enough for it."""
    if model.device.type != "cpu" or model.compute_dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    elements = sum(layer.weight.numel() for layer in _linears(model)) + model.head_weight.numel()
    return 2 * elements <= MOST_PACKED_BYTES and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _linears(model: Transformer) -> list[Linear]:
    # The head is not called as a layer: logits_of has it.
    # A layer with an adapter merged into it is a Linear of its own kind; one with a forward of its own is let be.
    layers = [module for module in model.layers.modules() if isinstance(module, Linear)]
    return [layer for layer in layers if type(layer).forward is Linear.forward]


def _head(model: Transformer) -> Linear:
    """The head as a layer of its own, also where it is the embedding."""
    head = Linear(0, 0, bias=False)
    head.weight, head.segments = nn.Parameter(model.head_weight.detach(), False), (len(model.head_weight),)
    return head


def _narrowed(weight: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
    if weight.dtype == dtype or not weight.is_floating_point():
        return weight
    return nn.Parameter(weight.detach().to(dtype), False)
