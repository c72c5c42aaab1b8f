"""Adapter folders both ways: what PEFT saves we read, and what we save PEFT reads, with every head and equal outputs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from ownlm.errors import DamagedError, ModelError
from ownlm.model.adapters import (
    LoraConfig,
    adapter_layers,
    adapter_parameters,
    attach,
    load_adapter,
    load_peft_state,
    merge,
    peft_state,
)
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.families import FAMILIES
from ownlm.model.head import ClassifyHead, SpanHead
from ownlm.model.quantized import quantize_model
from ownlm.model.transformer import Transformer

VOCAB = 97
DOCUMENTS = [[5, 9, 12, 71, 33, 8, 8, 14], [13, 7, 4, 6, 5], [96]]
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
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**NAMED, "num_key_value_heads": 2},
    "gpt2": GPT2,
    "bert": NAMED,
    "roberta": NAMED,
    "distilbert": DISTILBERT,
    "gpt_neox": NAMED,
}
TASKS = {
    "lm": ("CAUSAL_LM", transformers.AutoModelForCausalLM),
    "masked": (None, transformers.AutoModelForMaskedLM),
    "classify": ("SEQ_CLS", transformers.AutoModelForSequenceClassification),
    "span": ("QUESTION_ANS", transformers.AutoModelForQuestionAnswering),
    "none": ("FEATURE_EXTRACTION", transformers.AutoModel),
}
CASES = [
    pytest.param(family, head, id=f"{family}-{head}")
    for family in SHAPES
    if family in FAMILIES
    for head in FAMILIES[family].architectures
]
cases = pytest.mark.parametrize(("family", "head"), CASES)
# Every kind of projection of the family, in PEFT's words.
THEIRS = {
    "llama": ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "bert": ["query", "value", "attention.output.dense", "intermediate.dense"],
    "roberta": ["key", "value", "intermediate.dense"],
    "distilbert": ["q_lin", "k_lin", "out_lin", "lin2"],
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({}, {}),
    "rsdora": ({"rslora": True, "kind": "dora"}, {"use_rslora": True, "use_dora": True}),
}
kinds = pytest.mark.parametrize("kind", KINDS)

Bases = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """The folder of a base by its family and head, as Transformers writes it."""
    made: dict[str, Path] = {}

    def get(family: str, head: str) -> Path:
        key = f"{family}-{head}"
        if key not in made:
            torch.manual_seed(1)
            made[key] = tmp_path_factory.mktemp(key)
            labels = {"num_labels": 3} if head == "classify" else {}
            config = transformers.AutoConfig.for_model(family, **SHAPES[family], **labels)
            model = getattr(transformers, FAMILIES[family].architectures[head])(config)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.dim() == 1 and "norm" not in name.lower():
                        parameter.add_(torch.randn_like(parameter) * 0.1)
            model.save_pretrained(made[key])
        return made[key]

    return get


def reference(folder: Path, head: str) -> Any:
    return TASKS[head][1].from_pretrained(folder, attn_implementation="eager").eval()


@torch.no_grad()
def ours(model: Transformer) -> list[Tensor]:
    """What the head gives for each document."""
    model.eval()
    results = []
    for hidden in model.hidden_states(DOCUMENTS):
        if isinstance(model.head, ClassifyHead):
            row = 0 if model.head.pool == "first" else -1
            results.append(model.head(hidden[row].unsqueeze(0))[0])
        elif isinstance(model.head, SpanHead):
            results.append(model.head(hidden))
        else:
            results.append(hidden if model.config.head == "none" else model.logits_of(hidden))
    return results


@torch.no_grad()
def theirs(model: Any) -> list[Tensor]:
    results = []
    for document in DOCUMENTS:
        out = model.eval()(input_ids=torch.tensor([document]))
        if "start_logits" in out:
            results.append(torch.stack((out.start_logits[0], out.end_logits[0]), dim=-1))
        else:
            results.append(out.logits[0] if "logits" in out else out.last_hidden_state[0])
    return results


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


def saved_by_peft(folder: Path, family: str, head: str, out: Path, **values: Any) -> Any:
    """PEFT's own adapter on the base, none of its parts at its start, saved; returns the model."""
    torch.manual_seed(3)
    common = {"r": 3, "lora_alpha": 6, "target_modules": THEIRS[family], "task_type": TASKS[head][0]}
    wanted = PeftConfig(**{**common, "init_lora_weights": False, "fan_in_fan_out": family == "gpt2", **values})
    model = get_peft_model(reference(folder, head), wanted)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name and "lora_B" not in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    model.save_pretrained(out)
    return model


