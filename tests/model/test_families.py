"""Families: configs against the public classes, and the parameter count against the real one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import ConfigError, ModelError
from ownlm.model.config import ModelConfig
from ownlm.model.families import FAMILIES, config_from_hf, config_from_user, config_to_hf
from ownlm.model.transformer import Transformer

SMALL = {
    "hidden_size": 256,
    "num_attention_heads": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "vocab_size": 99,
}
SILENT = {
    "gpt2": {"n_embd": 256, "n_head": 32, "n_layer": 2, "vocab_size": 99},
    "gpt_neo": {"hidden_size": 256, "num_heads": 32, "num_layers": 24, "vocab_size": 99},
    "distilbert": {"vocab_size": 99},
    "marian": {
        **{
            f"{side}_{part}": value
            for side in ("encoder", "decoder")
            for part, value in {"layers": 2, "attention_heads": 32, "ffn_dim": 64}.items()
        },
        "decoder_start_token_id": 7,
        "d_model": 256,
        "vocab_size": 99,
    },
    "gemma3_text": {**SMALL, "num_hidden_layers": 13},
}
# Saved as a GPT-2, or as nothing that the public library reads.
PUBLIC = [family for family in FAMILIES if family != "gpt3"]


def shape(family: str, **changes: Any) -> dict[str, Any]:
    """A model section of a tiny model."""
    return {"family": family, "layers": 4, "width": 64, "heads": 4, "vocab_size": 50, "max_positions": 32, **changes}


def counted(config: ModelConfig) -> int:
    """The parameters of the network itself, which takes no memory here."""
    with torch.device("meta"):
        model = Transformer(config)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", PUBLIC)
def test_what_a_config_leaves_out_is_what_the_public_class_takes(family: str) -> None:
    values = SILENT.get(family, SMALL)
    silent = config_from_hf({"model_type": family, **values}, where="config.json")
    full = transformers.AutoConfig.for_model(family, **values).to_dict()
    # The classes of one stack give their config no head.
    assert silent == config_from_hf({**full, "architectures": None}, where="config.json")


def test_gemma3_is_read_by_its_old_keys_too() -> None:
    old = {**SMALL, "model_type": "gemma3_text", "sliding_window_pattern": 2, "sliding_window": 9}
    old |= {"rope_theta": 5e5, "rope_local_base_freq": 5e3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    new = transformers.AutoConfig.for_model(**old).to_dict()
    config = config_from_hf(old, where="config.json")
    assert config == config_from_hf(new, where="config.json")
    assert config.windowed_layers == (0,)
    assert (config.rope_theta, config.local_rope_theta) == (5e5, 5e3)
    assert config.rope_scaling is not None


@pytest.mark.parametrize(
    "family", [family for family in PUBLIC if config_from_user(shape(family)).position == "rotary"]
)
@pytest.mark.parametrize(
    "rope",
    [
        {"rope_parameters": {"rope_theta": 7e3}, "rope_scaling": {"rope_type": "default", "rope_theta": 9e3}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": {"rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 7e3}, "rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 9e3},
    ],
)
def test_old_and_new_rotary_keys_together_mean_what_the_public_class_takes(
    family: str, rope: dict[str, dict[str, Any]]
) -> None:
    values = {**SILENT.get(family, SMALL), "model_type": family}
    if family == "gemma3_text":
        rope = {**rope, "rope_parameters": {"full_attention": rope["rope_parameters"], "sliding_attention": None}}
    public = transformers.AutoConfig.for_model(**copy.deepcopy({**values, **rope})).to_dict() | {"architectures": None}
    try:
        expected = config_from_hf(public, where="config.json")
    except ModelError as error:
        with pytest.raises(ModelError, match=error.message):
            config_from_hf({**values, **rope}, where="config.json")
    else:
        assert config_from_hf({**values, **rope}, where="config.json") == expected


def test_every_share_of_a_head_that_turns_is_kept() -> None:
    for head_width in range(2, 100):
        for turning in range(2, head_width, 2):
            values = shape("gpt_neox", heads=1, width=head_width, rotary_width=turning)
            assert int(head_width * config_to_hf(config_from_user(values))["rotary_pct"]) == turning


def test_a_wrong_number_without_a_key_of_its_own_names_the_file() -> None:
    with pytest.raises(ModelError) as caught:
        config_from_hf({"model_type": "gpt_neox", **SMALL, "rotary_pct": 0.4}, where="config.json")
    assert caught.value.where == "config.json"
    assert "rotary_width (3) must be even" in caught.value.message


@pytest.mark.parametrize("family", FAMILIES)
def test_our_config_goes_through_the_public_class_and_back(family: str) -> None:
    config = config_from_user(shape(family))
    hf = transformers.AutoConfig.for_model(**config_to_hf(config))
    assert config_from_hf(hf.to_dict(), where="config.json") == config


@pytest.mark.parametrize(
    "values",
    [
        shape("gpt_neox", parallel=False, rotary_width=8, tied_head=True),
        shape("gpt_neox", qkv_bias=False, output_bias=False),
        shape("gpt_neo", sliding_window=None),
        shape("gpt_neo", sliding_window=8, windowed_layers=[0, 3]),
        shape("qwen2", sliding_window=8, windowed_layers=[2, 3]),
        shape("qwen2", sliding_window=8, windowed_layers=[0, 2], head_width=32),
        shape("qwen3", sliding_window=8),
        shape("gemma2", attention_scale=144**-0.5, attention_softcap=None, sliding_window=None, head_width=32),
        shape("gemma3_text", sliding_window=8, windowed_layers=[0, 1, 2], local_rope_theta=500.0, logit_softcap=30.0),
        shape("gemma3_text", rope_scaling={"kind": "linear", "factor": 8.0}),
        shape("bert", norm_eps=1e-5, activation="relu", segments=3, initializer_range=0.1, next_sentence=True),
        shape("roberta", head="span", position_offset=4),
        shape("distilbert", head="classify", labels=["no", "yes", "maybe"], problem="multi", tied_head=False),
        shape("gpt2", head="classify", labels=["stars"], problem="regression", feedforward_width=80),
    ],
)
def test_unusual_shapes_go_through_the_public_class_and_back(values: dict[str, Any]) -> None:
    config = config_from_user(values)
    hf = transformers.AutoConfig.for_model(**config_to_hf(config))
    assert config_from_hf(hf.to_dict(), where="config.json") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"model_type": "llama"}, "'hidden_size' is missing"),
        ({"model_type": "llama", **SMALL, "hidden_act": "gelu"}, "activation 'gelu'"),
        ({"model_type": "llama", **SMALL, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "scaling 'yarn'"),
        ({"model_type": "llama", **SMALL, "num_key_value_heads": 7}, "multiple of kv_heads"),
        ({"model_type": "llama", **SMALL, "num_key_value_heads": 0}, "kv_heads must be at least 1"),
        ({"model_type": "llama", **SMALL, "head_dim": 0}, "head_width must be at least 1"),
        ({"model_type": "qwen2", **SMALL, "use_sliding_window": True, "layer_types": ["linear"]}, "kind 'linear'"),
        ({"model_type": "bert", **SMALL, "is_decoder": True}, "made into a decoder"),
        ({"model_type": "bert", **SMALL, "position_embedding_type": "relative_key"}, "kind 'relative_key'"),
        ({"model_type": "bert", **SMALL, "num_attention_heads": 0}, "zero"),
        ({"model_type": "bert", **SMALL, "type_vocab_size": 0}, "without segments"),
        ({"model_type": "roberta", **SMALL, "pad_token_id": -5}, "position_offset must be at least 0"),
        ({"model_type": "llama", **SMALL, "partial_rotary_factor": 0.5}, "a part of each head"),
        (
            {"model_type": "llama", **SMALL, "rope_parameters": {"full_attention": {"rope_theta": 5e3}}},
            "full_attention",
        ),
        (
            {"model_type": "gemma3_text", **SMALL, "rope_parameters": {"rope_type": "linear", "factor": 8.0}},
            "rope_type",
        ),
        ({"model_type": "llama", **SMALL, "rope_scaling": {"type": "linear", "factor": 0.0}}, "factor must be above 0"),
        (
            {
                "model_type": "llama",
                **SMALL,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 4.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 16,
                },
            },
            "low_frequency_factor must be below",
        ),
        ({"model_type": "llama", **SMALL, "rope_theta": 0}, "rope_theta must be above 0"),
        ({"model_type": "llama", **SMALL, "rope_theta": float("nan")}, "rope_theta must be above 0"),
        ({"model_type": "llama", **SMALL, "rms_norm_eps": -1e-5}, "norm_eps must be at least 0"),
        ({"model_type": "llama", **SMALL, "rms_norm_eps": float("nan")}, "norm_eps must be at least 0"),
        ({"model_type": "llama", **SMALL, "head_dim": 10**18}, "head_width must be at most"),
        ({"model_type": "mistral", **SMALL, "sliding_window": 0}, "sliding_window must be at least 1"),
        ({"model_type": "gemma2", **SMALL, "final_logit_softcapping": 0.0}, "logit_softcap must be above 0"),
        ({"model_type": "gemma2", **SMALL, "query_pre_attn_scalar": 224.5}, "query_pre_attn_scalar"),
        ({"model_type": "gpt_neox", **SMALL, "rotary_pct": -0.5}, "rotary_width"),
        (
            {"model_type": "qwen2", **SMALL, "use_sliding_window": True, "layer_types": ["sliding_attention"]},
            "2 layers",
        ),
        ({"model_type": "qwen2", **SMALL, "layer_types": ["chunked_attention"] * 2}, "kind 'chunked_attention'"),
        ({"model_type": "gpt_neo", **SILENT["gpt_neo"], "attention_types": [[["local"], 10**12]]}, "24 layers"),
        (
            {"model_type": "qwen2", **SMALL, "num_hidden_layers": 10**12, "use_sliding_window": True},
            "num_hidden_layers",
        ),
        ({"model_type": "bert", **SMALL, "num_labels": 10**12}, "num_labels"),
        ({"model_type": "roberta", **SMALL, "hidden_act": "relu"}, "activation 'relu'"),
        ({"model_type": "gpt_neox", **SMALL, "rope_scaling": {"type": "linear", "factor": 2.0}}, "scaling 'linear'"),
        ({"model_type": "gemma2", **SMALL, "hidden_activation": "gelu"}, "activation 'gelu'"),
        ({"model_type": "gemma", **SMALL, "use_bidirectional_attention": True}, "looks both ways"),
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
    ("values", "where", "message"),
    [
        ({"family": "gtp2"}, "family", "gpt2"),
        ({"heds": 4}, "heds", "heads"),
        ({"layers": "many"}, "layers", "whole number"),
        ({"heads": 0}, "heads", "at least 1"),
        ({"head_width": "wide"}, "head_width", "whole number"),
        ({"width": 30}, "heads", "multiple of heads"),
        ({"family": "gpt3", "size": "176b"}, "size", "175b"),
        ({"family": "gpt2", "norm": "rmsnorm"}, "norm", "a gpt2 model cannot have 'rmsnorm'"),
        ({"family": "gpt2", "kv_heads": 2}, "kv_heads", "cannot have 2"),
        ({"family": "gpt2", "sliding_window": 8}, "sliding_window", "cannot have 8"),
        ({"family": "llama", "sliding_window": 8}, "sliding_window", "another family"),
        ({"family": "mistral", "sliding_window": 8, "windowed_layers": [1]}, "windowed_layers", "cannot have (1,)"),
        ({"family": "qwen2", "sliding_window": 8, "windowed_layers": []}, "sliding_window", "cannot have 8"),
        ({"family": "bert", "causal": True, "head": "lm"}, "head", "no head 'lm'"),
        ({"family": "bert", "causal": True, "head": "span"}, "causal", "cannot have True"),
        ({"family": "roberta", "next_sentence": True}, "next_sentence", "cannot have True"),
        ({"family": "roberta", "activation": "silu"}, "", "activation 'silu'"),
    ],
)
def test_a_wrong_model_section_names_the_key(values: dict[str, Any], where: str, message: str) -> None:
    base = {"layers": 2, "width": 32, "heads": 4, "vocab_size": 50, "max_positions": 32}
    with pytest.raises(ConfigError) as caught:
        config_from_user(base | values)
    assert message in str(caught.value)
    assert caught.value.where == f"model.{where}".rstrip(".")


def test_a_missing_number_may_come_from_a_size() -> None:
    with pytest.raises(ConfigError, match="or give a published size: small, medium"):
        config_from_user({"family": "gpt2"})


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
    assert config.parameters() == counted(config)


HEADS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tied_head": False},
    "classify": {"head": "classify", "labels": ("a", "b", "c")},
    "span": {"head": "span"},
    "none": {"head": "none"},
}


# An encoder with a decoder has one head only.
HEADED = [(family, head) for family in FAMILIES for head in HEADS if family != "marian" or head == "tied"]


@pytest.mark.parametrize(("family", "head"), HEADED)
def test_the_parameter_count_is_the_real_one_for_every_family_and_head(family: str, head: str) -> None:
    config = config_from_user(shape(family, **HEADS[head]))
    assert config.parameters() == counted(config)
    if FAMILIES[family].next_sentence and config.head == "masked":
        pair = config.model_copy(update={"next_sentence": True})
        assert pair.parameters() == counted(pair)


@pytest.mark.parametrize(("family", "size"), [(name, size) for name in FAMILIES for size in FAMILIES[name].sizes])
def test_the_parameter_count_is_the_real_one_for_every_size(family: str, size: str) -> None:
    config = config_from_user({"family": family, "size": size})
    assert config.parameters() == counted(config)
