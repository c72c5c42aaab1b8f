"""Adapters as the engine's kernels read them (kernels/adapters.h)."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.config import ModelConfig
from .adapters import PLACES, Adapter, LowRank
from .packing import PANEL, interleaved, padded

_int, _pointer = ctypes.c_int64, ctypes.c_void_p


class _LowRank(ctypes.Structure):
    _fields_ = (("inner", _int), ("a", _pointer), ("b", _pointer), ("spans", _pointer))


class NativeAdapter:
    """An adapter's matrices in bfloat16, in the kernels' layout; C holds pointers into it while a pass runs.

    Attributes:
        inner: the most inner values of any projection.
        address: of its layers, four projections each.
    """

    def __init__(self, adapter: Adapter, config: ModelConfig) -> None:
        self._kept: list[Tensor] = []
        self.inner = max(len(low.a) for low in adapter.layers.values())
        lows = []
        for layer in range(config.layers):
            for place in PLACES:
                low = adapter.layers.get(f"layers.{layer}.{place}")
                lows.append(self._low(low, config.gated and place == "feedforward.up") if low else _LowRank())
        self._layers = (_LowRank * len(lows))(*lows)
        self.address = ctypes.addressof(self._layers)

    def _low(self, low: LowRank, by_turns: bool) -> _LowRank:
        inner, inputs = low.a.shape
        a = F.pad(low.a, (0, padded(inputs) - inputs)).to(torch.bfloat16)
        b = interleaved(low.b) if by_turns else low.b
        b = F.pad(b, (0, inner % 2, 0, padded(len(b)) - len(b))).to(torch.bfloat16)
        # [panels, pairs of inner values, outputs of a panel, 2]
        b = b.unflatten(0, (-1, PANEL)).unflatten(2, (-1, 2)).transpose(1, 2)
        used = (b != 0).flatten(2).any(-1).int()
        first, last = used.argmax(1), used.shape[1] - used.flip(1).argmax(1)
        spans = torch.stack((first, torch.where(used.any(1), last, first)), 1)
        return _LowRank(inner, *(self._at(values) for values in (a, b, spans)))

    def _at(self, values: Tensor) -> int:
        self._kept.append(values.contiguous())
        return self._kept[-1].data_ptr()
