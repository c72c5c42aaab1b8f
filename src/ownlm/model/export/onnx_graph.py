"""A model as an ONNX graph, in the way that ONNX programs call one: padded rows and a mask, past keys and values.

| model | inputs | outputs |
|---|---|---|
| generates text | input_ids, attention_mask, position_ids, past_key_values.N.key and .value | logits, present.N.key and .value |
| encoder | input_ids, attention_mask, token_type_ids where it has segments | logits, or start_logits and end_logits, or last_hidden_state |
| decoder with another head | input_ids, attention_mask | the same |

Names and shapes are those that Optimum and Transformers.js look for. The graph is written node by node from the config,
as the model's own modules are: tracing them takes a minute and three times the model's memory, and this a second.
Values of the stream are [rows, length, width].
"""

from __future__ import annotations

import numpy as np
import onnx

from ... import __version__
from ...errors import ModelError
from ..embedding import rotary_frequencies
from ..transformer import Transformer
from .onnx_nodes import FLOAT, INT, Nodes
from .onnx_weights import Weights

# What is added to hide a score; a finite number, so that a row that sees nothing is no NaN.
_HIDDEN = -1e30

_ROWS, _LENGTH, _PAST = "batch_size", "sequence_length", "past_sequence_length"


def build_graph(model: Transformer, quantize: str | None = None) -> onnx.ModelProto:
    """The graph of a model with float32 weights.

    Raises:
        ModelError: a head that no graph is made for.
    """
    if model.config.head == "seq2seq":
        message = "no ONNX graph is made for a model that makes texts from others"
        raise ModelError(message, where="head", hint="write it with --to hf")
    return _Graph(model, quantize).build()


