"""Model folders: strangers' spellings, shards, dtypes, damage, and every wrong tensor named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from torch import Tensor

from ownlm.errors import DamagedError, ModelError
from ownlm.files import verify_folder
from ownlm.model.checkpoint import (
    load_model_folder,
    random_model,
    read_config,
    save_model_folder,
    state_from_hf,
    state_to_hf,
)
from ownlm.model.families import FAMILIES, config_from_user
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

SHAPE = {"layers": 2, "width": 16, "heads": 4, "vocab_size": 40, "max_positions": 32}
TEXTS = [[1, 2, 3, 4], [5], [39, 0, 7]]


def model_of(family: str, **values: Any) -> Transformer:
    return random_model(config_from_user({"family": family, **SHAPE, **values}), seed=1)


def same_logits(first: Transformer, second: Transformer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.logits(TEXTS), second.logits(TEXTS), strict=True))


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Puts other weights into a folder, as a program that knows nothing of our checksums does."""
    (folder / "checksums.json").unlink(missing_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model_folder(model_of("llama", kv_heads=2, tied_head=False), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    save_model_folder(model_of("gpt2"), tmp_path / "gpt2")
    return tmp_path / "gpt2"


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_go_to_the_checkpoints_layout_and_back(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    stored = state_to_hf(model.state_dict(), model.config)
    hf = transformers.AutoConfig.for_model(**FAMILIES[family].module.to_hf(model.config))
    reference = getattr(transformers, FAMILIES[family].architectures[model.config.head])(hf)
    # What it writes, which is not always what it calls its own.
    reference.save_pretrained(tmp_path)
    expected = {name: tensor.shape for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    assert {name: tensor.shape for name, tensor in stored.items()} == expected
    back = state_from_hf(stored, model.config)
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = model_of("llama")
    torch.manual_seed(2)
    assert same_logits(first, model_of("llama"))
    other = random_model(first.config, seed=2)
    assert not same_logits(first, other)
    wide = random_model(config_from_user({**SHAPE, "width": 64, "vocab_size": 4000}), seed=0).state_dict()
    assert float(wide["embedding.token.weight"].std()) == pytest.approx(0.02, rel=0.02)
    scale = 0.02 / math.sqrt(2 * SHAPE["layers"])
    assert float(wide["layers.0.feedforward.down.weight"].std()) == pytest.approx(scale, rel=0.05)
    assert bool((wide["final_norm.weight"] == 1).all())


def test_names_without_the_prefix_and_old_buffers_are_read(gpt2: Path) -> None:
    expected = load_model_folder(gpt2)
    bare = {name.removeprefix("transformer."): t for name, t in load_file(gpt2 / "model.safetensors").items()}
    for layer in range(SHAPE["layers"]):
        bare[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8)
        bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    rewrite(gpt2, bare)
    assert same_logits(load_model_folder(gpt2), expected)


def test_a_tied_head_may_be_stored(gpt2: Path) -> None:
    expected = load_model_folder(gpt2)
    tensors = load_file(gpt2 / "model.safetensors")
    rewrite(gpt2, tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()})
    loaded = load_model_folder(gpt2)
    assert loaded.config.tied_head
    assert same_logits(loaded, expected)


def test_a_stored_head_that_differs_is_used_as_the_public_loader_does(gpt2: Path) -> None:
    tensors = load_file(gpt2 / "model.safetensors")
    head = torch.randn(tensors["transformer.wte.weight"].shape, generator=torch.Generator().manual_seed(0))
    rewrite(gpt2, tensors | {"lm_head.weight": head})
    loaded = load_model_folder(gpt2)
    assert not loaded.config.tied_head
    reference = transformers.AutoModelForCausalLM.from_pretrained(gpt2).eval()
    with torch.no_grad():
        expected = reference(torch.tensor([TEXTS[0]])).logits[0]
    assert torch.allclose(loaded.logits(TEXTS)[0], expected, atol=1e-4)


def test_shards_of_ours_are_read_by_the_reference_and_by_us(folder: Path, tmp_path: Path) -> None:
    model = load_model_folder(folder)
    save_model_folder(model, tmp_path / "sharded", shard_bytes=5000)
    shards = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(shards) > 2
    assert all(sum(t.nbytes for t in load_file(shard).values()) <= 5000 for shard in shards)
    assert same_logits(load_model_folder(tmp_path / "sharded"), model)
    _, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "sharded", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_shards_of_the_reference_are_read(folder: Path, tmp_path: Path) -> None:
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder)
    reference.save_pretrained(tmp_path / "sharded", max_shard_size="5KB")
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    assert same_logits(load_model_folder(tmp_path / "sharded"), load_model_folder(folder))


def test_a_missing_shard_is_named(folder: Path, tmp_path: Path) -> None:
    save_model_folder(load_model_folder(folder), tmp_path / "sharded", shard_bytes=5000)
    lost = sorted((tmp_path / "sharded").glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match="missing") as caught:
        load_model_folder(tmp_path / "sharded")
    assert caught.value.where == str(lost)


def test_an_index_cannot_reach_outside_its_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "else" / "weights.safetensors")
    index = {"weight_map": {"lm_head.weight": "../else/weights.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="missing"):
        load_model_folder(folder)


def test_dtypes(folder: Path, tmp_path: Path) -> None:
    model = load_model_folder(folder)
    save_model_folder(model, tmp_path / "half", dtype=torch.bfloat16)
    assert {p.dtype for p in load_model_folder(tmp_path / "half").parameters()} == {torch.bfloat16}
    assert {p.dtype for p in load_model_folder(tmp_path / "half", dtype=torch.float32).parameters()} == {torch.float32}
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16


def test_the_folder_is_checksummed_and_keeps_its_lineage(tmp_path: Path) -> None:
    save_model_folder(model_of("qwen3"), tmp_path / "model", lineage={"parents": ["a"]})
    verify_folder(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "ownlm.json").read_text())["lineage"] == {"parents": ["a"]}


def test_loading_leaves_no_hold_on_the_file(folder: Path) -> None:
    model = load_model_folder(folder)
    before = model.logits(TEXTS)
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(bytes(4096))
    assert all(torch.equal(a, b) for a, b in zip(before, model.logits(TEXTS), strict=True))


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"], tensors["model.norm.weight"]


def add(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(16)


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.self_attn.k_proj.weight"] = torch.zeros(16, 16)


def integers(tensors: dict[str, Tensor]) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.int8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop, ["model.layers.1.mlp.up_proj.weight", "missing", "1 more"]),
        (add, ["model.layers.0.self_attn.q_proj.bias", "[16]", "no place", "model.safetensors"]),
        (reshape, ["model.layers.0.self_attn.k_proj.weight", "[16, 16]", "[8, 16]", "model.safetensors"]),
        (integers, ["model.layers.0.mlp.down_proj.weight", "int8", "model.safetensors"]),
    ],
)
def test_every_wrong_tensor_is_named(folder: Path, change: Any, said: list[str]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    rewrite(folder, tensors)
    with pytest.raises(ModelError) as caught:
        load_model_folder(folder)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_a_tied_head_of_another_shape_is_named(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"tie_word_embeddings": True}))
    rewrite(folder, load_file(folder / "model.safetensors") | {"lm_head.weight": torch.zeros(7, 16)})
    with pytest.raises(ModelError, match=r"'lm_head.weight' has the shape \[7, 16\]"):
        load_model_folder(folder)


