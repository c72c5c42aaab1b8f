"""Promise 1, parity: every family gives the logits of the public reference in float32, and checkpoints go both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder

TOLERANCE = 1e-4
VOCAB = 97

LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
GPT2 = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}

REFERENCES = {
    "gpt2": transformers.GPT2Config(**GPT2),
    "gpt2-relu-narrow": transformers.GPT2Config(**GPT2, activation_function="relu", n_inner=40),
    "llama-tied": transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "llama-untied": transformers.LlamaConfig(**LLAMA, tie_word_embeddings=False),
    "llama-biases": transformers.LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True, head_dim=16),
    "llama-linear-rope": transformers.LlamaConfig(**LLAMA, rope_parameters=LINEAR_ROPE),
    "llama-llama3-rope": transformers.LlamaConfig(**LLAMA, rope_parameters=LLAMA3_ROPE),
    "mistral-window": transformers.MistralConfig(**LLAMA, sliding_window=6),
    "mistral": transformers.MistralConfig(**LLAMA, sliding_window=None),
    "qwen2": transformers.Qwen2Config(**LLAMA, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**LLAMA, head_dim=16, tie_word_embeddings=True),
    "qwen3-untied": transformers.Qwen3Config(**LLAMA, head_dim=16, attention_bias=True),
}


@pytest.fixture(params=REFERENCES, scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that the reference wrote, with biases and norms that are not their initial zeros and ones."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(REFERENCES[request.param])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    return path


def documents() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, VOCAB, (n,), generator=generator).tolist() for n in (1, 7, 7, 30, 2, 19)]


@torch.no_grad()
def reference_logits(model: transformers.PreTrainedModel, document: list[int]) -> torch.Tensor:
    return model(torch.tensor([document])).logits[0]


def largest_difference(ours: list[torch.Tensor], model: transformers.PreTrainedModel) -> float:
    pairs = zip(ours, documents(), strict=True)
    return max(float((logits - reference_logits(model, document)).abs().max()) for logits, document in pairs)


def test_the_references_checkpoint_gives_its_logits_in_a_packed_batch(folder: Path) -> None:
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model_folder(folder)
    assert largest_difference(ours.logits(documents()), reference) <= TOLERANCE


def test_greedy_continuations_are_equal(folder: Path) -> None:
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model_folder(folder)
    prompt = documents()[1]
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = reference.generate(torch.tensor([prompt]), **options)[0].tolist()
    text = list(prompt)
    for _ in range(20):
        text.append(int(ours.logits([text])[0][-1].argmax()))
    assert text == expected


def test_what_we_save_the_reference_loads_whole_with_equal_logits(folder: Path, tmp_path: Path) -> None:
    model = random_model(read_config(folder).model_copy(update={"initializer_range": 0.2}), seed=3)
    save_model_folder(model, tmp_path / "saved")
    reference, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert largest_difference(model.logits(documents()), reference.eval()) <= TOLERANCE
    assert sum(p.numel() for p in reference.parameters()) == model.config.parameters()


def test_a_round_trip_changes_no_bit(folder: Path, tmp_path: Path) -> None:
    first = load_model_folder(folder)
    save_model_folder(first, tmp_path / "saved")
    second = load_model_folder(tmp_path / "saved")
    assert first.config == second.config
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
