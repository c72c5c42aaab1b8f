"""A config as the keys that llama.cpp reads, and what its graph of an architecture cannot do.

llama.cpp builds each architecture's network in code: its activation, which projections have biases, how scores are
scaled. Whatever of a config that code does not do is refused here, since the file would load and answer otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...errors import ModelError
from ..config import ModelConfig
from ..embedding import rotary_frequencies
from ..gguf_config import ARCHITECTURES, LLAMA3, scores_scale

# Our families to llama.cpp's architectures; a Mistral and a GPT-3 are networks that it has under another name.
OF_FAMILY = {known.family: name for name, known in ARCHITECTURES.items()} | {"mistral": "llama", "gpt3": "gpt2"}


class _Graph(NamedTuple):
    """What llama.cpp's code of an architecture does.

    Attributes:
        activation: ours by the name that the family has it under; it computes both forms of GELU by tanh.
        biases: whose biases it adds where there are any; the families with other norms always have theirs.
        own_head: whether the head may be another matrix than the embedding.
        tied: whether it may be the embedding; where not, it is written once more.
        head_width: whether heads may be of another width than their share.
    """

    activation: str
    biases: tuple[str, ...] = ()
    own_head: bool = True
    tied: bool = True
    head_width: bool = True


_ALWAYS = ("qkv_bias", "output_bias", "feedforward_bias")
GRAPHS = {
    "llama": _Graph("silu", biases=_ALWAYS),
    "gpt2": _Graph("gelu_tanh", biases=_ALWAYS, head_width=False),
    "gptneox": _Graph("gelu", biases=_ALWAYS, tied=False, head_width=False),
    "qwen2": _Graph("silu", biases=("qkv_bias",), head_width=False),
    "qwen3": _Graph("silu"),
    "gemma": _Graph("gelu_tanh", own_head=False),
    "gemma2": _Graph("gelu_tanh", own_head=False),
    "gemma3": _Graph("gelu_tanh"),
    "bert": _Graph("gelu", biases=_ALWAYS, head_width=False),
}

# What a text's vector is made of by llama.cpp where nobody says otherwise: the mean of its tokens'.
_MEAN = 1


def architecture_of(config: ModelConfig) -> str:
    """The name of llama.cpp's architecture for a model.

    Raises:
        ModelError: there is none, or it does not do all that the config asks for.
    """
    if config.head != "lm" and (config.family, config.head) != ("bert", "none"):
        hint = "write it with --to onnx, which keeps every head, or --to hf"
        message = "llama.cpp generates text, or embeds it with a BERT that has no head"
        raise ModelError(f"{message}; this is a {config.family} with the head '{config.head}'", where="head", hint=hint)
    if config.family not in OF_FAMILY:
        known = ", ".join(sorted(OF_FAMILY))
        message = f"llama.cpp has no architecture for the family '{config.family}'"
        raise ModelError(message, where="family", hint=f"write it with --to onnx or --to hf; it has: {known}")
    architecture = OF_FAMILY[config.family]
    for key, problem in _misfits(config, architecture):
        hint = "write it with --to onnx or --to hf"
        raise ModelError(f"llama.cpp's {architecture} {problem}", where=key, hint=hint)
    return architecture


def _misfits(config: ModelConfig, architecture: str) -> Iterator[tuple[str, str]]:
    """The keys whose values an architecture cannot do, each with why."""
    graph = GRAPHS[architecture]
    if config.activation != graph.activation:
        yield "activation", f"has the activation {graph.activation}, not {config.activation}"
    for key in _ALWAYS:
        if getattr(config, key) and key not in graph.biases:
            yield key, "has no such bias"
    if not config.tied_head and not graph.own_head:
        yield "tied_head", "has no head of its own, only the embedding"
    if not graph.head_width and config.heads * config.head_width != config.width:
        yield "head_width", "has heads that share its width exactly"
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "llama3" and architecture != "llama":
        yield "rope_scaling", "does not stretch rotary positions the way Llama 3.1 does"
    if scaling is not None and scaling.kind == "llama3" and LLAMA3.items() - scaling.model_dump().items():
        yield "rope_scaling", "stretches rotary positions by Llama 3.1's own limits only"
    if architecture == "gemma2" and config.attention_softcap is None:
        yield "attention_softcap", "always bends scores"
    if architecture == "gemma2" and config.logit_softcap is None:
        yield "logit_softcap", "always bends logits"
    scale = scores_scale(architecture, config.layers, config.width, config.heads, config.head_width)
    if (config.attention_scale or config.head_width**-0.5) != (scale or config.head_width**-0.5):
        yield "attention_scale", "scales scores by another number in a model of so many layers"


def context_of(config: ModelConfig, architecture: str) -> int:
    """How many positions the file promises.

    Of a family whose sliding windows llama.cpp does not have, as many as one window: so far both see the same.
    """
    if config.sliding_window is None or ARCHITECTURES[architecture].pattern:
        return config.max_positions
    return min(config.max_positions, config.sliding_window)


def metadata_of(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """The keys of an architecture, without what is the same in every file."""
    own: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": context_of(config, architecture),
        "embedding_length": config.width,
        "block_count": config.layers,
        "feed_forward_length": config.feedforward_width,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_width,
        "attention.value_length": config.head_width,
    }
    epsilon = "layer_norm_epsilon" if config.norm == "layernorm" else "layer_norm_rms_epsilon"
    own[f"attention.{epsilon}"] = float(config.norm_eps)
    if config.position == "rotary":
        own |= {"rope.dimension_count": config.turning_width, "rope.freq_base": float(config.rope_theta)}
    if architecture == "bert":
        own |= {"attention.causal": False, "pooling_type": _MEAN}
    if architecture == "gptneox":
        own["use_parallel_residual"] = config.parallel
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        own |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(config.rope_scaling.factor)}
    if config.attention_softcap is not None:
        own["attn_logit_softcapping"] = float(config.attention_softcap)
    if config.logit_softcap is not None:
        own["final_logit_softcapping"] = float(config.logit_softcap)
    if every := ARCHITECTURES[architecture].pattern:
        own |= _windows(config, architecture, every)
    return {f"{architecture}.{key}": value for key, value in own.items()}


def _windows(config: ModelConfig, architecture: str, every: int) -> dict[str, Any]:
    windowed = [config.window_of(layer) is not None for layer in range(config.layers)]
    if not any(windowed):
        # Gemma 2 always has windows, and one of the whole context hides nothing.
        return {"attention.sliding_window": config.max_positions} if architecture == "gemma2" else {}
    own: dict[str, Any] = {"attention.sliding_window": config.sliding_window}
    if windowed != [layer % every < every - 1 for layer in range(config.layers)]:
        own["attention.sliding_window_pattern"] = windowed
    if config.local_rope_theta is not None:
        own["rope.freq_base_swa"] = float(config.local_rope_theta)
    return own


def rotary_factors(config: ModelConfig) -> np.ndarray | None:
    """What each rotary frequency is divided by, where the config stretches them as Llama 3.1 does: [head_width / 2]."""
    if config.rope_scaling is None or config.rope_scaling.kind != "llama3":
        return None
    plain = rotary_frequencies(config.model_copy(update={"rope_scaling": None}))
    factors: np.ndarray = (plain / rotary_frequencies(config)).numpy().astype(np.float32)
    return factors
