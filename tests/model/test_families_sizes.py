"""Published sizes by name: parameters against the published ones, and what each paper says of its initial weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ownlm.errors import ModelError
from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder
from ownlm.model.config import ModelConfig
from ownlm.model.families import config_from_user

# Of the weights files of the published models, which their model cards give: every parameter once.
PUBLISHED = {
    "gpt2": {"small": 124_439_808, "medium": 354_823_168, "large": 774_030_080, "xl": 1_557_611_200},
    "gpt_neox": {
        "pythia-70m": 70_426_624,
        "pythia-160m": 162_322_944,
        "pythia-410m": 405_334_016,
        "pythia-1b": 1_011_781_632,
        "pythia-1.4b": 1_414_647_808,
        "pythia-2.8b": 2_775_208_960,
        "pythia-6.9b": 6_857_302_016,
        "pythia-12b": 11_846_072_320,
    },
    "llama": {
        "2-7b": 6_738_415_616,
        "2-13b": 13_015_864_320,
        "2-70b": 68_976_648_192,
        "3.1-8b": 8_030_261_248,
        "3.1-70b": 70_553_706_496,
        "3.1-405b": 405_853_388_800,
        "3.2-1b": 1_235_814_400,
        "3.2-3b": 3_212_749_824,
        "smollm2-135m": 134_515_008,
        "smollm2-360m": 361_821_120,
        "smollm2-1.7b": 1_711_376_384,
    },
    "mistral": {"7b": 7_241_732_096},
    "qwen2": {"0.5b": 494_032_768, "1.5b": 1_543_714_304, "7b": 7_615_616_512, "72b": 72_706_203_648},
    "qwen3": {
        "0.6b": 596_049_920,
        "1.7b": 1_720_574_976,
        "4b": 4_022_468_096,
        "8b": 8_190_735_360,
        "14b": 14_768_307_200,
        "32b": 32_762_123_264,
    },
    "gemma": {"2b": 2_506_172_416, "7b": 8_537_680_896},
    "gemma2": {"2b": 2_614_341_888, "9b": 9_241_705_984, "27b": 27_227_128_320},
    "gemma3_text": {"270m": 268_098_176, "1b": 999_885_952},
    # With the head for hidden tokens, without the pooler.
    "bert": {"base": 109_514_298, "large": 335_174_458},
    "roberta": {"base": 124_697_433},
    "distilbert": {"base": 66_985_530},
}

# Table 2.1 of Brown et al. 2020: name, parameters, layers, width, heads, head width.
TABLE = [
    ("125m", 125e6, 12, 768, 12, 64),
    ("350m", 350e6, 24, 1024, 16, 64),
    ("760m", 760e6, 24, 1536, 16, 96),
    ("1.3b", 1.3e9, 24, 2048, 24, 128),
    ("2.7b", 2.7e9, 32, 2560, 32, 80),
    ("6.7b", 6.7e9, 32, 4096, 32, 128),
    ("13b", 13.0e9, 40, 5140, 40, 128),
    ("175b", 175.0e9, 96, 12288, 96, 128),
]
# Where the printed numbers do not multiply out, what we take.
CORRECTED = {"1.3b": {"heads": 16}, "13b": {"width": 5120}}


@pytest.mark.parametrize(("family", "size"), [(family, size) for family in PUBLISHED for size in PUBLISHED[family]])
def test_a_size_has_the_published_parameters(family: str, size: str) -> None:
    assert config_from_user({"family": family, "size": size}).parameters() == PUBLISHED[family][size]


@pytest.mark.parametrize(("size", "parameters", "layers", "width", "heads", "head_width"), TABLE)
def test_gpt3_is_its_papers_table(
    size: str, parameters: float, layers: int, width: int, heads: int, head_width: int
) -> None:
    config = config_from_user({"family": "gpt3", "size": size})
    printed = {"layers": layers, "width": width, "heads": heads, "head_width": head_width}
    assert {key: getattr(config, key) for key in printed} == printed | CORRECTED.get(size, {})
    assert config.heads * config.head_width == config.width
    assert config.feedforward_width == 4 * config.width
    assert (config.max_positions, config.vocab_size) == (2048, 50257)
    assert config.parameters() == pytest.approx(parameters, rel=0.025)


def test_the_largest_gpt3_has_175_billion_parameters() -> None:
    config = config_from_user({"family": "gpt3", "size": "175B"})
    assert 174.6e9 <= config.parameters() <= 175e9
    # By hand: per layer 12 w^2 + 13 w, the embeddings of tokens and places, and the last norm.
    width = 12288
    assert config.parameters() == 96 * (12 * width**2 + 13 * width) + (50257 + 2048) * width + 2 * width


def test_a_size_gives_way_to_what_is_written() -> None:
    config = config_from_user({"family": "gpt2", "size": "small", "layers": 3, "vocab_size": 1000})
    assert (config.layers, config.width, config.vocab_size, config.max_positions) == (3, 768, 1000, 1024)


TINY = {"layers": 4, "width": 32, "heads": 4, "vocab_size": 97, "max_positions": 64}


def test_a_dense_gpt3_is_saved_as_a_gpt2(tmp_path: Path) -> None:
    config = config_from_user({"family": "gpt3", **TINY, "initializer_range": 0.2})
    model = random_model(config, seed=1)
    save_model_folder(model, tmp_path / "model")
    assert read_config(tmp_path / "model") == config
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert type(reference) is transformers.GPT2LMHeadModel
    text = list(range(40))
    with torch.no_grad():
        assert torch.allclose(model.logits([text])[0], reference(torch.tensor([text])).logits[0], atol=1e-4)


def test_a_banded_gpt3_is_a_gpt_neo_with_other_queries(tmp_path: Path) -> None:
    # GPT-Neo's public class has the bands: without biases on query, key and value, and with queries that are scaled
    # beforehand, the two are one.
    banded = config_from_user({"family": "gpt3", **TINY, "initializer_range": 0.2, "sliding_window": 6})
    assert banded.windowed_layers == (1, 3)
    ours = random_model(banded, seed=1)
    neo = config_from_user({"family": "gpt_neo", **TINY, "sliding_window": 6})
    other = random_model(neo, seed=2)
    state = ours.state_dict()
    for name in [name for name in state if name.endswith("qkv.bias")]:
        del state[name]
    for name in [name for name in state if name.endswith("qkv.weight")]:
        state[name] = state[name].clone()
        state[name][: banded.width] *= banded.head_width**-0.5
    other.load_state_dict(state)
    save_model_folder(other, tmp_path / "neo")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "neo").eval()
    text = list(range(40))
    with torch.no_grad():
        expected = reference(torch.tensor([text])).logits[0]
    assert torch.allclose(ours.logits([text])[0], expected, atol=1e-4)
    # As a GPT-2, which it would be read as without a name of its own, it gives something else.
    dense = random_model(config_from_user({"family": "gpt3", **TINY, "initializer_range": 0.2}), seed=1)
    assert not torch.allclose(dense.logits([text])[0], expected, atol=1e-2)


def test_a_banded_gpt3_keeps_its_bands_in_a_folder_that_others_refuse(tmp_path: Path) -> None:
    model = random_model(config_from_user({"family": "gpt3", **TINY, "windowed_layers": [0, 2]}), seed=1)
    assert model.config.sliding_window == 256
    save_model_folder(model, tmp_path / "model")
    again = load_model_folder(tmp_path / "model")
    assert again.config == model.config
    text = list(range(40))
    assert torch.equal(again.logits([text])[0], model.logits([text])[0])
    with pytest.raises(ValueError, match="gpt3"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")


def test_a_banded_gpt3_is_refused_where_its_layers_are_unknown(tmp_path: Path) -> None:
    save_model_folder(random_model(config_from_user({"family": "gpt3", **TINY}), seed=1), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"gpt2"', '"gpt3", "layer_types": ["strided_attention"]'))
    with pytest.raises(ModelError, match="strided_attention"):
        read_config(tmp_path / "model")


def spread(config: ModelConfig, name: str) -> float:
    return float(dict(random_model(config, seed=0).named_parameters())[name].detach().std())


@pytest.mark.parametrize(
    ("family", "plain", "residual"),
    [
        ("gpt2", 0.02, 0.02 / math.sqrt(8)),
        ("gpt3", 0.02, 0.02 / math.sqrt(8)),
        ("bert", 0.02, 0.02),
        ("roberta", 0.02, 0.02),
        ("distilbert", 0.02, 0.02),
        ("gpt_neox", math.sqrt(2 / (5 * 128)), 2 / (4 * math.sqrt(128))),
    ],
)
def test_initial_weights_follow_the_paper(family: str, plain: float, residual: float) -> None:
    config = config_from_user({"family": family, **TINY, "width": 128, "vocab_size": 500})
    assert spread(config, "embedding.token.weight") == pytest.approx(plain, rel=0.03)
    assert spread(config, "layers.1.attention.qkv.weight") == pytest.approx(plain, rel=0.03)
    assert spread(config, "layers.1.attention.output.weight") == pytest.approx(residual, rel=0.03)
    assert spread(config, "layers.1.feedforward.down.weight") == pytest.approx(residual, rel=0.03)


HAND: list[tuple[dict[str, Any], int, float]] = [
    # 6 x (12 layers of 12 w^2, and the head), and 12 x w x half the length in every layer.
    ({"family": "gpt2", "size": "small"}, 1024, 6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 12 * 768 * 512),
    # An encoder sees the whole document.
    ({"family": "bert", "size": "base"}, 512, 6 * (12 * 12 * 768**2 + 30522 * 768) + 12 * 12 * 768 * 512),
    # Of every second layer's attention a band is left, the beginning of the document less.
    (
        {"family": "gpt3", "size": "125m", "sliding_window": 256},
        2048,
        6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 768 * 6 * (1024 + (256 - 256**2 / 4096)),
    ),
    # Grouped keys and values, and a gate: w (2 q + 2 kv) + 3 w f.
    (
        {"family": "llama", "size": "3.2-1b"},
        2048,
        6 * (16 * (2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192) + 128256 * 2048) + 16 * 12 * 2048 * 1024,
    ),
]


@pytest.mark.parametrize(("values", "length", "expected"), HAND)
def test_the_count_of_operations_is_a_hand_count(values: dict[str, Any], length: int, expected: float) -> None:
    assert config_from_user(values).flops_per_token(length) == pytest.approx(expected, rel=1e-3)
