"""Weights under llama.cpp's names and in its layout, each quantized when it is written.

Vectors stay in float32: they are few, and llama.cpp computes with no others. The embedding and the head lose most by
few bits and are read once a token, so under 8 bits they keep 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from ...errors import ModelError, UserError, nearest
from ..config import ModelConfig
from ..gguf_config import ARCHITECTURES, tensor_names
from ..naming import part_sizes, weight_map
from ..transformer import Transformer
from .gguf_metadata import GRAPHS, context_of, rotary_factors

# What the gguf package writes in Python, by llama.cpp's names. K-quants it only reads.
KINDS = {
    "f32": Kind.F32,
    "bf16": Kind.BF16,
    "f16": Kind.F16,
    "q8_0": Kind.Q8_0,
    "q5_1": Kind.Q5_1,
    "q5_0": Kind.Q5_0,
    "q4_1": Kind.Q4_1,
    "q4_0": Kind.Q4_0,
}
_STORED = {torch.float32: Kind.F32, torch.bfloat16: Kind.BF16, torch.float16: Kind.F16}
_FEW_BITS = (Kind.Q5_1, Kind.Q5_0, Kind.Q4_1, Kind.Q4_0)
# Tables that are looked up and never multiplied with; llama.cpp keeps them in float32.
_LOOKED_UP = ("position_embd.weight", "rope_freqs.weight", "token_types.weight")


class StoredTensor(NamedTuple):
    """A tensor of the file.

    Attributes:
        name: llama.cpp's.
        values: in the file's layout; a view where that is possible.
        kind: how it is stored.
        ours: the weight that it is read back as, whole or in part; None of what follows from the config.
        first_row: where in that weight it begins.
        plain: the values in our own layout.
    """

    name: str
    values: Tensor
    kind: Kind
    ours: str | None
    first_row: int
    plain: Tensor

    def packed(self) -> np.ndarray:
        """The values as the file holds them.

        Raises:
            ModelError: one of them is beyond what float16 can hold.
        """
        packed = _packed(self.values, self.kind)
        if self.kind == Kind.F16 and not np.isfinite(packed).all():
            message = f"the tensor '{self.name}' holds numbers that float16 cannot"
            raise ModelError(message, where="--quantize f16", hint="use --quantize bf16")
        return packed

    def rounded(self) -> Tensor:
        """What is left of the values in our own layout: rows are rounded each by itself, so their order is no matter."""
        if self.kind == Kind.F32:
            return self.plain.float()
        return torch.from_numpy(gguf.dequantize(_packed(self.plain, self.kind), self.kind)).reshape(self.plain.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes of the file it takes."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return self.values.numel() // block * size


def kind_named(name: str | None) -> Kind | None:
    """The quantization of that name; None for none.

    Raises:
        UserError: there is none, or it cannot be written here; names the nearest.
    """
    if name is None:
        return None
    if name.lower() not in KINDS:
        known = ", ".join(KINDS)
        hint = nearest(name.lower(), KINDS)
        if "_k" in name.lower() or name.lower().startswith("iq"):
            hint = f"llama.cpp's own llama-quantize makes it of a file in f16; here: {known}"
        raise UserError(f"'{name}' is not a quantization that can be written", where="--quantize", hint=hint)
    return KINDS[name.lower()]


def stored_tensors(model: Transformer, architecture: str, kind: Kind | None) -> Iterator[StoredTensor]:
    """The file's tensors in its order; kind None keeps every value."""
    config, state = model.config, model.state_dict()
    factors = rotary_factors(config)
    if factors is not None:
        values = torch.from_numpy(factors)
        yield StoredTensor("rope_freqs.weight", values, Kind.F32, None, 0, values)
    weights, names = weight_map(config), tensor_names(config, architecture)
    for ours, weight in weights.items():
        tensor, row = state[ours].detach(), 0
        sizes = part_sizes(ours, weight, config) if len(weight.parts) > 1 else [len(tensor)]
        for name, part in zip(names[ours], tensor.split(sizes), strict=True):
            plain = part[: context_of(config, architecture)] if name == "position_embd.weight" else part
            values = _laid_out(name, plain, config, architecture)
            yield StoredTensor(name, values, _kind_of(name, values, kind), ours, row, plain)
            row += len(part)
    if config.tied_head and not GRAPHS[architecture].tied:
        values = state["embedding.token.weight"].detach()
        yield StoredTensor("output.weight", values, _kind_of("output.weight", values, kind), "head.weight", 0, values)


def _laid_out(name: str, values: Tensor, config: ModelConfig, architecture: str) -> Tensor:
    """Our values in the file's layout, which reading them undoes (``model.gguf``)."""
    if ARCHITECTURES[architecture].interleaved and (".attn_q." in name or ".attn_k." in name):
        heads = config.heads if ".attn_q." in name else config.kv_heads
        return values.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
    if ARCHITECTURES[architecture].offset_norms and name.endswith("norm.weight"):
        return values.float() + 1
    return values


def _packed(values: Tensor, kind: Kind) -> np.ndarray:
    wide = values.float().contiguous().numpy()
    # Too large for float16 is told by ``StoredTensor.packed``.
    with np.errstate(over="ignore"):
        packed: np.ndarray = wide if kind == Kind.F32 else gguf.quantize(wide, kind)
    return packed


def _kind_of(name: str, values: Tensor, kind: Kind | None) -> Kind:
    if values.ndim < 2 or name in _LOOKED_UP:
        return Kind.F32
    if kind is None:
        return _STORED.get(values.dtype, Kind.F32)
    if kind in _FEW_BITS and name in ("token_embd.weight", "output.weight"):
        kind = Kind.Q8_0
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    if values.shape[-1] % block == 0:
        return kind
    # A row is made of whole blocks.
    return Kind.F16 if values.abs().max() <= torch.finfo(torch.float16).max else Kind.F32
