"""A GGUF file's metadata as our config: what each of llama.cpp's architectures says, and how its weights differ.

What is not said has the value that llama.cpp takes for it. Where the same numbers would make another network there than
here, the file is refused.
Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from ..errors import ConfigError, DamagedError, ModelError
from .config import ModelConfig
from .embedding import rotary_frequencies
from .families import config_from_user
from .families.windows import window_values
from .naming import weight_map


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures that we have a family for.

    Attributes:
        family: ours.
        interleaved: whether rows of queries and keys stand in pairs, for another layout of rotary positions.
        offset_norms: whether a norm's stored weight has the 1 in it that ours adds.
        pattern: of every so many layers the last sees everything and the others have the window; 0 is no windows.
        large: with so many layers, scores are scaled by the width of a head's share and not by that of a head.
    """

    family: str
    interleaved: bool = False
    offset_norms: bool = False
    pattern: int = 0
    large: int | None = None


ARCHITECTURES = {
    "llama": Architecture("llama", interleaved=True),
    "gpt2": Architecture("gpt2"),
    "gptneox": Architecture("gpt_neox"),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma": Architecture("gemma", offset_norms=True),
    "gemma2": Architecture("gemma2", offset_norms=True, pattern=2, large=46),
    "gemma3": Architecture("gemma3_text", offset_norms=True, pattern=6, large=62),
    "bert": Architecture("bert"),
}

# What changes the network where it is not 0, and no family of ours has, or only the ones named.
_UNSUPPORTED: dict[str, tuple[str, ...]] = {
    "expert_count": (),
    "rope.scaling.attn_factor": (),
    "attention.scale": (),
    "attention.clamp_kqv": (),
    "attention.max_alibi_bias": (),
    "attn_logit_softcapping": ("gemma2",),
    "final_logit_softcapping": ("gemma2", "gemma3"),
    "logit_scale": (),
    "residual_scale": (),
    "embedding_scale": (),
}

# Llama 3.1's rule as every public model sets it; a GGUF file holds only the frequencies that follow from it.
LLAMA3 = {"low_frequency_factor": 1.0, "high_frequency_factor": 4.0, "original_max_positions": 8192}

# What llama.cpp takes where a Gemma's file is silent.
_GEMMA2_WINDOW, _GEMMA_LOCAL_THETA = 4096, 10000.0


def read_shape(metadata: Mapping[str, Any], tensors: Mapping[str, Any], path: Path) -> ModelConfig:
    """The model's shape from the metadata, and from which tensors there are.

    Raises:
        ModelError: an architecture, or a feature of one, that we do not have.
        DamagedError: something is missing or cannot be.
    """
    architecture = str(metadata.get("general.architecture"))
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(f"the architecture '{architecture}' is not supported", where=str(path), hint=f"known: {known}")
    values = {key.removeprefix(f"{architecture}."): value for key, value in metadata.items()}
    for key, known_to in _UNSUPPORTED.items():
        if values.get(key) and architecture not in known_to:
            raise ModelError(f"a model with {key} is not supported", where=str(path))
    if not values.get("attention.causal", True) and architecture != "bert":
        raise ModelError("a model that looks both ways is not supported", where=f"{path}: attention.causal")
    if values.get("block_count", 0) > len(tensors):
        # Noticed before so many layers are built.
        raise DamagedError(f"it names {values['block_count']} layers and has {len(tensors)} tensors", where=str(path))
    try:
        config = config_from_user(_shape(architecture, values, tensors))
        frequencies = tensors.get("rope_freqs.weight")
        return config if frequencies is None else _stretched(config, np.array(frequencies.data))
    except KeyError as error:
        raise DamagedError(f"the file does not say {error}", where=str(path), hint="fetch or copy it again") from None
    except (ConfigError, ModelError) as error:
        raise ModelError(error.message, where=f"{path}: {error.where}", hint=error.hint) from None


def tensor_names(config: ModelConfig, architecture: str) -> dict[str, list[str]]:
    """Our weights to the file's tensors, of which some of ours have several: query, key and value, or gate and up."""
    number = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(number, config.layers)
    return {ours: [_stored_name(names, part) for part in weight.parts] for ours, weight in weight_map(config).items()}


def _stored_name(names: gguf.TensorNameMap, part: str) -> str:
    # The package knows an encoder's names as the bare stack has them.
    return names.get_name(part.removeprefix("bert."), try_suffixes=(".weight", ".bias")) or part


