"""Every head of every family against the public classes, in both directions, on packed documents of several lengths."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder, save_tensors
from ownlm.model.families import FAMILIES, config_from_hf, config_from_user
from ownlm.model.head import ClassifyHead, MaskedHead, SpanHead
from ownlm.model.transformer import Transformer

TOLERANCE = 1e-4
VOCAB = 97
LENGTHS = (1, 7, 7, 30)

NAMED = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 72,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
GPT2 = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}
DISTILBERT = {
    "vocab_size": VOCAB,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 72,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
GEMMA = {**NAMED, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 6}
NEO = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "max_position_embeddings": 64,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 6,
    "initializer_range": 0.2,
}
SHAPES = {
    "bert": NAMED,
    "roberta": {**NAMED, "type_vocab_size": 1},
    "xlm-roberta": {**NAMED, "type_vocab_size": 1},
    "distilbert": DISTILBERT,
    "gpt2": GPT2,
    "gpt_neo": NEO,
    "gpt_neox": NAMED,
    **{name: {**NAMED, "num_key_value_heads": 2} for name in ("llama", "mistral", "qwen2", "qwen3")},
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), GEMMA),
}
# A decoder's language head has its test among the contracts.
CASES = [
    pytest.param(family, values, head, id=f"{family}-{head}")
    for family, values in SHAPES.items()
    for head, name_of_class in FAMILIES[family].architectures.items()
    if head != "lm" and hasattr(transformers, name_of_class)
]
UNUSUAL = {
    "bert-untied": ("bert", {**NAMED, "tie_word_embeddings": False}),
    "bert-relu-one-segment": ("bert", {**NAMED, "hidden_act": "relu", "type_vocab_size": 1}),
    "roberta-untied": ("roberta", {**NAMED, "tie_word_embeddings": False}),
    "roberta-other-padding": ("roberta", {**NAMED, "pad_token_id": 3}),
    "distilbert-untied": ("distilbert", {**DISTILBERT, "tie_word_embeddings": False}),
}
CASES += [pytest.param(*shape, "masked", id=f"{name}-masked") for name, shape in UNUSUAL.items()]


def reference(family: str, values: dict[str, Any], head: str) -> transformers.PreTrainedModel:
    """The public class with random weights, biases and norms among them."""
    torch.manual_seed(0)
    labels = {"num_labels": 3} if head == "classify" else {}
    config = transformers.AutoConfig.for_model(family, **values, **labels)
    model = getattr(transformers, FAMILIES[family].architectures[head])(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def documents() -> list[list[int]]:
    # Not the tokens by which a reference would take a place for padding.
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(5, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


def segments_of(document: list[int], kinds: int) -> list[int]:
    return [int(place >= len(document) // 2) if kinds > 1 else 0 for place in range(len(document))]


@torch.no_grad()
def our_outputs(model: Transformer) -> list[Tensor]:
    """What the head gives for each document, all in one packed pass."""
    texts = documents()
    starts = list(itertools.accumulate(map(len, texts), initial=0))
    tokens = torch.tensor([token for text in texts for token in text])
    positions = torch.cat([torch.arange(len(text)) for text in texts])
    segments = torch.tensor([kind for text in texts for kind in segments_of(text, model.config.segments)])
    hidden = model.read(tokens, positions, starts, segments)
    if isinstance(model.head, ClassifyHead):
        return list(model.head(hidden[model.head.rows(starts)]))
    if isinstance(model.head, SpanHead):
        hidden = model.head(hidden)
    elif model.config.head != "none":
        hidden = model.logits_of(hidden)
    return [hidden[a:b] for a, b in itertools.pairwise(starts)]


@torch.no_grad()
def their_outputs(model: transformers.PreTrainedModel, kinds: int) -> list[Tensor]:
    results = []
    for text in documents():
        options = {"token_type_ids": torch.tensor([segments_of(text, kinds)])} if kinds else {}
        out = model(torch.tensor([text]), **options)
        if "start_logits" in out:
            results.append(torch.stack((out.start_logits[0], out.end_logits[0]), dim=-1))
        else:
            results.append(out.logits[0] if "logits" in out else out.last_hidden_state[0])
    return results


def largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("family", "values", "head"), CASES)
def test_every_head_gives_the_references_outputs(
    family: str, values: dict[str, Any], head: str, tmp_path: Path
) -> None:
    model = reference(family, values, head)
    model.save_pretrained(tmp_path)
    ours = load_model_folder(tmp_path)
    assert ours.config.head == head
    assert largest_difference(our_outputs(ours), their_outputs(model, ours.config.segments)) <= TOLERANCE


@pytest.mark.parametrize(("family", "values", "head"), CASES)
def test_every_head_we_save_is_loaded_whole(family: str, values: dict[str, Any], head: str, tmp_path: Path) -> None:
    labels = {"num_labels": 3} if head == "classify" else {}
    hf = transformers.AutoConfig.for_model(family, **values, **labels).to_dict()
    hf["architectures"] = [FAMILIES[family].architectures[head]]
    config = config_from_hf(hf, where="config.json")
    model = random_model(config, seed=3)
    save_model_folder(model, tmp_path / "ours")
    assert read_config(tmp_path / "ours") == config
    loader = {
        "lm": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
        "classify": transformers.AutoModelForSequenceClassification,
        "span": transformers.AutoModelForQuestionAnswering,
        "none": transformers.AutoModel,
    }[head]
    theirs, info = loader.from_pretrained(tmp_path / "ours", dtype=torch.float32, output_loading_info=True)
    # The public stack of an encoder comes with a pooler, which is of our classification head.
    missing = {key for key in info["missing_keys"] if head != "none" or not key.startswith("pooler.")}
    assert not missing
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert largest_difference(our_outputs(model), their_outputs(theirs.eval(), config.segments)) <= TOLERANCE


def test_next_sentence_prediction_goes_both_ways(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**NAMED)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model_folder(tmp_path / "theirs")
    assert ours.config.next_sentence
    save_model_folder(ours, tmp_path / "ours")
    again, info = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(again) is transformers.BertForPreTraining
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert isinstance(ours.head, MaskedHead)
    for text in documents():
        with torch.no_grad():
            hidden = ours.hidden_states([text])[0]
            pair = ours.head.pairs(hidden[:1])[0]
            for model in (theirs, again.eval()):
                out = model(torch.tensor([text]))
                assert float((pair - out.seq_relationship_logits[0]).abs().max()) <= TOLERANCE
                assert float((ours.logits_of(hidden) - out.prediction_logits[0]).abs().max()) <= TOLERANCE


def test_an_encoder_with_a_pooler_becomes_a_classifier_that_keeps_it(tmp_path: Path) -> None:
    theirs = reference("bert", NAMED, "none")
    theirs.save_pretrained(tmp_path)
    config = read_config(tmp_path).model_copy(update={"head": "classify", "labels": ("no", "yes")})
    ours = load_model_folder(tmp_path, config=config, seed=5)
    text = documents()[3]
    with torch.no_grad():
        pooled = theirs(torch.tensor([text])).pooler_output[0]
        first = ours.hidden_states([text])[0][:1]
    assert isinstance(ours.head, ClassifyHead)
    assert ours.head.dense is not None
    assert torch.allclose(torch.tanh(ours.head.dense(first))[0], pooled, atol=TOLERANCE)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_a_gemma_without_windows_is_read_by_the_public_class(family: str, tmp_path: Path) -> None:
    theirs = reference(family, {**GEMMA, "layer_types": ["full_attention"] * 2}, "lm")
    theirs.save_pretrained(tmp_path / "theirs")
    save_model_folder(load_model_folder(tmp_path / "theirs"), tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert largest_difference(their_outputs(again, 0), their_outputs(theirs, 0)) <= TOLERANCE


@pytest.mark.parametrize("spelling", ["weight and bias", "gamma and beta"])
def test_folders_from_long_ago_are_read(spelling: str, tmp_path: Path) -> None:
    # The first BERTs call a norm's weight gamma and its bias beta, and repeat the tied matrix and a buffer.
    theirs = reference("bert", NAMED, "masked")
    theirs.save_pretrained(tmp_path)
    expected = load_model_folder(tmp_path)
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    state["bert.embeddings.position_ids"] = torch.arange(64.0).unsqueeze(0)
    state["bert.pooler.dense.weight"], state["bert.pooler.dense.bias"] = torch.zeros(32, 32), torch.zeros(32)
    if spelling == "gamma and beta":
        for now, then in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
            state = {name.replace(now, then): tensor for name, tensor in state.items()}
    save_tensors(state, tmp_path / "model.safetensors")
    again = load_model_folder(tmp_path)
    assert again.config == expected.config
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_folder_without_the_stacks_prefix_keeps_its_weights_under_a_new_head(tmp_path: Path) -> None:
    for family in ("roberta", "distilbert"):
        theirs = reference(family, SHAPES[family], "none")
        theirs.save_pretrained(tmp_path / family)
        config = read_config(tmp_path / family).model_copy(update={"head": "span"})
        ours = load_model_folder(tmp_path / family, config=config)
        text = documents()[3]
        with torch.no_grad():
            expected = theirs(torch.tensor([text])).last_hidden_state[0]
        assert float((ours.hidden_states([text])[0] - expected).abs().max()) <= TOLERANCE


def test_other_labels_get_a_head_of_their_own(tmp_path: Path) -> None:
    shape = {"family": "bert", "layers": 1, "width": 16, "heads": 2, "vocab_size": 32, "max_positions": 16}
    config = config_from_user(shape | {"head": "classify", "labels": ("a", "b"), "head_activation": "tanh"})
    model = random_model(config, 0)
    save_model_folder(model, tmp_path / "model")
    same = load_model_folder(tmp_path / "model", config=config, seed=5)
    other = load_model_folder(tmp_path / "model", config=config.model_copy(update={"labels": ("x", "y")}), seed=5)
    assert torch.equal(same.head.out.weight, model.head.out.weight)
    assert not torch.equal(other.head.out.weight, model.head.out.weight)
    assert torch.equal(other.head.dense.weight, model.head.dense.weight)