def save_ours(model: Transformer, lora: LoraConfig, base: Path, out: Path) -> None:
    tensors, config = peft_state(model, lora, str(base))
    out.mkdir()
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, out / "adapter_model.safetensors"
    )
    (out / "adapter_config.json").write_text(json.dumps(config))


def moved(model: Transformer, lora: LoraConfig) -> Transformer:
    """With an adapter of which no part is at its start."""
    attach(model, lora, 2)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator) * 0.1
                parameter.mul_(1 + noise) if name.endswith("magnitude") else parameter.add_(noise)
    return model


@kinds
@cases
def test_what_peft_saves_gives_equal_outputs(family: str, head: str, kind: str, base: Bases, tmp_path: Path) -> None:
    folder = base(family, head)
    expected = theirs(saved_by_peft(folder, family, head, tmp_path / "adapter", **KINDS[kind][1]))
    model = load_model_folder(folder)
    plain = ours(model)
    lora = load_adapter(model, tmp_path / "adapter")
    assert difference(ours(model), expected) < 1e-4
    assert difference(plain, expected) > 0.1, "the adapter does something"
    assert (lora.rank, lora.strength, lora.rslora) == (3, 6, kind == "rsdora")
    tensors, _ = peft_state(model, lora, str(folder))
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    head_weights = {name for name in tensors if ".lora_" not in name}
    assert set(tensors) - head_weights == {name for name in stored if ".lora_" in name}
    assert all(torch.equal(tensors[name], stored[name]) for name in set(tensors) & set(stored))
    merge(model)
    assert difference(ours(model), expected) < 1e-4


