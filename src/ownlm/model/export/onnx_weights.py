"""An ONNX graph's weights: as they are, or in few bits.

| kind | linear layers | embedding and head |
|---|---|---|
| None | float32 | float32 |
| int8 | 8 bits, blocks of 32 with a scale each | the same |
| int4 | 4 bits, the same | as int8 |

ONNX Runtime's ``MatMulNBits`` multiplies by such a matrix and rounds its input to 8 bits in blocks of the same size. The
standard's dynamic quantization has one scale for all of an input: in a language model, some of whose activations are a
thousand times the others, that leaves nothing of most (docs/export.md has the figures).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .onnx_nodes import FLOAT, Nodes

BLOCK = 32
BITS = {"int8": 8, "int4": 4}

_DOMAIN = "com.microsoft"
# Inputs are rounded to int8; without, the kernels are a tenth as fast.
_ACCURACY = 4


class Weights:
    """Puts a model's weights into its graph.

    Args:
        nodes: the graph.
        state: the weights under our names.
        kind: int8, int4, or None for float32.
    """

    def __init__(self, nodes: Nodes, state: Mapping[str, Tensor], kind: str | None) -> None:
        self._nodes, self._state = nodes, state
        self._bits = None if kind is None else BITS[kind]

    def plain(self, name: str, offset: float = 0.0) -> str:
        """A weight in float32, with a number added."""
        values: np.ndarray = self._state[name].float().numpy()
        return self._nodes.weight(name, values + np.float32(offset) if offset else values)

    def rows(self, name: str, ids: str) -> str:
        """The rows of a table: ids [rows, length] -> [rows, length, width]."""
        if not self._rounds(name):
            return self._nodes.op("Gather", self.plain(name), ids)
        nodes, width = self._nodes, self._state[name].shape[1]
        codes, scales = self._packed(name, 8)
        # [rows, length, blocks, 32] and [rows, length, blocks, 1]
        code = nodes.op("Cast", nodes.op("Gather", codes, ids), to=FLOAT)
        scale = nodes.op("Unsqueeze", nodes.op("Gather", scales, ids), nodes.ints(3))
        values = nodes.op("Mul", nodes.op("Sub", code, nodes.number(128.0)), scale)
        return nodes.op("Reshape", values, nodes.ints(0, 0, width))

    def linear(self, name: str, x: str) -> str:
        """A linear layer with its bias: [..., inputs] -> [..., outputs]."""
        weight = f"{name}.weight"
        if self._bits is not None and self._rounds(weight):
            product = self._product(weight, x, self._bits)
        else:
            values: np.ndarray = self._state[weight].float().numpy()
            product = self._nodes.op("MatMul", x, self._nodes.weight(weight, values.T))
        return self._with_bias(product, f"{name}.bias")

    def vocabulary(self, name: str, x: str) -> str:
        """Logits over the vocabulary: [rows, length, width] -> [rows, length, vocab].

        The matrix keeps the embedding's layout, so that a tied head is the same weight once.
        """
        weight = f"{name}.weight"
        if self._rounds(weight):
            return self._with_bias(self._product(weight, x, 8), "head.bias")
        nodes, (vocab, width) = self._nodes, self._state[weight].shape
        logits = nodes.op("Gemm", nodes.op("Reshape", x, nodes.ints(-1, width)), self.plain(weight), transB=1)
        sizes = nodes.op("Slice", nodes.op("Shape", x), nodes.ints(0), nodes.ints(2))
        logits = nodes.op("Reshape", logits, nodes.op("Concat", sizes, nodes.ints(vocab), axis=0))
        return self._with_bias(logits, "head.bias")

    def _with_bias(self, x: str, name: str) -> str:
        return self._nodes.op("Add", x, self.plain(name)) if name in self._state else x

    def _rounds(self, name: str) -> bool:
        """Whether a matrix is kept in few bits: its rows must be whole blocks."""
        return self._bits is not None and self._state[name].shape[1] % BLOCK == 0

    def _product(self, name: str, x: str, bits: int) -> str:
        outputs, inputs = self._state[name].shape
        sizes = {"N": outputs, "K": inputs, "bits": bits, "block_size": BLOCK, "accuracy_level": _ACCURACY}
        product: str = self._nodes.op("MatMulNBits", x, *self._packed(name, bits), domain=_DOMAIN, **sizes)
        return product

    def _packed(self, name: str, bits: int) -> tuple[str, str]:
        """Names of a matrix's codes and scales."""
        key, nodes = f"{name}.{bits}", self._nodes
        names = f"{key}.codes", f"{key}.scales"
        if not nodes.has(names[0]):
            packed = pack_8(self._state[name]) if bits == 8 else pack_4(self._state[name])
            for part, values in zip(names, packed, strict=True):
                nodes.weight(part, values.numpy())
        return names


class Packed(NamedTuple):
    """A matrix in few bits.

    Attributes:
        codes: [outputs, blocks, bytes of a block] uint8, the middle one stands for 0; of 4 bits, two are a byte and the
            first is its lower half.
        scales: [outputs, blocks] float32.
    """

    codes: Tensor
    scales: Tensor


def pack_8(weight: Tensor) -> Packed:
    """8 bits; weight: [outputs, inputs], inputs a multiple of 32."""
    blocks = weight.float().unflatten(1, (-1, BLOCK))
    scales = blocks.abs().amax(-1) / 127
    return Packed(_codes(blocks, scales, 128), scales)


def pack_4(weight: Tensor) -> Packed:
    """4 bits; the scale has the sign that gives a block's largest value the code -8, which has no counterpart."""
    blocks = weight.float().unflatten(1, (-1, BLOCK))
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)).squeeze(-1)
    scales = largest / -8
    codes = _codes(blocks, scales, 8)
    return Packed(codes[..., 0::2] | (codes[..., 1::2] << 4), scales)


def _codes(blocks: Tensor, scales: Tensor, middle: int) -> Tensor:
    inverse = torch.where(scales != 0, 1 / scales, 0).unsqueeze(-1)
    return ((blocks * inverse).round() + middle).clamp(0, 2 * middle - 1).to(torch.uint8)
