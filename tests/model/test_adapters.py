"""Adapters against PEFT: the same matrices give the same outputs, the same gradients and the same files."""

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

from ownlm.config import validate
from ownlm.errors import ConfigError, ModelError
from ownlm.model.adapters import LoraConfig, adapter_layers, attach, load_peft_state, merge, peft_state
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.transformer import Transformer

VOCAB = 97
DOCUMENTS = [[5, 9, 2, 71, 33, 8, 8, 14], [3, 1, 4, 1, 5], [96]]

BASES = {
    "llama": transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    ),
    "gpt2": transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2
    ),
    "qwen2": transformers.Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=True,
    ),
}

# What we are asked for, and what PEFT is asked for to get the same.
TARGETS: dict[str, list[tuple[Any, Any]]] = {
    "llama": [
        ("all-linear", "all-linear"),
        (["q_proj", "v_proj"], ["q_proj", "v_proj"]),
        (["k_proj", "down_proj", "up_proj"], ["k_proj", "down_proj", "up_proj"]),
        ("gate_proj", ["gate_proj"]),
        (["qkv", "output"], ["q_proj", "k_proj", "v_proj", "o_proj"]),
        (["up"], ["gate_proj", "up_proj"]),
    ],
    "gpt2": [
        ("all-linear", "all-linear"),
        (["c_attn"], ["c_attn"]),
        (["qkv", "up"], ["c_attn", "c_fc"]),
        (["c_proj"], ["c_proj"]),
        (["output"], ["attn.c_proj"]),
        (["down"], ["mlp.c_proj"]),
    ],
    "qwen2": [("all-linear", "all-linear"), (["qkv"], ["q_proj", "k_proj", "v_proj"])],
}
CASES = [(family, *pair) for family, pairs in TARGETS.items() for pair in pairs]
cases = pytest.mark.parametrize(
    ("family", "targets", "theirs"), CASES, ids=[f"{family}-{targets}" for family, targets, _ in CASES]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a base by its family, as Transformers writes it."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            torch.manual_seed(1)
            made[family] = tmp_path_factory.mktemp(family)
            transformers.AutoModelForCausalLM.from_config(BASES[family]).save_pretrained(made[family])
        return made[family]

    return get


def reference_base(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def adapted(folder: Path, lora: LoraConfig, seed: int = 0) -> Transformer:
    """Our model with an adapter whose B is not the zeros of its start."""
    model = load_model_folder(folder)
    attach(model, lora, seed)
    generator = torch.Generator().manual_seed(seed + 7)
    with torch.no_grad():
        for layer in adapter_layers(model).values():
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) * 0.1)
    return model


