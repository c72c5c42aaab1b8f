"""Nodes, constants and weights of an ONNX graph, each added in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Known to ONNX Runtime since 1.17, and to Transformers.js.
OPSET, IR_VERSION = 20, 9

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


class Nodes:
    """A graph in the making; what is computed is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._domains: set[str] = set()
        self._count = 0

    def op(self, kind: str, *inputs: str, parts: int = 0, domain: str = "", **attributes: Any) -> Any:
        """Adds a node and gives its output's name, or the names of so many parts."""
        self._count += 1
        name = f"{kind}_{self._count}"
        outputs = [f"{name}.{part}" for part in range(parts)] if parts else [name]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, domain=domain, **attributes))
        self._domains.add(domain)
        return outputs if parts else outputs[0]

    def weight(self, name: str, values: np.ndarray) -> str:
        """A constant of that name; the first of a name stays."""
        if name not in self._weights:
            self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def has(self, name: str) -> bool:
        """Whether there is a constant of that name."""
        return name in self._weights

    def ints(self, *values: int) -> str:
        """A list of whole numbers."""
        return self.weight(f"ints{list(values)}", np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """A whole number."""
        return self.weight(f"int({value})", np.array(value, np.int64))

    def number(self, value: float) -> str:
        """A float32 number."""
        return self.weight(f"float({value!r})", np.array(value, np.float32))

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Adds an input; sizes that are names are free."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        """Calls a float32 value the graph's output of that name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, FLOAT, shape))

    def model(self, producer: str, version: str) -> onnx.ModelProto:
        """The whole."""
        graph = helper.make_graph(self._nodes, "model", self._inputs, self._outputs, list(self._weights.values()))
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(name, 1) for name in self._domains if name)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name=producer, producer_version=version)
        model.ir_version = IR_VERSION
        return model
