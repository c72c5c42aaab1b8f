"""An ONNX folder in ONNX Runtime: what the check runs, and how to call the graph."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from ..config import ModelConfig

_INT = np.int64


class OnnxModel:
    """The graph of an exported folder.

    Args:
        folder: holds ``model.onnx``.
        config: the model's.

    Attributes:
        inputs, names: what the graph takes and gives, by name.
        generates: whether it takes past keys and values.
    """

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Errors only: it warns of what it folds away.
        options.log_severity_level = 3
        path = str(folder / "model.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.config = config
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.names = [one.name for one in self._session.get_outputs()]
        self.generates = "position_ids" in self.inputs

    def outputs(self, documents: Sequence[Sequence[int]]) -> list[Tensor]:
        """What it says of each document (``check.outputs``), all of them in one padded batch.

        Rows are padded on the left where the model generates, so that each ends where the next token comes.
        """
        longest = max(map(len, documents))
        ids, mask = np.zeros((len(documents), longest), _INT), np.zeros((len(documents), longest), _INT)
        places = []
        for row, document in enumerate(documents):
            place = slice(longest - len(document), longest) if self.generates else slice(0, len(document))
            ids[row, place], mask[row, place] = document, 1
            places.append(place)
        found = [torch.from_numpy(values) for values in self.run(ids, mask)[: 2 if self.config.head == "span" else 1]]
        if self.config.head == "classify":
            return [found[0][row : row + 1] for row in range(len(documents))]
        if self.config.head == "span":
            return [torch.stack((found[0][row, at], found[1][row, at]), -1) for row, at in enumerate(places)]
        return [found[0][row, place] for row, place in enumerate(places)]

    def stepwise(self, document: Sequence[int]) -> Tensor:
        """Logits of one document read in two halves, and from then on token by token: [length, vocab]."""
        half = (len(document) + 1) // 2
        cuts = [0, half, *range(half + 1, len(document) + 1)]
        past: list[np.ndarray] | None = None
        parts = []
        for begin, end in itertools.pairwise(cuts):
            ids = np.array([document[begin:end]], _INT)
            logits, *past = self.run(ids, np.ones((1, end), _INT), past)
            parts.append(torch.from_numpy(logits[0]))
        return torch.cat(parts)

    def run(self, ids: np.ndarray, mask: np.ndarray, past: list[np.ndarray] | None = None) -> list[np.ndarray]:
        """The graph's outputs; ids: [rows, length], mask: [rows, past + length], past: as they came out."""
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self.inputs:
            feed["token_type_ids"] = np.zeros_like(ids)
        if self.generates:
            positions = np.maximum(mask.cumsum(1) - 1, 0)
            feed["position_ids"] = positions[:, -ids.shape[1] :]
            names = [name for name in self.inputs if name.startswith("past_key_values.")]
            empty = np.zeros((len(ids), self.config.kv_heads, 0, self.config.head_width), np.float32)
            feed |= dict(zip(names, past or [empty] * len(names), strict=True))
        found: list[np.ndarray] = self._session.run(None, feed)
        return found