def save_adapter(model: Transformer, lora: LoraConfig, base: Path, folder: Path) -> Path:
    tensors, config = peft_state(model, lora, str(base))
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def loaded_by_peft(base: Path, adapter: Path, trainable: bool = False) -> Any:
    """PEFT's model, which must not find a tensor missing or one too many."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapter keys.*")
        return PeftModel.from_pretrained(reference_base(base), str(adapter), is_trainable=trainable).eval()


def reference_logits(model: Any) -> list[Tensor]:
    with torch.no_grad():
        return [model(input_ids=torch.tensor([document])).logits[0] for document in DOCUMENTS]


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


@cases
def test_an_exported_adapter_gives_equal_logits_in_peft(
    family: str, targets: Any, theirs: Any, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, alpha=5, targets=targets)
    model = adapted(base, lora)
    reference = loaded_by_peft(base, save_adapter(model, lora, base, tmp_path / "adapter"))
    logits = reference_logits(reference)
    assert difference(model.logits(DOCUMENTS), logits) < 1e-4
    assert difference(load_model_folder(base).logits(DOCUMENTS), logits) > 0.1, "the adapter does something"


@cases
def test_the_tensors_are_those_that_peft_itself_would_make(
    family: str, targets: Any, theirs: Any, folder: Callable[[str], Path]
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, alpha=5, targets=targets)
    tensors, _ = peft_state(adapted(base, lora), lora, str(base))
    wanted = PeftConfig(
        r=3, lora_alpha=5, target_modules=theirs, task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2"
    )
    reference = get_peft_model(reference_base(base), wanted)
    names = {n.replace(".default.", "."): tuple(p.shape) for n, p in reference.named_parameters() if "lora_" in n}
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == names
    ours = sum(p.numel() for p in adapted(base, lora).parameters() if p.requires_grad)
    assert ours == reference.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize(
    ("family", "targets"), [("llama", "all-linear"), ("llama", ["q_proj", "v_proj"]), ("gpt2", "all-linear")]
)
def test_gradients_are_those_of_peft(family: str, targets: Any, folder: Callable[[str], Path], tmp_path: Path) -> None:
    base, lora = folder(family), LoraConfig(rank=3, targets=targets)
    model = adapted(base, lora)
    reference = loaded_by_peft(base, save_adapter(model, lora, base, tmp_path / "adapter"), trainable=True)
    document = torch.tensor(DOCUMENTS[0])
    loss, count = model.loss(
        document[:-1],
        torch.arange(len(document) - 1),
        [0, len(document) - 1],
        document[1:],
        torch.ones(len(document) - 1),
    )
    (loss / count).backward()
    expected = reference(input_ids=document[None], labels=document[None]).loss
    expected.backward()
    assert torch.isclose(loss / count, expected, rtol=1e-5)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad), "the base is frozen"
    # The gradients take the matrices' places, so that peft_state names them.
    for layer in adapter_layers(model).values():
        assert layer.a.grad is not None and layer.b.grad is not None
        layer.a.data, layer.b.data = layer.a.grad, layer.b.grad
    found, _ = peft_state(model, lora, "")
    gradients = {n.replace(".default.", "."): p.grad for n, p in reference.named_parameters() if "lora_" in n}
    assert set(found) == set(gradients)
    for name, gradient in gradients.items():
        assert gradient is not None and gradient.abs().max() > 0
        assert (found[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name


@pytest.mark.parametrize("family", BASES)
def test_a_fresh_adapter_changes_nothing_and_depends_on_the_seed_alone(
    family: str, folder: Callable[[str], Path]
) -> None:
    plain, models = load_model_folder(folder(family)), []
    for seed in (4, 4, 5):
        model = load_model_folder(folder(family))
        attach(model, LoraConfig(rank=2), seed)
        models.append(model)
    assert difference(models[0].logits(DOCUMENTS), plain.logits(DOCUMENTS)) == 0
    first, again, other = ([layer.a for layer in adapter_layers(m).values()] for m in models)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    # PEFT draws A as nn.Linear draws its weights: uniform within one over the root of the inputs.
    for layer in adapter_layers(models[0]).values():
        bound = layer.base.inputs**-0.5
        assert 0.8 * bound < layer.a.abs().max() <= bound
        assert not layer.b.any()


@cases
def test_merged_equals_unmerged(family: str, targets: Any, theirs: Any, folder: Callable[[str], Path]) -> None:
    model = adapted(folder(family), LoraConfig(rank=3, targets=targets))
    before = model.logits(DOCUMENTS)
    names = [name for name, _ in load_model_folder(folder(family)).named_parameters()]
    merge(model)
    assert difference(model.logits(DOCUMENTS), before) < 1e-5 * max(x.abs().max().item() for x in before)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merging_is_what_peft_merges(family: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    base, lora = folder(family), LoraConfig(rank=2)
    model = adapted(base, lora)
    reference = loaded_by_peft(base, save_adapter(model, lora, base, tmp_path / "adapter")).merge_and_unload()
    merge(model)
    assert difference(model.logits(DOCUMENTS), reference_logits(reference)) < 1e-4


def test_a_bfloat16_base_keeps_its_dtype_when_merged(folder: Callable[[str], Path]) -> None:
    lora = LoraConfig(rank=2)
    wide, narrow = adapted(folder("llama"), lora), load_model_folder(folder("llama"), dtype=torch.bfloat16)
    narrow.compute_dtype = torch.bfloat16
    attach(narrow, lora, 0)
    for name, layer in adapter_layers(narrow).items():
        assert layer.a.dtype == layer.b.dtype == torch.float32, "what is trained stays float32"
        layer.b.data.copy_(adapter_layers(wide)[name].b)
    unmerged = narrow.logits(DOCUMENTS)
    merge(narrow)
    assert {p.dtype for p in narrow.parameters()} == {torch.bfloat16}
    # bf16 keeps 8 bits of each weight: two roundings of logits of a size of about 5.
    assert difference(narrow.logits(DOCUMENTS), unmerged) < 0.03 * max(x.abs().max().item() for x in unmerged)


@pytest.mark.parametrize(
    ("family", "targets"), [("llama", "all-linear"), ("llama", ["v_proj", "up"]), ("gpt2", "all-linear")]
)
def test_a_stored_adapter_comes_back_bit_for_bit(
    family: str, targets: Any, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, targets=targets)
    model, other = adapted(base, lora), adapted(base, lora, seed=99)
    tensors = load_file(save_adapter(model, lora, base, tmp_path / "adapter") / "adapter_model.safetensors")
    load_peft_state(other, lora, tensors, "adapter")
    for name, layer in adapter_layers(model).items():
        assert torch.equal(adapter_layers(other)[name].a, layer.a)
        assert torch.equal(adapter_layers(other)[name].b, layer.b)
    assert difference(other.logits(DOCUMENTS), model.logits(DOCUMENTS)) == 0


def test_an_adapter_that_peft_wrote_is_read(folder: Callable[[str], Path], tmp_path: Path) -> None:
    base, lora = folder("llama"), LoraConfig(rank=3, alpha=6, targets=["q_proj", "o_proj", "gate_proj"])
    torch.manual_seed(3)
    config = PeftConfig(r=3, lora_alpha=6, target_modules=["q_proj", "o_proj", "gate_proj"], init_lora_weights=False)
    reference = get_peft_model(reference_base(base), config).eval()
    reference.save_pretrained(tmp_path / "theirs")
    model = load_model_folder(base)
    attach(model, lora, 0)
    load_peft_state(model, lora, load_file(tmp_path / "theirs" / "adapter_model.safetensors"), "theirs")
    assert difference(model.logits(DOCUMENTS), reference_logits(reference)) < 1e-4


def test_the_written_config_says_what_the_adapter_is(folder: Callable[[str], Path]) -> None:
    lora = LoraConfig(rank=4, targets=["q_proj", "v_proj"])
    _, config = peft_state(adapted(folder("llama"), lora), lora, "somewhere/base")
    assert config["base_model_name_or_path"] == "somewhere/base"
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (4, 8, False)
    assert peft_state(adapted(folder("gpt2"), LoraConfig()), LoraConfig(), "")[1]["fan_in_fan_out"] is True


def test_the_scale_is_alpha_over_rank_and_two_by_default() -> None:
    assert LoraConfig(rank=8).scale == 2
    assert LoraConfig(rank=8, alpha=4).scale == 0.5


@pytest.mark.parametrize(
    ("family", "target", "hint"),
    [
        ("llama", "q_prj", "did you mean 'q_proj'?"),
        ("llama", "c_attn", "known: all-linear, down, down_proj, gate_proj"),
        ("llama", "outptu", "did you mean 'output'?"),
        ("gpt2", "c_atn", "did you mean 'c_attn'?"),
        ("llama", "lm_head", "known: "),
    ],
)
def test_an_unknown_target_is_refused_with_the_nearest_name(
    family: str, target: str, hint: str, folder: Callable[[str], Path]
) -> None:
    for targets in (target, [target], ["qkv", target]):
        with pytest.raises(ConfigError) as raised:
            attach(load_model_folder(folder(family)), LoraConfig(targets=targets), 0)
        assert raised.value.where == "adapter.targets"
        assert raised.value.message == f"the model has no projection '{target}'"
        assert raised.value.hint is not None and raised.value.hint.startswith(hint)


@pytest.mark.parametrize("values", [{"rank": 0}, {"rank": -3}, {"targets": []}, {"alpha": 0}])
def test_an_adapter_that_could_learn_nothing_is_refused(values: dict[str, Any], folder: Callable[[str], Path]) -> None:
    model = load_model_folder(folder("llama"))
    with pytest.raises(ConfigError) as raised:
        attach(model, validate(LoraConfig, values), 0)
    assert str(raised.value.where).endswith(next(iter(values)))


def test_an_adapter_for_another_base_is_refused_by_name(folder: Callable[[str], Path]) -> None:
    lora = LoraConfig(rank=2)
    model = adapted(folder("llama"), lora)
    before = {name: layer.b.clone() for name, layer in adapter_layers(model).items()}
    good, _ = peft_state(adapted(folder("llama"), lora, seed=5), lora, "")
    good = {name: tensor.clone() for name, tensor in good.items()}
    last = sorted(good)[-1]
    wrong = {
        "another family": peft_state(adapted(folder("gpt2"), lora), lora, "")[0],
        "fewer layers": {name: tensor for name, tensor in good.items() if ".layers.1." not in name},
        "another rank": peft_state(adapted(folder("llama"), LoraConfig(rank=3)), LoraConfig(rank=3), "")[0],
        "one of another width": good | {last: torch.zeros(2, 5)},
        "an empty file": {},
    }
    for tensors in wrong.values():
        with pytest.raises(ModelError) as raised:
            load_peft_state(model, lora, tensors, "runs/other/adapter")
        assert raised.value.where == "runs/other/adapter"
        assert "lora_" in raised.value.message
    for name, layer in adapter_layers(model).items():
        assert torch.equal(layer.b, before[name]), "a refused adapter leaves no trace"


def test_a_model_without_an_adapter_has_none_to_save(folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="no adapter"):
        peft_state(load_model_folder(folder("llama")), LoraConfig(), "")