class _Graph:
    def __init__(self, model: Transformer, quantize: str | None) -> None:
        self.config, self.nodes = model.config, Nodes()
        self.weights = Weights(
            self.nodes, {name: tensor.detach() for name, tensor in model.state_dict().items()}, quantize
        )
        self.generates = self.config.head == "lm"
        self._seen: dict[int | None, str] = {}
        self._kept: list[tuple[str, str, tuple[int | str, ...]]] = []

    def build(self) -> onnx.ModelProto:
        config, nodes = self.config, self.nodes
        ids = nodes.input("input_ids", INT, (_ROWS, _LENGTH))
        total = "total_sequence_length" if self.generates else _LENGTH
        self.mask = nodes.input("attention_mask", INT, (_ROWS, total))
        self.length = nodes.op("Gather", nodes.op("Shape", ids), nodes.integer(1))
        positions = self._positions()
        x = self._embedded(ids, positions)
        rotary = self._rotary(positions) if config.position == "rotary" else None
        for layer in range(config.layers):
            x = self._block(x, layer, rotary)
        if config.norm_position != "post":
            x = self._norm(x, "final_norm")
        self._head(x)
        return nodes.model("ownlm", __version__)

    def _positions(self) -> str:
        """[rows, length], or [1, length] where they are the same in all rows."""
        nodes = self.nodes
        if self.generates:
            return nodes.input("position_ids", INT, (_ROWS, _LENGTH))
        if not self.config.causal:
            return nodes.op(
                "Unsqueeze", nodes.op("Range", nodes.integer(0), self.length, nodes.integer(1)), nodes.ints(0)
            )
        # A row that is padded on its left begins later.
        counted = nodes.op("Sub", nodes.op("CumSum", self.mask, nodes.integer(1)), nodes.integer(1))
        return nodes.op("Max", counted, nodes.integer(0))

    def _embedded(self, ids: str, positions: str) -> str:
        config, nodes, weights = self.config, self.nodes, self.weights
        x = weights.rows("embedding.token.weight", ids)
        if config.embedding_scale:
            x = nodes.op("Mul", x, nodes.number(float(np.float32(config.width**0.5))))
        if config.position == "learned":
            offset = config.position_offset
            places = nodes.op("Add", positions, nodes.integer(offset)) if offset else positions
            x = nodes.op("Add", x, nodes.op("Gather", weights.plain("embedding.position.weight"), places))
        if config.segments:
            # One segment is no input: every token has its vector.
            kinds = nodes.integer(0)
            if config.segments > 1:
                kinds = nodes.input("token_type_ids", INT, (_ROWS, _LENGTH))
            x = nodes.op("Add", x, nodes.op("Gather", weights.plain("embedding.segment.weight"), kinds))
        return self._norm(x, "embedding.norm") if config.embedding_norm else x

    def _rotary(self, positions: str) -> list[tuple[str, str]]:
        """Cosine and sine for layers that see everything, and for windowed ones where these turn otherwise."""
        frequencies = rotary_frequencies(self.config)
        places = self.nodes.op("Unsqueeze", self.nodes.op("Cast", positions, to=FLOAT), self.nodes.ints(2, 3))
        tables = []
        for number, row in enumerate(frequencies if frequencies.ndim == 2 else frequencies.unsqueeze(0)):
            # [rows, length, 1, rotary_width / 2]
            angles = self.nodes.op("Mul", places, self.nodes.weight(f"frequencies.{number}", row.numpy()))
            tables.append((self.nodes.op("Cos", angles), self.nodes.op("Sin", angles)))
        return tables

    def _block(self, x: str, layer: int, rotary: list[tuple[str, str]] | None) -> str:
        config, nodes, name = self.config, self.nodes, f"layers.{layer}"
        if config.norm_position == "post":
            x = self._norm(nodes.op("Add", x, self._attention(x, layer, rotary)), f"{name}.attention_norm")
            return self._norm(nodes.op("Add", x, self._feedforward(x, name)), f"{name}.feedforward_norm")
        attended = self._attention(self._norm(x, f"{name}.attention_norm"), layer, rotary)
        if config.norm_position == "both":
            attended = self._norm(attended, f"{name}.attention_out_norm")
        beside = x if config.parallel else nodes.op("Add", x, attended)
        fed = self._feedforward(self._norm(beside, f"{name}.feedforward_norm"), name)
        if config.norm_position == "both":
            fed = self._norm(fed, f"{name}.feedforward_out_norm")
        return nodes.op("Add", nodes.op("Add", x, attended) if config.parallel else beside, fed)

    def _attention(self, x: str, layer: int, rotary: list[tuple[str, str]] | None) -> str:
        config, nodes, name = self.config, self.nodes, f"layers.{layer}.attention"
        widths, window = config.qkv_widths, config.window_of(layer)
        q, k, v = nodes.op("Split", self.weights.linear(f"{name}.qkv", x), nodes.ints(*widths), parts=3, axis=2)
        q, k, v = (
            nodes.op("Reshape", part, nodes.ints(0, 0, heads, config.head_width))
            for part, heads in ((q, config.heads), (k, config.kv_heads), (v, config.kv_heads))
        )
        if config.qk_norm:
            q, k = self._norm(q, f"{name}.q_norm", kind="rmsnorm"), self._norm(k, f"{name}.k_norm", kind="rmsnorm")
        if rotary is not None:
            table = rotary[-1 if window is not None else 0]
            q, k = self._turned(q, *table), self._turned(k, *table)
        # [rows, heads, length, head_width]
        q, k, v = (nodes.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, k, v))
        if self.generates:
            k, v = self._with_past(layer, k, v)
        if config.heads > config.kv_heads:
            # The queries that share a key stand below each other: [rows, kv_heads, group * length, head_width].
            q = nodes.op("Reshape", q, nodes.ints(0, config.kv_heads, -1, config.head_width))
        scale = config.head_width**-0.5 if config.attention_scale is None else config.attention_scale
        scores = nodes.op(
            "MatMul", nodes.op("Mul", q, nodes.number(scale)), nodes.op("Transpose", k, perm=[0, 1, 3, 2])
        )
        if config.attention_softcap is not None:
            scores = self._bent(scores, config.attention_softcap)
        shares = nodes.op("Softmax", nodes.op("Add", scores, self._hidden(window)), axis=-1)
        out = nodes.op("MatMul", shares, v)
        if config.heads > config.kv_heads:
            out = nodes.op("Reshape", out, nodes.ints(0, config.heads, -1, config.head_width))
        out = nodes.op("Transpose", out, perm=[0, 2, 1, 3])
        out = nodes.op("Reshape", out, nodes.ints(0, 0, config.heads * config.head_width))
        return self.weights.linear(f"{name}.output", out)

    def _with_past(self, layer: int, k: str, v: str) -> tuple[str, str]:
        """Keys and values behind those of earlier tokens; both are given back."""
        shape = (_ROWS, self.config.kv_heads, _PAST, self.config.head_width)
        whole = (_ROWS, self.config.kv_heads, "total_sequence_length", self.config.head_width)
        found = []
        for kind, new in (("key", k), ("value", v)):
            old = self.nodes.input(f"past_key_values.{layer}.{kind}", FLOAT, shape)
            found.append(self.nodes.op("Concat", old, new, axis=2))
            self._kept.append((f"present.{layer}.{kind}", found[-1], whole))
        return found[0], found[1]

    def _turned(self, x: str, cos: str, sin: str) -> str:
        """Rotary positions; x: [rows, length, heads, head_width]."""
        nodes, turning = self.nodes, self.config.turning_width
        rest = self.config.head_width - turning
        sizes = nodes.ints(turning // 2, turning // 2, *([rest] if rest else []))
        first, second, *others = nodes.op("Split", x, sizes, parts=3 if rest else 2, axis=3)
        left = nodes.op("Sub", nodes.op("Mul", first, cos), nodes.op("Mul", second, sin))
        right = nodes.op("Add", nodes.op("Mul", second, cos), nodes.op("Mul", first, sin))
        return nodes.op("Concat", left, right, *others, axis=3)

    def _hidden(self, window: int | None) -> str:
        """What is added to scores so that only what a query may see counts: [rows, 1, group * length, total]."""
        if window in self._seen:
            return self._seen[window]
        config, nodes = self.config, self.nodes
        total = nodes.op("Gather", nodes.op("Shape", self.mask), nodes.integer(1))
        seen = nodes.op("Unsqueeze", nodes.op("Cast", self.mask, to=onnx.TensorProto.BOOL), nodes.ints(1, 2))
        if config.causal or window is not None:
            key = nodes.op("Range", nodes.integer(0), total, nodes.integer(1))
            query = nodes.op("Range", nodes.op("Sub", total, self.length), total, nodes.integer(1))
            back = nodes.op("Sub", nodes.op("Unsqueeze", query, nodes.ints(1)), key)
            if config.causal:
                seen = nodes.op("And", seen, nodes.op("GreaterOrEqual", back, nodes.integer(0)))
            if window is not None:
                seen = nodes.op("And", seen, nodes.op("Less", nodes.op("Abs", back), nodes.integer(window)))
            if config.heads > config.kv_heads:
                seen = nodes.op("Tile", seen, nodes.ints(1, 1, config.heads // config.kv_heads, 1))
        self._seen[window] = nodes.op("Where", seen, nodes.number(0.0), nodes.number(_HIDDEN))
        return self._seen[window]

    def _feedforward(self, x: str, block: str) -> str:
        nodes, name = self.nodes, f"{block}.feedforward"
        inner = self.weights.linear(f"{name}.up", x)
        if self.config.gated:
            inner_width = self.config.feedforward_width
            gate, value = nodes.op("Split", inner, nodes.ints(inner_width, inner_width), parts=2, axis=2)
            inner = nodes.op("Mul", self._activated(gate), value)
        else:
            inner = self._activated(inner)
        return self.weights.linear(f"{name}.down", inner)

    def _activated(self, x: str) -> str:
        kind = self.config.activation
        if kind == "silu":
            return self.nodes.op("Mul", x, self.nodes.op("Sigmoid", x))
        if kind == "relu":
            return self.nodes.op("Relu", x)
        return self.nodes.op("Gelu", x, approximate="tanh" if kind == "gelu_tanh" else "none")

    def _norm(self, x: str, name: str, kind: str | None = None) -> str:
        """Over the last dimension, whatever stands before it."""
        config, nodes, weights = self.config, self.nodes, self.weights
        if (kind or config.norm) == "layernorm":
            both = weights.plain(f"{name}.weight"), weights.plain(f"{name}.bias")
            return nodes.op("LayerNormalization", x, *both, axis=-1, epsilon=config.norm_eps)
        mean = nodes.op("ReduceMean", nodes.op("Mul", x, x), nodes.ints(-1), keepdims=1)
        root = nodes.op("Sqrt", nodes.op("Add", mean, nodes.number(config.norm_eps)))
        weight = weights.plain(f"{name}.weight", offset=1.0 if config.norm_unit_offset else 0.0)
        return nodes.op("Mul", nodes.op("Div", x, root), weight)

    def _bent(self, x: str, cap: float) -> str:
        limit = self.nodes.number(cap)
        return self.nodes.op("Mul", self.nodes.op("Tanh", self.nodes.op("Div", x, limit)), limit)

    def _head(self, x: str) -> None:
        config, nodes = self.config, self.nodes
        if config.head == "classify":
            nodes.output("logits", self._labels(x), (_ROWS, len(config.labels)))
        elif config.head == "span":
            ends = nodes.op("Split", self.weights.linear("head.out", x), nodes.ints(1, 1), parts=2, axis=2)
            for name, value in zip(("start_logits", "end_logits"), ends, strict=True):
                nodes.output(name, nodes.op("Squeeze", value, nodes.ints(2)), (_ROWS, _LENGTH))
        elif config.head == "none":
            nodes.output("last_hidden_state", x, (_ROWS, _LENGTH, config.width))
        else:
            if config.head == "masked":
                dense = self._activated(self.weights.linear("head.dense", x))
                x = self._norm(dense, "head.norm")
            nodes.output("logits", self._over_vocabulary(x), (_ROWS, _LENGTH, config.vocab_size))
        for name, value, shape in self._kept:
            nodes.output(name, value, shape)

    def _over_vocabulary(self, x: str) -> str:
        name = "embedding.token" if self.config.tied_head else "head"
        logits = self.weights.vocabulary(name, x)
        return logits if self.config.logit_softcap is None else self._bent(logits, self.config.logit_softcap)

    def _labels(self, x: str) -> str:
        """Logits of the token by which each row is classified, its first or last that is no padding: [rows, labels]."""
        config, nodes = self.config, self.nodes
        if config.pool == "first":
            place = nodes.op("ArgMax", self.mask, axis=1, keepdims=1)
        else:
            places = nodes.op("Range", nodes.integer(0), self.length, nodes.integer(1))
            place = nodes.op("ReduceMax", nodes.op("Mul", self.mask, places), nodes.ints(1), keepdims=1)
        pooled = nodes.op("GatherND", x, place, batch_dims=1)
        if config.head_activation != "none":
            dense = self.weights.linear("head.dense", pooled)
            pooled = nodes.op("Tanh" if config.head_activation == "tanh" else "Relu", dense)
        return self.weights.linear("head.out", pooled)
