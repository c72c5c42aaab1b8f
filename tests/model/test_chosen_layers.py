"""A model made of some layers of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ownlm.errors import ConfigError
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.chosen_layers import take_layers
from ownlm.model.families import config_from_user

LLAMA = {"family": "llama", "layers": 4, "width": 32, "heads": 4, "kv_heads": 2, "vocab_size": 90, "max_positions": 40}
GPT2 = {"family": "gpt2", "layers": 4, "width": 32, "heads": 4, "vocab_size": 90, "max_positions": 40}
TOKENS = [[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5]]


def test_it_is_what_the_public_model_is_with_these_layers(tmp_path: Path) -> None:
    model = random_model(config_from_user(LLAMA), 3)
    save_model_folder(model, tmp_path / "whole")
    public = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    public.model.layers = torch.nn.ModuleList(public.model.layers[i] for i in (0, 3, 1))
    for place, layer in enumerate(public.model.layers):
        layer.self_attn.layer_idx = place
    public.config.num_hidden_layers = 3
    smaller = take_layers(model, [0, 3, 1])
    save_model_folder(smaller, tmp_path / "smaller")
    for found in (smaller, load_model_folder(tmp_path / "smaller")):
        for ids, logits in zip(TOKENS, found.logits(TOKENS), strict=True):
            with torch.no_grad():
                torch.testing.assert_close(logits, public(torch.tensor([ids])).logits[0], rtol=1e-4, atol=1e-4)


def test_it_shares_nothing_and_keeps_dtypes() -> None:
    model = random_model(config_from_user(GPT2), 3).to(torch.bfloat16)
    smaller = take_layers(model, [2])
    before = [parameter.clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in smaller.parameters():
            assert parameter.dtype == torch.bfloat16
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert smaller.config.parameters() == sum(p.numel() for p in smaller.parameters())
    assert [block.attention.layer for block in smaller.layers] == [0]  # type: ignore[union-attr]


def test_windows_go_with_their_layers() -> None:
    config = config_from_user(LLAMA).model_copy(update={"sliding_window": 3, "windowed_layers": (0, 2)})
    model = random_model(config, 3)
    smaller = take_layers(model, [1, 2, 3, 0])
    assert smaller.config.windowed_layers == (1, 3)
    whole = take_layers(model, range(4))
    for a, b in zip(whole.logits(TOKENS), model.logits(TOKENS), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("layers", [[0], [1], [0, 2], [3, 1], [2, 3, 0]])
@pytest.mark.parametrize(
    "values",
    [
        {"family": "qwen2", "sliding_window": 3, "windowed_layers": [2, 3]},
        {"family": "qwen3", "sliding_window": 3, "windowed_layers": [0, 2]},
        {"family": "gemma2", "sliding_window": 3},
        {"family": "gemma3_text", "sliding_window": 3, "windowed_layers": [0, 2]},
        {"family": "gpt_neo", "sliding_window": 3},
        {"family": "mistral", "sliding_window": 3},
        {"family": "gpt3", "sliding_window": 3},
    ],
    ids=lambda values: values["family"],
)
def test_some_layers_of_a_model_with_windows_are_saved_and_read(
    values: dict[str, Any], layers: list[int], tmp_path: Path
) -> None:
    model = random_model(config_from_user({**GPT2, **values}), 3)
    smaller = take_layers(model, layers)
    save_model_folder(smaller, tmp_path / "smaller")
    again = load_model_folder(tmp_path / "smaller")
    assert again.config == smaller.config
    assert [again.config.window_of(n) for n in range(len(layers))] == [model.config.window_of(n) for n in layers]
    public = again.config.family != "gpt3" or again.config.sliding_window is None
    if public:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "smaller", dtype=torch.float32).eval()
    for ids, expected, found in zip(TOKENS, smaller.logits(TOKENS), again.logits(TOKENS), strict=True):
        assert torch.equal(expected, found)
        if public:
            with torch.no_grad():
                torch.testing.assert_close(found, theirs(torch.tensor([ids])).logits[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "message"), [([], "no layer is named"), ([0, 4], "no layer 4"), ([-1], "no layer -1")]
)
def test_layers_that_are_not_there(layers: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        take_layers(random_model(config_from_user(LLAMA), 3), layers)