@kinds
@cases
def test_what_we_save_gives_equal_outputs_in_peft(
    family: str, head: str, kind: str, base: Bases, tmp_path: Path
) -> None:
    folder, lora = base(family, head), LoraConfig(rank=3, alpha=6, **KINDS[kind][0])
    model = moved(load_model_folder(folder), lora)
    save_ours(model, lora, folder, tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapter keys.*")
        adapted = PeftModel.from_pretrained(reference(folder, head), str(tmp_path / "adapter"))
    assert difference(ours(model), theirs(adapted)) < 1e-4
    config = adapted.peft_config["default"]
    assert config.task_type == TASKS[head][0]
    ours_again = load_model_folder(folder)
    load_adapter(ours_again, tmp_path / "adapter")
    assert difference(ours(ours_again), ours(model)) == 0


@cases
def test_a_head_that_no_base_comes_with_is_trained_whole(family: str, head: str, base: Bases) -> None:
    lora, model = LoraConfig(rank=2), load_model_folder(base(family, head), dtype=torch.bfloat16)
    attach(model, lora, 0)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    whole = {name for name in trained if not name.endswith((".a", ".b"))}
    assert whole == {n for n, _ in model.named_parameters() if n.startswith("head.") and head in ("classify", "span")}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert sum(p.numel() for p in trained.values()) == adapter_parameters(model.config, lora)
    tensors, _ = peft_state(model, lora, "")
    assert sum(tensor.numel() for tensor in tensors.values()) == adapter_parameters(model.config, lora)


def test_a_head_comes_back_bit_for_bit(base: Bases) -> None:
    folder, lora = base("llama", "classify"), LoraConfig(rank=2)
    model, other = moved(load_model_folder(folder), lora), load_model_folder(folder)
    attach(other, lora, 9)
    tensors = {name: tensor.clone() for name, tensor in peft_state(model, lora, "")[0].items()}
    load_peft_state(other, lora, tensors, "")
    assert difference(ours(other), ours(model)) == 0
    del tensors["base_model.model.score.weight"]
    with pytest.raises(ModelError, match="score"):
        load_peft_state(other, lora, tensors, "")


def test_other_modules_may_be_trained_whole(base: Bases, tmp_path: Path) -> None:
    """A layer's norms, an untied head: whatever is named, in PEFT's file under its own name and read from it."""
    folder = base("llama", "lm")
    model = load_model_folder(folder)
    modules = ["final_norm", "layers.0.attention_norm"]
    attach(model, LoraConfig(rank=2), 0, modules)
    trained = {n for n, p in model.named_parameters() if p.requires_grad and not n.endswith((".a", ".b"))}
    assert trained == {"final_norm.weight", "layers.0.attention_norm.weight"}
    with torch.no_grad():
        model.final_norm.weight.mul_(2)
    tensors, config = peft_state(model, LoraConfig(rank=2), "", modules)
    assert config["modules_to_save"] == ["layers.0.input_layernorm", "norm"]
    assert torch.equal(tensors["base_model.model.model.norm.weight"], model.final_norm.weight)
    out = tmp_path / "theirs"
    saved_by_peft(folder, "llama", "lm", out, modules_to_save=["norm", "lm_head"])
    again = load_model_folder(folder)
    with_head = theirs(PeftModel.from_pretrained(reference(folder, "lm"), str(out)))
    load_adapter(again, out)
    assert difference(ours(again), with_head) < 1e-4


def test_only_some_layers_may_be_adapted(base: Bases, tmp_path: Path) -> None:
    folder = base("llama", "lm")
    expected = theirs(saved_by_peft(folder, "llama", "lm", tmp_path / "one", layers_to_transform=[1]))
    model = load_model_folder(folder)
    lora = load_adapter(model, tmp_path / "one")
    assert all(name.startswith("layers.1.") for name in adapter_layers(model))
    assert difference(ours(model), expected) < 1e-4
    save_ours(model, lora, folder, tmp_path / "again")
    reread = PeftModel.from_pretrained(reference(folder, "lm"), str(tmp_path / "again"))
    assert difference(theirs(reread), expected) < 1e-4
    fresh = load_model_folder(folder)
    attach(fresh, lora, 0)
    assert set(adapter_layers(fresh)) == set(adapter_layers(model)), "what is returned attaches to the same places"


@kinds
def test_an_adapter_is_read_beside_a_quantized_base(kind: str, base: Bases, tmp_path: Path) -> None:
    folder = base("llama", "lm")
    saved_by_peft(folder, "llama", "lm", tmp_path / "adapter", **KINDS[kind][1])
    model, plain = load_model_folder(folder), load_model_folder(folder)
    load_adapter(plain, tmp_path / "adapter")
    quantize_model(model, "int8")
    load_adapter(model, tmp_path / "adapter")
    scale = max(x.abs().max().item() for x in ours(plain))
    assert 0 < difference(ours(model), ours(plain)) < 0.1 * scale
    with pytest.raises(ModelError, match="quantized base"):
        merge(model)


def test_a_head_with_an_adapter_of_its_own_goes_both_ways(base: Bases, tmp_path: Path) -> None:
    folder, more = base("bert", "classify"), {"target_modules": ["query", "dense"], "use_dora": True}
    expected = theirs(saved_by_peft(folder, "bert", "classify", tmp_path / "theirs", **more))
    model = load_model_folder(folder)
    lora = load_adapter(model, tmp_path / "theirs")
    assert difference(ours(model), expected) < 1e-4
    save_ours(model, lora, folder, tmp_path / "ours")
    again = PeftModel.from_pretrained(reference(folder, "classify"), str(tmp_path / "ours"))
    assert difference(theirs(again), expected) < 1e-4


def changed(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"bias": "all"}, "bias"),
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"lora_bias": True}, "lora_bias"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"a_feature_of_tomorrow": True}, "a_feature_of_tomorrow"),
        ({"init_lora_weights": "pissa"}, "'pissa'"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4'"),
        ({"init_lora_weights": "lora_ga"}, "'lora_ga'"),
        ({"init_lora_weights": "a_start_of_tomorrow"}, "'a_start_of_tomorrow'"),
        ({"r": 0}, "rank must be at least 1"),
        ({"lora_alpha": None}, "a number was expected"),
        ({"lora_alpha": 1e300}, "a number was expected"),
        ({"r": "many"}, "whole number"),
        ({"r": 4}, r"\[3, 32\], the model needs \[4, 32\]"),
    ],
)
def test_what_is_not_supported_is_named(values: dict[str, Any], said: str, base: Bases, tmp_path: Path) -> None:
    folder, out = base("llama", "lm"), tmp_path / "adapter"
    saved_by_peft(folder, "llama", "lm", out)
    changed(out, **values)
    model = load_model_folder(folder)
    before = ours(model)
    with pytest.raises(ModelError, match=said) as raised:
        load_adapter(model, out)
    assert str(raised.value.where).startswith(str(out))
    assert "\n" not in raised.value.message and not raised.value.message.endswith(".")
    assert not adapter_layers(model) and difference(ours(model), before) == 0, "a refused adapter leaves no trace"