def test_more_layers_than_tensors_are_refused_before_they_are_built(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 900_000}))
    with pytest.raises(ModelError, match="900000 layers"):
        load_model_folder(folder)


@pytest.mark.parametrize("name", ["x" * 5000, "..", "", None])
def test_an_index_of_impossible_names_is_refused(folder: Path, name: str | None) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(ModelError, match="missing"):
        load_model_folder(folder)


@pytest.mark.parametrize("content", ['["model.safetensors"]', '"model.safetensors"', "[" * 100_000, "{"])
def test_checksums_that_are_none_are_damage(folder: Path, content: str) -> None:
    (folder / "checksums.json").write_text(content)
    with pytest.raises(DamagedError) as caught:
        load_model_folder(folder)
    assert caught.value.where == str(folder / "checksums.json")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_named(folder: Path, share: float) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    try:
        (folder / "model.safetensors").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DamagedError) as caught:
            load_model_folder(folder, verify=False)
        assert caught.value.where == str(folder / "model.safetensors")
    finally:
        (folder / "model.safetensors").write_bytes(whole)


def test_one_flipped_bit_is_noticed(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 4
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(DamagedError, match="checksum"):
        load_model_folder(folder)


def test_a_config_changed_by_hand_is_no_damage(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"rope_theta": 5e5}))
    assert load_model_folder(folder).config.rope_theta == 5e5


def test_pickles_are_refused_with_a_hint(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*safetensors"):
        load_model_folder(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no such folder"),
        ({}, "no config.json"),
        ({"adapter_config.json": "{}"}, "adapter"),
        ({"config.json": "[]"}, "JSON object"),
        ({"config.json": json.dumps({"model_type": "llama", "quantization_config": {"bits": 4}})}, "quantized"),
        ({"config.json": '{"model_type": "bloom"}'}, "unknown model family"),
    ],
)
def test_what_is_no_model_folder_says_why(tmp_path: Path, files: dict[str, str] | None, message: str) -> None:
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        read_config(folder)


def test_no_weights_at_all(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        load_model_folder(folder)


def words(count: int) -> Tokenizer:
    """A tokenizer of ``count`` words, the first three of them special."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {word: id for id, word in enumerate([*special, *(f"w{i}" for i in range(count - 3))])}
    backend = Backend(models.WordLevel(vocabulary, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(special)
    turn = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }} <|im_end|>{% endfor %}"
    return Tokenizer.from_parts(backend, bos="<|endoftext|>", eos="<|endoftext|>", pad=None, chat_template=turn)


def test_the_tokenizer_goes_with_the_model(tmp_path: Path) -> None:
    save_model_folder(model_of("gpt2"), tmp_path / "model", tokenizer=words(40))
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert read("w1 w5 <|im_end|>", add_special_tokens=False)["input_ids"] == [4, 8, 2]
    assert read.eos_token_id == 0
    config = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 0, None)
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "model")
    assert generation.eos_token_id == [0, 2]


def test_a_tokenizer_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="41"):
        save_model_folder(model_of("gpt2"), tmp_path / "model", tokenizer=words(41))
    assert not list(tmp_path.iterdir())
