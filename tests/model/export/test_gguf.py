"""GGUF files out: every architecture as our reader, Transformers and llama.cpp read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions
from ownlm.errors import ModelError, OwnlmError
from ownlm.model import registry
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.export.check import PROBE, PROBE_CHAT
from ownlm.model.export.gguf import export_gguf
from ownlm.model.families import config_from_user
from ownlm.model.gguf import read_gguf
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

STARTER = "smollm2-135m-instruct"
LLAMA3 = {"kind": "llama3", "factor": 8.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0}
LINEAR = {"kind": "linear", "factor": 8.0}
BIASES = {"qkv_bias": True, "output_bias": True, "feedforward_bias": True}
WINDOWS = {"layers": 7, "sliding_window": 16, "kv_heads": 2}

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "kv_heads": 2},
    "llama-biases": {"family": "llama", "tied_head": False, **BIASES},
    "llama-3": {"family": "llama", "rope_theta": 500000.0, "rope_scaling": LLAMA3},
    "llama-linear": {"family": "llama", "rope_scaling": LINEAR},
    "llama-wide-heads": {"family": "llama", "head_width": 32, "kv_heads": 2},
    "mistral": {"family": "mistral", "kv_heads": 2},
    "mistral-window": {"family": "mistral", "sliding_window": 48},
    "qwen2": {"family": "qwen2", "kv_heads": 2},
    "qwen3": {"family": "qwen3", "head_width": 32, "kv_heads": 2},
    "gpt2": {"family": "gpt2"},
    "gpt3-band": {"family": "gpt3", "sliding_window": 48},
    "gptneox": {"family": "gpt_neox"},
    "gptneox-one-after-the-other": {"family": "gpt_neox", "parallel": False, "tied_head": True},
    "gemma": {"family": "gemma", "kv_heads": 2},
    "gemma2": {"family": "gemma2", "sliding_window": 16, "kv_heads": 2},
    "gemma2-no-windows": {"family": "gemma2", "sliding_window": None},
    "gemma3": {"family": "gemma3_text", **WINDOWS},
    "gemma3-other-windows": {"family": "gemma3_text", **WINDOWS, "layers": 3, "windowed_layers": (1,)},
    "gemma3-linear": {"family": "gemma3_text", **WINDOWS, "rope_scaling": LINEAR},
}
# Architectures that the public library reads from GGUF files, in sizes for which it guesses right what it does not read.
PUBLIC: dict[str, dict[str, Any]] = {
    **{name: SHAPES[name] for name in ("llama", "mistral", "qwen2")},
    "qwen3": {"family": "qwen3", "head_width": 128, "kv_heads": 2},
    "gpt2": {"family": "gpt2", "max_positions": 1024},
    "gemma2": {"family": "gemma2", "sliding_window": 16, "head_width": 256, "kv_heads": 2},
    "gemma3": {"family": "gemma3_text", **WINDOWS, "head_width": 256},
}

Trained = Callable[[dict[str, Any]], Path]


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_is_read_back_as_the_model(name: str, trained: Trained, tmp_path: Path) -> None:
    folder, path = trained(SHAPES[name]), tmp_path / "model.gguf"
    result = export_gguf(folder, path)
    assert (result["path"], result["compared_with"]) == (str(path), ["ownlm"])
    assert result["max_difference"] < 1e-5
    assert result["bytes"] == path.stat().st_size
    config, state, _ = read_gguf(path)
    assert config.max_positions == result["context"]
    reader = gguf.GGUFReader(path)
    assert all(tensor.tensor_type == gguf.GGMLQuantizationType.F32 for tensor in reader.tensors)
    assert {name.split(".")[0] for name in state} >= {"embedding", "layers", "final_norm"}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_library_reads_the_same_model(name: str, trained: Trained, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = trained(PUBLIC[name])
    export_gguf(folder, tmp_path / "model.gguf")
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode(PROBE)[:40]
    options = {"gguf_file": "model.gguf", "dtype": torch.float32, "attn_implementation": "eager"}
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **options).eval()
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits[0]
    assert (load_model_folder(folder).logits([ids])[0] - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp_gives_the_same_logits_text_and_conversation(
    name: str, trained: Trained, texts: list[str], llama: Callable[..., Any], tmp_path: Path
) -> None:
    folder, path = trained(SHAPES[name]), tmp_path / "model.gguf"
    result = export_gguf(folder, path)
    model, tokenizer = load_model_folder(folder), load_tokenizer(folder)
    theirs = llama(path, n_ctx=result["context"])
    ids = tokenizer.encode(" ".join(texts[:8]))[: result["context"]]
    theirs.eval(ids)
    logits, expected = torch.from_numpy(np.array(theirs.scores[: len(ids)])), model.logits([ids])[0]
    # llama.cpp rounds activations between layers to half precision where it multiplies, and GELU comes from a table.
    assert (logits - expected).abs().max() < 2e-3 * expected.abs().max()
    theirs.reset()
    prompt, answer = tokenizer.encode("The model"), []
    for token in theirs.generate(prompt, temp=0.0, repeat_penalty=1.0):
        answer.append(token)
        if len(answer) == 20:
            break
    (ours,) = Engine(model, tokenizer).generate(["The model"], SamplingOptions(max_tokens=20, temperature=0))
    assert answer[: len(ours.tokens)] == list(ours.tokens)
    text = tokenizer.render_text(list(PROBE_CHAT), add_generation_prompt=True)
    rendered = tokenizer.render(list(PROBE_CHAT), add_generation_prompt=True)
    # add_bos is llama.cpp's own wish to put the token first, which the file must deny: there would be two.
    assert theirs.tokenize(text.encode(), add_bos=True, special=True) == rendered


@pytest.fixture(scope="module")
def starter() -> Path:
    if folder := registry.cached(STARTER):
        return folder
    pytest.skip(f"the starter is not here: run 'ownlm pull {STARTER}'")


@pytest.mark.parametrize("kind", [None, "f16", "q8_0", "q4_1"])
def test_llama_cpp_answers_as_the_starter_does(
    kind: str | None, starter: Path, llama: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "starter.gguf"
    export_gguf(starter, path, kind)
    theirs = llama(path, n_ctx=512)
    question = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    found = theirs.create_chat_completion(question, temperature=0, max_tokens=24)
    model, tokenizer = load_model_folder(starter), load_tokenizer(starter)
    prompt = tokenizer.render(question, add_generation_prompt=True)
    (ours,) = Engine(model, tokenizer).generate([prompt], SamplingOptions(max_tokens=24, temperature=0))
    assert found["choices"][0]["message"]["content"] == ours.text
    assert found["choices"][0]["finish_reason"] == ours.finish_reason == "stop"
    assert found["usage"]["prompt_tokens"] == len(prompt)


def test_a_window_that_llama_cpp_has_not_bounds_the_context(trained: Trained, tmp_path: Path) -> None:
    result = export_gguf(trained(SHAPES["mistral-window"]), tmp_path / "model.gguf")
    assert result["context"] == 48
    assert "no sliding window" in result["notes"][0]
    # Learned positions beyond it go with it.
    export_gguf(trained(SHAPES["gpt3-band"]), tmp_path / "band.gguf")
    _, state, _ = read_gguf(tmp_path / "band.gguf")
    assert state["embedding.position.weight"].shape == (48, 64)


HEADS = {"labels": ("a", "b"), "head": "classify"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "head": ({"family": "llama", **HEADS}, "the head 'classify'.*onnx"),
    "encoder": ({"family": "roberta"}, "a roberta with the head 'masked'"),
    "family": ({"family": "gpt_neo"}, "no architecture for the family 'gpt_neo'"),
    "activation": ({"family": "gpt2", "activation": "relu"}, "gpt2 has the activation gelu_tanh, not relu"),
    "bias": ({"family": "gemma", "qkv_bias": True, "output_bias": True}, "gemma has no such bias"),
    "head of its own": ({"family": "gemma2", "tied_head": False}, "no head of its own"),
    "stretching": ({"family": "qwen2", "rope_scaling": LLAMA3}, "does not stretch rotary positions"),
    "other limits": (
        {"family": "llama", "rope_scaling": LLAMA3 | {"original_max_positions": 4096}},
        "Llama 3.1's own limits",
    ),
    "scores": ({"family": "gemma2", "attention_softcap": None}, "always bends scores"),
    "scale": ({"family": "gemma3_text", "attention_scale": 0.25 / 3}, "scales scores by another number"),
    "wide heads": ({"family": "qwen2", "head_width": 32}, "heads that share its width"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_would_compute_otherwise_is_refused(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    values, said = REFUSED[name]
    shape = {"layers": 1, "width": 64, "heads": 4, "vocab_size": 400, "max_positions": 64, **values}
    save_model_folder(random_model(config_from_user(shape), 1), tmp_path / "model", tokenizer=tokenizer)
    with pytest.raises(ModelError, match=said):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_scale_that_llama_cpp_takes_of_so_many_layers_is_written(tokenizer: Tokenizer, tmp_path: Path) -> None:
    # Its Gemma 2 of 46 layers divides by the root of the width of a head's share, 16, and not of a head, 8.
    shape = {"family": "gemma2", "layers": 46, "width": 64, "heads": 4, "head_width": 8, "vocab_size": 400}
    shape |= {"max_positions": 64, "attention_scale": 16**-0.5, "initializer_range": 0.2}
    save_model_folder(random_model(config_from_user(shape), 1), tmp_path / "model", tokenizer=tokenizer)
    export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert read_gguf(tmp_path / "model.gguf")[0].attention_scale == 16**-0.5


@pytest.mark.parametrize(
    ("place", "said"), [("values", "holds other values"), ("theta", "its logits differ"), ("template", "differently")]
)
def test_a_wrong_file_is_noticed_and_not_left(
    place: str, said: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(SHAPES["llama"])
    write = gguf.GGUFWriter.write_tensor_data
    add_float, add_string = gguf.GGUFWriter.add_float32, gguf.GGUFWriter.add_string
    if place == "values":
        wrong = lambda self, values: write(self, values * 1.01)  # noqa: E731
        monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", wrong)
    elif place == "theta":
        theta = lambda self, key, value: add_float(self, key, 500.0 if "freq_base" in key else value)  # noqa: E731
        monkeypatch.setattr(gguf.GGUFWriter, "add_float32", theta)
    else:
        text = lambda self, key, value: add_string(  # noqa: E731
            self, key, value.replace("assistant", "bot") if "chat_template" in key else value
        )
        monkeypatch.setattr(gguf.GGUFWriter, "add_string", text)
    with pytest.raises(OwnlmError, match=said):
        export_gguf(folder, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_an_encoder_without_a_head_embeds_in_llama_cpp(
    encoder: Path, llama: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    assert export_gguf(encoder, path)["max_difference"] < 1e-6
    theirs = llama(path, embedding=True, logits_all=False)
    model, tokenizer = load_model_folder(encoder), load_tokenizer(encoder)
    for text in ("The model reads, and writes!", "naïve CAFÉ 3.14 xqz", "what it has seen before"):
        ids = [tokenizer.cls_id, *tokenizer.encode(text), tokenizer.sep_id]
        assert theirs.tokenize(text.encode(), special=True) == ids
        found = torch.tensor(theirs.create_embedding(text)["data"][0]["embedding"])
        mean = model.hidden_states([ids])[0].mean(0)
        assert torch.cosine_similarity(found, mean, dim=0) > 0.9999


def test_an_encoder_is_read_back(encoder: Path, tmp_path: Path) -> None:
    result = export_gguf(encoder, tmp_path / "model.gguf", "q8_0")
    assert 0 < result["max_difference"] < 0.5
    config, state, tokenizer = read_gguf(tmp_path / "model.gguf")
    assert (config.family, config.head, config.causal) == ("bert", "none", False)
    assert state["embedding.segment.weight"].shape == (2, 32)
    assert tokenizer.names == load_tokenizer(encoder).names
    text = "The model reads NAÏVE text"
    ids = load_tokenizer(encoder).backend.encode(text, text).ids
    assert tokenizer.backend.encode(text, text).ids == ids