def _shape(architecture: str, values: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    width, heads = values["embedding_length"], values["attention.head_count"]
    head_width = values.get("attention.key_length") or width // heads
    shape = {
        "family": ARCHITECTURES[architecture].family,
        "layers": values["block_count"],
        "width": width,
        "heads": heads,
        "kv_heads": values.get("attention.head_count_kv", heads),
        "head_width": head_width,
        "feedforward_width": values["feed_forward_length"],
        "vocab_size": int(tensors["token_embd.weight"].shape[-1]),
        "max_positions": values["context_length"],
        "tied_head": "output.weight" not in tensors,
    }
    if architecture in ("gpt2", "bert"):
        shape["norm_eps"] = _shortest(values["attention.layer_norm_epsilon"])
    if architecture == "gpt2":
        return shape
    if architecture == "bert":
        # llama.cpp has encoders for their embeddings: without a head.
        return shape | {"head": "none", "segments": int(tensors["token_types.weight"].shape[-1])}
    turning = values.get("rope.dimension_count", head_width)
    shape["rope_theta"] = _shortest(values.get("rope.freq_base", 10000.0))
    if architecture == "gptneox":
        return shape | {
            "norm_eps": _shortest(values["attention.layer_norm_epsilon"]),
            "rotary_width": None if turning == head_width else turning,
            "parallel": values.get("use_parallel_residual", True),
        }
    if turning != head_width:
        raise ModelError("rotary positions on only a part of each head are not supported", where="rope.dimension_count")
    shape |= {
        "norm_eps": _shortest(values["attention.layer_norm_rms_epsilon"]),
        "rope_scaling": _scaling(values),
        "qkv_bias": "blk.0.attn_q.bias" in tensors,
        "output_bias": "blk.0.attn_output.bias" in tensors,
        "feedforward_bias": "blk.0.ffn_up.bias" in tensors,
    }
    if ARCHITECTURES[architecture].pattern:
        return shape | _gemma(architecture, shape, values)
    window = values.get("attention.sliding_window")
    return shape | {"family": "mistral", "sliding_window": window} if window and architecture == "llama" else shape


def _gemma(architecture: str, shape: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What Gemma 2 and 3 have beyond the others: windows in some layers, bent or scaled scores, bent logits."""
    second, layers = architecture == "gemma2", shape["layers"]
    pattern = values.get("attention.sliding_window_pattern", ARCHITECTURES[architecture].pattern)
    every = pattern if isinstance(pattern, int) else 1
    windowed = [bool(pattern[n]) if isinstance(pattern, list) else n % every < every - 1 for n in range(layers)]
    window = values.get("attention.sliding_window", _GEMMA2_WINDOW if second else None)
    types = ["sliding_attention" if one else "full_attention" for one in windowed]
    scale = scores_scale(architecture, layers, shape["width"], shape["heads"], shape["head_width"])
    cap = values.get("final_logit_softcapping", 30.0 if second else None)
    own: dict[str, Any] = {"attention_scale": scale, "logit_softcap": _shortest(cap) if cap else None}
    if second:
        own["attention_softcap"] = _shortest(values.get("attn_logit_softcapping", 50.0))
    else:
        own["local_rope_theta"] = _shortest(values.get("rope.freq_base_swa", _GEMMA_LOCAL_THETA))
    return own | window_values(types, window or None, layers)


def scores_scale(architecture: str, layers: int, width: int, heads: int, head_width: int) -> float | None:
    """What llama.cpp scales attention's scores by, as ModelConfig has it: None is by the width of a head."""
    share = width // heads
    return share**-0.5 if layers == ARCHITECTURES[architecture].large and share != head_width else None


def _shortest(value: float) -> float:
    """The number that was meant: 1e-05, which a float32 field gives back as 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _scaling(values: Mapping[str, Any]) -> dict[str, Any] | None:
    # llama.cpp takes a file that gives a factor and no type for linear.
    kind = values.get("rope.scaling.type", "linear")
    factor = values.get("rope.scaling.factor", values.get("rope.scale_linear", 1.0))
    if kind not in ("none", "linear"):
        raise ModelError(f"rotary scaling '{kind}' is not supported", where="rope.scaling.type", hint="known: linear")
    return None if kind == "none" or factor in (0.0, 1.0) else {"kind": "linear", "factor": factor}


def _stretched(config: ModelConfig, factors: np.ndarray) -> ModelConfig:
    """The config whose rotary frequencies are the plain ones divided by ``factors``, as Llama 3.1's files store them."""
    plain = rotary_frequencies(config)
    if factors.shape != plain.shape:
        message = f"there are {factors.size} rotary frequencies, and a head has {plain.numel()}"
        raise ModelError(message, where="rope_freqs.weight")
    if np.all(factors == 1):
        return config
    scaling = {"kind": "llama3", "factor": _shortest(float(factors.max())), **LLAMA3}
    stretched = config_from_user(config.model_dump() | {"rope_scaling": scaling})
    expected = plain / torch.from_numpy(factors)
    if not torch.allclose(rotary_frequencies(stretched), expected, rtol=1e-4):
        raise ModelError("its rotary frequencies follow a rule that is not supported", where="rope_freqs.weight")
    return stretched
