"""Exported is the same: programs of others read what is written, with the model's logits and conversations.

llama.cpp's own program has its tests in tests/model/export, for where its binding is installed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ownlm.errors import OwnlmError
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.export import export_model
from ownlm.model.export import source as exported
from ownlm.tokens.tokenizer import load_tokenizer

CHAT = [{"role": "user", "content": "what has the model seen?"}]


@pytest.fixture
def expected(corpus: Path) -> tuple[list[int], torch.Tensor]:
    """A conversation's ids, and the model's logits of them."""
    ids = load_tokenizer(corpus / "base").render(CHAT, add_generation_prompt=True)
    return ids, load_model_folder(corpus / "base").logits([ids])[0]


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_transformers_reads_the_model(
    to: str, corpus: Path, expected: tuple[list[int], torch.Tensor], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "model.gguf" if to == "gguf" else tmp_path / "model"
    assert export_model(corpus / "base", to, out)["max_difference"] < 1e-4
    folder, options = (tmp_path, {"gguf_file": out.name}) if to == "gguf" else (out, {})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    text = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    ids, logits = expected
    assert tokenizer.encode(text, add_special_tokens=False) == ids
    with torch.no_grad():
        assert (model(torch.tensor([ids])).logits[0] - logits).abs().max() < 1e-4


def test_onnx_runtime_runs_the_model(corpus: Path, expected: tuple[list[int], torch.Tensor], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert export_model(corpus / "base", "onnx", tmp_path / "model")["max_difference"] < 1e-4
    ids, logits = expected
    assert load_tokenizer(tmp_path / "model").render(CHAT, add_generation_prompt=True) == ids
    graph = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx")
    feed = {"input_ids": [ids], "attention_mask": [[1] * len(ids)], "position_ids": [list(range(len(ids)))]}
    past = {one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), np.float32) for one in graph.get_inputs()[3:]}
    found = graph.run(["logits"], {name: np.array(values, np.int64) for name, values in feed.items()} | past)[0]
    assert np.abs(found[0] - logits.numpy()).max() < 1e-4


@pytest.mark.parametrize("to", ["hf", "gguf", "onnx"])
def test_what_is_not_the_same_is_not_left(
    to: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    read = exported.load_model_folder

    def load(folder: Path) -> object:
        model = read(folder)
        plain = model.state_dict

        def other(*arguments: object, **options: object) -> dict[str, torch.Tensor]:
            # What is written comes from here; what is computed does not.
            return {name: values * 1.05 for name, values in plain(*arguments, **options).items()}

        model.state_dict = other
        return model

    monkeypatch.setattr(exported, "load_model_folder", load)
    with pytest.raises(OwnlmError, match="not the same"):
        export_model(corpus / "base", to, tmp_path / "out")
    assert not list(tmp_path.iterdir())
