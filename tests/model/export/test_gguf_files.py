"""GGUF files: quantization, what may stand in their place, adapters, and what is left when writing fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from ownlm.errors import ModelError, OwnlmError, UserError
from ownlm.model.adapters import LoraConfig, adapter_layers, attach, merge, peft_state
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder, save_tensors
from ownlm.model.export import export_hf, export_model
from ownlm.model.export import gguf as exporting
from ownlm.model.export.check import PROBE
from ownlm.model.export.gguf import export_gguf
from ownlm.model.families import config_from_user
from ownlm.model.gguf import read_gguf
from ownlm.model.registry import find_model
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

Trained = Callable[[dict[str, Any]], Path]
LLAMA = {"family": "llama", "kv_heads": 2}
KINDS = {
    "f32": Kind.F32,
    "bf16": Kind.BF16,
    "f16": Kind.F16,
    "q8_0": Kind.Q8_0,
    "q5_1": Kind.Q5_1,
    "q5_0": Kind.Q5_0,
    "q4_1": Kind.Q4_1,
    "q4_0": Kind.Q4_0,
}


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("name", KINDS)
def test_each_quantization_holds_the_rounded_weights(name: str, trained: Trained, tmp_path: Path) -> None:
    folder = trained({**LLAMA, "tied_head": False})
    result = export_gguf(folder, tmp_path / "model.gguf", name.upper())
    kind = KINDS[name]
    stored, model = tensors(tmp_path / "model.gguf"), load_model_folder(folder)
    for tensor in stored.values():
        few = kind in (Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1)
        ends = tensor.name in ("token_embd.weight", "output.weight")
        expected = Kind.F32 if tensor.name.endswith("norm.weight") else Kind.Q8_0 if ends and few else kind
        assert tensor.tensor_type == expected, tensor.name
    # One matrix by hand: gate and up are one of ours.
    up = model.layers[0].feedforward.up.weight.detach()
    rounded = gguf.dequantize(gguf.quantize(up.numpy(), kind), kind) if kind != Kind.F32 else up.numpy()
    _, state, tokenizer = read_gguf(tmp_path / "model.gguf")
    assert np.array_equal(state["layers.0.feedforward.up.weight"].float().numpy(), rounded)
    # The told difference is that of a model with these weights.
    changed = random_model(model.config, 0)
    changed.load_state_dict({key: values.float() for key, values in state.items()})
    ids = (tokenizer.encode(PROBE) * 3)[:128]
    difference = (changed.eval().logits([ids])[0] - model.logits([ids])[0]).abs().max().item()
    assert result["max_difference"] == pytest.approx(difference, rel=1e-3, abs=1e-6)
    assert (result["max_difference"] > 0) is (name != "f32")
    assert 0 <= result["divergence"] < 0.1
    assert 0.8 < result["same_choice"] <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_as_it_is(dtype: torch.dtype, trained: Trained, tmp_path: Path) -> None:
    source = trained(LLAMA)
    model, tokenizer = load_model_folder(source), load_tokenizer(source)
    save_model_folder(model, tmp_path / "half", tokenizer=tokenizer, dtype=dtype)
    assert export_gguf(tmp_path / "half", tmp_path / "model.gguf")["max_difference"] == 0
    kinds = {tensor.tensor_type for tensor in tensors(tmp_path / "model.gguf").values()}
    assert kinds == {Kind.F32, Kind.BF16 if dtype == torch.bfloat16 else Kind.F16}


def test_rows_that_are_no_whole_blocks_are_kept_in_16_bits(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shape = {"family": "llama", "layers": 1, "width": 48, "heads": 2, "vocab_size": 400, "max_positions": 64}
    config = config_from_user({**shape, "feedforward_width": 64})
    save_model_folder(random_model(config, 1), tmp_path / "model", tokenizer=tokenizer)
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", "q8_0")
    stored = tensors(tmp_path / "model.gguf")
    assert stored["blk.0.attn_q.weight"].tensor_type == Kind.F16
    assert stored["blk.0.ffn_down.weight"].tensor_type == Kind.Q8_0


def test_numbers_that_float16_cannot_hold_are_an_error(trained: Trained, tmp_path: Path) -> None:
    model, tokenizer = load_model_folder(trained(LLAMA)), load_tokenizer(trained(LLAMA))
    with torch.no_grad():
        model.layers[0].feedforward.down.weight[0, 0] = 1e5
    save_model_folder(model, tmp_path / "model", tokenizer=tokenizer)
    with pytest.raises(ModelError, match="float16 cannot"):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf", "f16")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_rounding_makes_another_is_not_left(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_MOST_LOST", {Kind.Q4_0: 1e-6})
    with pytest.raises(OwnlmError, match=r"rounded to q4_0 the model is another.*more bits"):
        export_gguf(trained(LLAMA), tmp_path / "model.gguf", "q4_0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("to", "quantize", "where", "hint"),
    [
        ("gguff", None, "--to", "did you mean 'gguf'?"),
        ("gguf", "q8", "--quantize", "did you mean 'q8_0'?"),
        ("gguf", "Q4_K_M", "--quantize", "llama-quantize"),
        ("gguf", "int8", "--quantize", "known: bf16, f16"),
        ("hf", "q8_0", "--quantize", "--to gguf or onnx"),
    ],
)
def test_unknown_words_name_the_nearest(to: str, quantize: str | None, where: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        export_model("no-model-is-looked-for", to, tmp_path / "out", quantize)
    assert caught.value.where == where
    assert hint in str(caught.value.hint)


def test_only_a_file_of_ours_is_replaced(trained: Trained, tiny_gguf: Path, tmp_path: Path) -> None:
    path, folder = tmp_path / "model.gguf", trained(LLAMA)
    export_gguf(folder, path)
    before = path.read_bytes()
    export_gguf(folder, path, "q8_0")
    assert len(path.read_bytes()) < len(before)
    path.write_bytes(tiny_gguf.read_bytes())
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "empty").mkdir()
    for other in (path, tmp_path / "thesis.txt", tmp_path / "empty"):
        with pytest.raises(UserError, match="something else stands here") as caught:
            export_gguf(folder, other)
    assert "model.gguf" in str(caught.value.hint)
    assert path.read_bytes() == tiny_gguf.read_bytes()
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_file_says_where_it_comes_from_and_any_name_will_do(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    path, folder = tmp_path / "new" / "without-an-ending", trained(LLAMA)
    export_gguf(folder, path, "q8_0")
    fields = gguf.GGUFReader(path).fields
    assert fields["general.name"].contents() == "tiny"
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0
    assert "ownlm.version" in fields
    assert json.loads(fields["ownlm.lineage"].contents()) == {}
    # Our own commands take it too, though it is not called .gguf.
    read = load_model_folder(find_model(str(path)))
    assert read.config.layers == 2


def test_a_full_disk_leaves_what_stood_there(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    export_gguf(trained(LLAMA), path, "q4_0")
    before = path.read_bytes()
    code = (
        "import resource, sys; from pathlib import Path; from ownlm.errors import StorageError\n"
        "from ownlm.model.export.gguf import export_gguf\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: export_gguf(sys.argv[1], Path(sys.argv[2]))\n"
        "except StorageError as error: print(error.message)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, trained(LLAMA), path], capture_output=True, text=True)
    assert child.stdout == "cannot write: file too large\n", child.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


@pytest.fixture
def adapter(trained: Trained, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """The folder of an adapter for a tiny model, and what the two together say of a text."""
    base = trained(LLAMA)
    model, lora = load_model_folder(base), LoraConfig(rank=2)
    attach(model, lora, 1)
    with torch.no_grad():
        for layer in adapter_layers(model).values():
            layer.b.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
    weights, config = peft_state(model, lora, str(base))
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_tensors(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    merge(model)
    return folder, model.logits([[5, 9, 100, 42]])[0]


def test_an_adapter_is_merged_into_its_base(
    adapter: tuple[Path, torch.Tensor], trained: Trained, tmp_path: Path
) -> None:
    folder, expected = adapter
    export_hf(folder, tmp_path / "hf")
    export_gguf(folder, tmp_path / "model.gguf")
    assert torch.equal(load_model_folder(tmp_path / "hf").logits([[5, 9, 100, 42]])[0], expected)
    config, state, _ = read_gguf(tmp_path / "model.gguf")
    read = random_model(config, 0)
    read.load_state_dict(state)
    assert torch.allclose(read.eval().logits([[5, 9, 100, 42]])[0], expected, atol=1e-5)
    lineage = json.loads((tmp_path / "hf" / "ownlm.json").read_text())["lineage"]
    assert lineage == {"parents": [str(trained(LLAMA)), str(folder)], "merged": True}


def test_an_adapter_that_names_no_base_or_one_that_is_gone(adapter: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, _ = adapter
    config = json.loads((folder / "adapter_config.json").read_text())
    for base, said in (("", "does not say which model"), ("/nowhere/base", "no such model folder")):
        (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
        with pytest.raises(UserError, match=said):
            export_gguf(folder, tmp_path / "model.gguf")