def test_an_adapter_for_another_base_is_refused(base: Bases, tmp_path: Path) -> None:
    saved_by_peft(base("llama", "lm"), "llama", "lm", tmp_path / "llama")
    saved_by_peft(base("llama", "classify"), "llama", "classify", tmp_path / "score")
    tensors = load_file(tmp_path / "llama" / "adapter_model.safetensors")
    last = sorted(tensors)[-1]

    def variant(name: str, values: dict[str, Tensor]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        save_file(values, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_bytes((tmp_path / "llama" / "adapter_config.json").read_bytes())
        return folder

    shallower = {name: tensor for name, tensor in tensors.items() if ".layers.1." not in name}
    deeper = {name.replace(".layers.1.", ".layers.7."): tensor for name, tensor in tensors.items()}
    wrong = [
        (tmp_path / "llama", base("gpt2", "lm"), "no place in this gpt2 model"),
        (tmp_path / "score", base("llama", "lm"), "'base_model.model.score.weight' has no place"),
        (variant("deeper", deeper), base("llama", "lm"), r"layers\.7\..* has no place"),
        (variant("shallower", shallower), base("llama", "lm"), r"layers\.1\..* is missing"),
        (variant("half", {n: t for n, t in tensors.items() if n != last}), base("llama", "lm"), f"'{last}' is missing"),
        (variant("wider", tensors | {last: torch.zeros(32, 4)}), base("llama", "lm"), r"\[32, 4\]"),
        (variant("empty", {}), base("llama", "lm"), "no adapter's matrix"),
        (variant("whole numbers", tensors | {last: tensors[last].int()}), base("llama", "lm"), "holds int32 numbers"),
        (variant("embedding", {**tensors, "base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(3, 97)}),
         base("llama", "lm"), "lora_embedding_A' has no place"),
    ]  # fmt: skip
    for folder, other, said in wrong:
        model = load_model_folder(other)
        with pytest.raises(ModelError, match=said) as raised:
            load_adapter(model, folder)
        assert raised.value.hint or any(word in said for word in ("missing", "matrix", "numbers"))
        assert not adapter_layers(model)


def test_an_embedding_apart_from_the_head_it_is_tied_to_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SHAPES["llama"], tie_word_embeddings=True)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    saved_by_peft(tmp_path / "base", "llama", "lm", tmp_path / "adapter", modules_to_save=["embed_tokens"])
    with pytest.raises(ModelError, match="embed_tokens"):
        load_adapter(load_model_folder(tmp_path / "base"), tmp_path / "adapter")


def test_a_folder_that_is_no_adapter_is_named(base: Bases, tmp_path: Path) -> None:
    folder, out = base("llama", "lm"), tmp_path / "adapter"
    saved_by_peft(folder, "llama", "lm", out)
    weights = out / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedError, match="damaged"):
        load_adapter(load_model_folder(folder), out)
    weights.rename(out / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors") as raised:
        load_adapter(load_model_folder(folder), out)
    assert "run code" in str(raised.value.hint)
    for wrong in (folder, tmp_path / "nowhere"):
        with pytest.raises(ModelError):
            load_adapter(load_model_folder(folder), wrong)
    (out / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="object"):
        load_adapter(load_model_folder(folder), out)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("llama", ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
        ("gpt2", ["c_attn", "c_fc", "c_proj"]),
        # Not the pooler, whose last name is "dense" too.
        ("bert", ["intermediate.dense", "key", "output.dense", "query", "value"]),
        ("distilbert", ["k_lin", "lin1", "lin2", "out_lin", "q_lin", "v_lin"]),
    ],
)
def test_targets_in_a_file_are_as_short_as_they_can_be(family: str, names: list[str], base: Bases) -> None:
    if family not in FAMILIES:
        pytest.skip(f"no family {family}")
    model, lora = load_model_folder(base(family, next(iter(FAMILIES[family].architectures)))), LoraConfig(rank=2)
    attach(model, lora, 0)
    assert peft_state(model, lora, "")[1]["target_modules"] == names
