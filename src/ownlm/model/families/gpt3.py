"""GPT-3 (Brown et al. 2020): GPT-2 in eight sizes, every second layer's attention banded if wanted.

The paper alternates dense and locally banded attention and does not say how wide the band is. In the model's section:

| given | attention |
|---|---|
| neither | dense everywhere: the network is a GPT-2, saved as one, and every GPT-2 program reads the folder |
| ``sliding_window: N`` | layers 1, 3, 5, ... from 0 see N tokens back |
| ``windowed_layers: [...]`` | those layers see 256 tokens back (our choice: GPT-Neo's), or ``sliding_window`` |

A banded one is saved with a ``model_type`` of its own, "gpt3", which other programs refuse: as a "gpt2" they would read
it without an error and attend everywhere. GPT-Neo's class has the bands, but no biases on query, key and value, which
GPT-2 and so GPT-3 have, and a query's bias cannot be folded into anything else. Who wants bands that Transformers reads
takes the family ``gpt_neo``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from . import gpt2
from .weights import Weight
from .windows import alternating, layer_types, window_values

BAND = 256

# Table 2.1. Two rows do not multiply out. Of the 1.3b, 24 heads of 128 would make 3,072 of a width of 2,048, and
# 1.5 billion parameters; 16 fill the width and make the 1.3 billion. Of the 13b, 40 heads of 128 make 5,120, not the
# printed 5,140, which 40 does not divide; both round to 13 billion.
_SHAPES = {
    "125m": (12, 768, 12),
    "350m": (24, 1024, 16),
    "760m": (24, 1536, 16),
    "1.3b": (24, 2048, 16),
    "2.7b": (32, 2560, 32),
    "6.7b": (32, 4096, 32),
    "13b": (40, 5120, 40),
    "175b": (96, 12288, 96),
}
SIZES: dict[str, dict[str, Any]] = {
    size: {"layers": layers, "width": width, "heads": heads, "vocab_size": 50257, "max_positions": 2048}
    for size, (layers, width, heads) in _SHAPES.items()
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a GPT-3 of the given width."""
    window, layers = values.get("sliding_window"), values.get("windowed_layers")
    banded: dict[str, Any] = {}
    if window is not None and layers is None:
        banded = {"windowed_layers": alternating(values["layers"], first=1)}
    elif layers is not None and window is None:
        banded = {"sliding_window": BAND}
    return gpt2.defaults(values) | banded


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    values = gpt2.from_hf(hf)
    types = hf.get("layer_types") or ["full_attention"] * values["layers"]
    return values | {"family": "gpt3"} | window_values(types, hf.get("sliding_window"), values["layers"])


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``: a GPT-2's where attention is dense everywhere."""
    hf = gpt2.to_hf(config)
    if config.sliding_window is None:
        return hf | {"ownlm_family": "gpt3"}
    return hf | {"model_type": "gpt3", "sliding_window": config.sliding_window, "layer_types": layer_types(config)}


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return gpt2.weights(config)
