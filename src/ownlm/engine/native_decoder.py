"""A decoder as the engine's kernels run it: packed weights, pages of keys and values, one call for a pass."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..model.adapters import adapter_layers
from ..model.kernels.calls import ACTIVATIONS
from ..model.layers import LayerNorm, Linear, RMSNorm
from ..model.transformer import Block, Transformer
from .adapters import Adapter
from .kernels.library import library
from .native_adapters import NativeAdapter
from .packing import Kind, interleaved, pack, padded
from .pages import PAGE

KIND_CODES = {"bf16": 0, "int8": 1, "int4": 2}

_int, _float, _pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class _Matrix(ctypes.Structure):
    _fields_ = (("kind", _int), ("outputs", _int), ("inputs", _int), ("data", _pointer), ("bias", _pointer))


class _Norm(ctypes.Structure):
    _fields_ = (("weight", _pointer), ("bias", _pointer))


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Matrix) for name in ("qkv", "output", "up", "down")),
        *(
            (name, _Norm)
            for name in ("attention_norm", "feedforward_norm", "attention_out_norm", "feedforward_out_norm")
        ),
        *((name, _pointer) for name in ("q_norm", "k_norm", "frequencies")),
        ("window", _int),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, _int) for name in ("layers", "width", "heads", "kv_heads", "head_width", "inner", "vocab", "turning")),
        *((name, _int) for name in ("activation", "gated", "parallel", "centred", "position_offset")),
        *((name, _float) for name in ("eps", "embedding_scale", "score_scale", "score_cap", "logit_cap")),
        ("tokens", _pointer),
        ("positions", _pointer),
        ("embedding_norm", _Norm),
        ("final_norm", _Norm),
        ("layer", _pointer),
        ("head", _Matrix),
        ("pages", _pointer),
    )


class _Pass(ctypes.Structure):
    _fields_ = (
        *((name, _int) for name in ("rows", "sequences", "spoken", "table_width")),
        *((name, _pointer) for name in ("ids", "places", "starts", "table", "speaking", "logits")),
        ("adapters", _pointer),
        ("adapters_inner", _int),
    )


def runs_natively(model: Transformer) -> bool:
    """Whether the kernels run this model on this machine; what they do not, the framework does."""
    config = model.config
    return (
        model.device.type == "cpu"
        and model.compute_dtype == torch.bfloat16
        and config.norm_position != "post"
        and config.position in ("learned", "rotary")
        and config.head_width % 16 == 0
        and config.head_width <= 1024
        and all(type(layer).forward is Linear.forward for layer in _linears(model))
        # What an adapter adds stands beside the linear layers, where the kernels do not look.
        and not adapter_layers(model)
        and library() is not None
    )


class NativeDecoder:
    """Runs passes over pages of keys and values; the model it was made from is left as it is.

    Args:
        model: one that ``runs_natively``.
        kind: how the weights of linear layers and of the head are kept; beside layers of 4 bits the head has 8, since
            every token is told from every other by it.
        pages: how many there are, numbered from 1; memory is taken as they are first used.
    """

    def __init__(self, model: Transformer, kind: Kind, pages: int) -> None:
        config = model.config
        self.config, self._kind = config, kind
        # What C holds pointers into.
        self._kept: list[Any] = []
        self._tables: dict[int, int] = {}
        self._weight_bytes = 0
        row = 2 * config.layers * config.kv_heads * config.head_width
        page_bytes = 2 * PAGE * row
        # Page 0 is nobody's.
        self._pages = torch.empty(pages + 1, page_bytes, dtype=torch.uint8)
        embedding = model.embedding
        layers = (_Layer * config.layers)(*(self._layer(model, number) for number in range(config.layers)))
        self._kept.append(layers)
        scale = config.head_width**-0.5 if config.attention_scale is None else config.attention_scale
        position = None if embedding.position is None else embedding.position.weight
        self._model = _Model(
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_width=config.head_width,
            inner=config.feedforward_width,
            vocab=config.vocab_size,
            turning=config.turning_width if model.frequencies is not None else 0,
            activation=ACTIVATIONS.index(config.activation),
            gated=config.gated,
            parallel=config.parallel,
            centred=config.norm == "layernorm",
            position_offset=config.position_offset,
            eps=config.norm_eps,
            embedding_scale=embedding.scale,
            score_scale=scale,
            score_cap=config.attention_softcap or 0.0,
            logit_cap=config.logit_softcap or 0.0,
            tokens=self._at(embedding.token.weight, torch.bfloat16),
            positions=self._at(position),
            embedding_norm=self._norm(embedding.norm),
            final_norm=self._norm(model.final_norm),
            layer=ctypes.addressof(layers),
            head=self._matrix(model.head_weight, None, "int8" if kind == "int4" else kind),
            pages=self._pages.data_ptr(),
        )

    @property
    def kind(self) -> Kind:
        """How the weights are kept."""
        return self._kind

    @property
    def weight_bytes(self) -> int:
        """What a pass reads of weights."""
        return self._weight_bytes

    def reserve(self) -> None:
        """Takes all pages' memory now, rather than page by page as they are first used."""
        self._pages.zero_()

    def prepared(self, adapter: Adapter) -> NativeAdapter:
        """The adapter in the kernels' layout."""
        return NativeAdapter(adapter, self.config)

    @torch.inference_mode()
    def __call__(
        self,
        ids: Sequence[int],
        places: Sequence[int],
        starts: Sequence[int],
        pages: Sequence[Sequence[int]],
        speaking: Sequence[int],
        adapters: Sequence[NativeAdapter | None] = (),
    ) -> Tensor:
        """See ``Decoder``."""
        logits = torch.empty(len(speaking), self.config.vocab_size)
        widest = max(map(len, pages))
        table = torch.tensor([[*row, *[0] * (widest - len(row))] for row in pages], dtype=torch.int32)
        arrays = [torch.tensor(x, dtype=torch.int64) for x in (ids, places, starts, speaking)]
        ids_at, places_at, starts_at, speaking_at = (x.data_ptr() for x in arrays)
        adapted = (_pointer * len(adapters))(*(None if one is None else one.address for one in adapters))
        work = _Pass(
            rows=len(ids),
            sequences=len(starts) - 1,
            spoken=len(speaking),
            table_width=widest,
            ids=ids_at,
            places=places_at,
            starts=starts_at,
            table=table.data_ptr(),
            speaking=speaking_at,
            logits=logits.data_ptr(),
            adapters=ctypes.addressof(adapted) if any(adapted) else None,
            adapters_inner=max((one.inner for one in adapters if one is not None), default=0),
        )
        kernels = library()
        assert kernels is not None
        kernels.decoder_forward(ctypes.byref(self._model), ctypes.byref(work), ctypes.c_int(torch.get_num_threads()))
        return logits

    def _layer(self, model: Transformer, number: int) -> _Layer:
        config, block = self.config, model.layers[number]
        assert isinstance(block, Block)
        attention, feedforward = block.attention, block.feedforward
        up: Tensor = feedforward.up.weight
        bias: Tensor | None = feedforward.up.bias
        if config.gated:
            up, bias = interleaved(up), None if bias is None else interleaved(bias)
        frequencies = None
        if model.frequencies is not None:
            rows = model.frequencies.view(-1, model.frequencies.shape[-1])
            local = config.local_rope_theta is not None and config.window_of(number) is not None
            frequencies = self._shared(rows[-1 if local else 0])
        return _Layer(
            qkv=self._matrix(attention.qkv.weight, attention.qkv.bias),
            output=self._matrix(attention.output.weight, attention.output.bias),
            up=self._matrix(up, bias),
            down=self._matrix(feedforward.down.weight, feedforward.down.bias),
            attention_norm=self._norm(block.attention_norm),
            feedforward_norm=self._norm(block.feedforward_norm),
            attention_out_norm=self._norm(block.attention_out_norm),
            feedforward_out_norm=self._norm(block.feedforward_out_norm),
            q_norm=self._norm(attention.q_norm).weight,
            k_norm=self._norm(attention.k_norm).weight,
            frequencies=frequencies,
            window=config.window_of(number) or 0,
        )

    def _matrix(self, weight: Tensor, bias: Tensor | None, kind: Kind | None = None) -> _Matrix:
        kind = kind or self._kind
        packed = pack(weight, kind)
        self._kept.append(packed)
        self._weight_bytes += packed.nbytes
        outputs, inputs = padded(len(weight)), padded(weight.shape[1])
        if bias is not None:
            bias = torch.nn.functional.pad(bias.detach().float(), (0, outputs - len(bias)))
        return _Matrix(KIND_CODES[kind], outputs, inputs, packed.data_ptr(), self._at(bias))

    def _norm(self, norm: nn.Module | None) -> _Norm:
        if norm is None:
            return _Norm(None, None)
        assert isinstance(norm, LayerNorm | RMSNorm)
        weight = norm.weight.detach().float()
        if isinstance(norm, RMSNorm) and norm.unit_offset:
            weight = weight + 1
        return _Norm(self._at(weight), self._at(getattr(norm, "bias", None)))

    def _at(self, values: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
        """Where the values are, in this dtype; they stay there as long as this lives."""
        if values is None:
            return None
        values = values.detach().to(dtype).contiguous()
        self._kept.append(values)
        return values.data_ptr()

    def _shared(self, row: Tensor) -> int:
        """Rotary frequencies, at one place for all layers that turn alike."""
        key = row.data_ptr()
        if key not in self._tables:
            place = self._at(row)
            assert place is not None
            self._tables[key] = place
        return self._tables[key]


def _linears(model: Transformer) -> list[Linear]:
    return [module for module in model.layers.modules() if isinstance(module, Linear)]
