"""Families: configs against the public classes, and the parameter count against the real one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import ConfigError, ModelError
from ownlm.model.config import ModelConfig
from ownlm.model.families import FAMILIES, config_from_hf, config_from_user
from ownlm.model.transformer import Transformer

SMALL = {
    "hidden_size": 256,
    "num_attention_heads": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "vocab_size": 99,
}


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_a_config_leaves_out_is_what_the_public_class_takes(family: str) -> None:
    silent = config_from_hf({"model_type": family, **SMALL}, where="config.json")
    full = transformers.AutoConfig.for_model(family, **SMALL).to_dict()
    assert silent == config_from_hf(full, where="config.json")


@pytest.mark.parametrize("family", FAMILIES)
def test_our_config_goes_through_the_public_class_and_back(family: str) -> None:
    values = {"family": family, "layers": 2, "width": 64, "heads": 4, "vocab_size": 50, "max_positions": 32}
    config = config_from_user(values)
    hf = transformers.AutoConfig.for_model(**FAMILIES[family].module.to_hf(config))
    assert config_from_hf(hf.to_dict(), where="config.json") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"model_type": "llama"}, "'hidden_size' is missing"),
        ({"model_type": "llama", **SMALL, "hidden_act": "gelu"}, "activation 'gelu'"),
        ({"model_type": "llama", **SMALL, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "scaling 'yarn'"),
        ({"model_type": "llama", **SMALL, "num_key_value_heads": 7}, "multiple of kv_heads"),
        ({"model_type": "qwen2", **SMALL, "use_sliding_window": True}, "sliding window"),
        (
            {
                "model_type": "gpt2",
                "n_embd": 8,
                "n_head": 2,
                "n_layer": 1,
                "vocab_size": 9,
                "scale_attn_weights": False,
            },
            "unscaled",
        ),
        ({}, "unknown model family"),
    ],
)
def test_what_we_do_not_have_is_refused_with_its_reason(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_from_hf(values, where="config.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "gtp2"}, "gpt2"),
        ({"heds": 4}, "heads"),
        ({"layers": "many"}, "whole number"),
        ({"width": 30}, "multiple of heads"),
    ],
)
def test_a_wrong_model_section_names_the_key(values: dict[str, Any], message: str) -> None:
    base = {"layers": 2, "width": 32, "heads": 4, "vocab_size": 50, "max_positions": 32}
    with pytest.raises(ConfigError) as caught:
        config_from_user(base | values)
    assert message in str(caught.value)
    assert str(caught.value.where).startswith("model.")


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    kv_heads, group, head_width = draw(st.integers(1, 3)), draw(st.integers(1, 3)), 2 * draw(st.integers(1, 4))
    flags = ("qkv_bias", "output_bias", "feedforward_bias", "gated", "qk_norm", "tied_head")
    return ModelConfig(
        family="llama",
        layers=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 20)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_width=head_width,
        feedforward_width=draw(st.integers(1, 30)),
        vocab_size=draw(st.integers(1, 40)),
        max_positions=draw(st.integers(1, 20)),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        norm_eps=1e-5,
        activation="silu",
        position=draw(st.sampled_from(["learned", "rotary"])),
        **{flag: draw(st.booleans()) for flag in flags},
    )


@settings(max_examples=100, deadline=None)
@given(config=configs())
def test_the_parameter_count_is_the_real_one(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = Transformer(config)
    assert config.parameters() == sum(parameter.numel() for parameter in model.parameters())
