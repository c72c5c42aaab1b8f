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
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ownlm.config import validate
from ownlm.errors import ConfigError, ModelError
from ownlm.model.adapters import (
    DoraLinear,
    LoraConfig,
    adapter_layers,
    adapter_parameters,
    attach,
    load_peft_state,
    merge,
    peft_state,
    unmerge,
)
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.transformer import Transformer

VOCAB = 97
# Of the largest logit, between an adapter beside its base and in it: a float32 sum in another order, and the rounding of
# each weight and activation to the 8 bits of bfloat16.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}
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
# What we are asked for beside the targets, and what PEFT is asked for to get the same.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({}, {}),
    "rslora": ({"rslora": True}, {"use_rslora": True}),
    "dora": ({"kind": "dora"}, {"use_dora": True}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


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


def adapted(folder: Path, lora: LoraConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> Transformer:
    """Our model with an adapter whose B is not the zeros of its start."""
    model = load_model_folder(folder, dtype=dtype)
    model.compute_dtype = dtype
    attach(model, lora, seed)
    generator = torch.Generator().manual_seed(seed + 7)
    with torch.no_grad():
        for layer in adapter_layers(model).values():
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) * 0.1)
            if isinstance(layer, DoraLinear):
                layer.magnitude.mul_(1 + 0.2 * torch.rand(layer.magnitude.shape, generator=generator))
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


def largest(logits: list[Tensor]) -> float:
    return max(x.abs().max().item() for x in logits)


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


@kinds
@cases
def test_an_exported_adapter_gives_equal_logits_in_peft(
    family: str, targets: Any, theirs: Any, kind: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, alpha=5, targets=targets, **KINDS[kind][0])
    model = adapted(base, lora)
    reference = loaded_by_peft(base, save_adapter(model, lora, base, tmp_path / "adapter"))
    logits = reference_logits(reference)
    assert difference(model.logits(DOCUMENTS), logits) < 1e-4
    assert difference(load_model_folder(base).logits(DOCUMENTS), logits) > 0.1, "the adapter does something"


@pytest.mark.parametrize("kind", ["lora", "dora"])
@cases
def test_the_tensors_are_those_that_peft_itself_would_make(
    family: str, targets: Any, theirs: Any, kind: str, folder: Callable[[str], Path]
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, alpha=5, targets=targets, **KINDS[kind][0])
    tensors, _ = peft_state(adapted(base, lora), lora, str(base))
    common = {"target_modules": theirs, "task_type": "CAUSAL_LM", "fan_in_fan_out": family == "gpt2"}
    reference = get_peft_model(reference_base(base), PeftConfig(r=3, lora_alpha=5, **common, **KINDS[kind][1]))
    names = {n: tuple(tensor.shape) for n, tensor in get_peft_model_state_dict(reference).items()}
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == names
    model = adapted(base, lora)
    ours = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert ours == reference.get_nb_trainable_parameters()[0] == adapter_parameters(model.config, lora)


@pytest.mark.parametrize(
    ("family", "targets"), [("llama", "all-linear"), ("llama", ["q_proj", "v_proj"]), ("gpt2", "all-linear")]
)
@kinds
def test_gradients_are_those_of_peft(
    family: str, targets: Any, kind: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, targets=targets, **KINDS[kind][0])
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
        if isinstance(layer, DoraLinear):
            layer.magnitude.data = layer.magnitude.grad
    found, _ = peft_state(model, lora, "")
    gradients = {}
    for name, parameter in reference.named_parameters():
        if "lora_" in name:
            gradients[name.replace("_vector.default.weight", "_vector").replace(".default.", ".")] = parameter.grad
    assert set(found) == set(gradients)
    for name, gradient in gradients.items():
        assert gradient is not None and gradient.abs().max() > 0
        assert (found[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", BASES)
def test_a_fresh_adapter_changes_nothing_and_depends_on_the_seed_alone(
    family: str, kind: str, folder: Callable[[str], Path]
) -> None:
    plain, models = load_model_folder(folder(family)), []
    for seed in (4, 4, 5):
        model = load_model_folder(folder(family))
        attach(model, LoraConfig(rank=2, **KINDS[kind][0]), seed)
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


@kinds
@cases
def test_merged_equals_unmerged(
    family: str, targets: Any, theirs: Any, kind: str, folder: Callable[[str], Path]
) -> None:
    model = adapted(folder(family), LoraConfig(rank=3, targets=targets, **KINDS[kind][0]))
    before = model.logits(DOCUMENTS)
    names = [name for name, _ in load_model_folder(folder(family)).named_parameters()]
    merge(model)
    assert difference(model.logits(DOCUMENTS), before) < 1e-5 * largest(before)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(p.requires_grad for p in model.parameters())


@kinds
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merging_is_what_peft_merges(family: str, kind: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    base, lora = folder(family), LoraConfig(rank=2, **KINDS[kind][0])
    model = adapted(base, lora)
    reference = loaded_by_peft(base, save_adapter(model, lora, base, tmp_path / "adapter")).merge_and_unload()
    merge(model)
    assert difference(model.logits(DOCUMENTS), reference_logits(reference)) < 1e-4


@kinds
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unmerging_brings_back_the_very_bits(
    family: str, kind: str, dtype: torch.dtype, folder: Callable[[str], Path]
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, targets=["qkv", "down"], **KINDS[kind][0])
    model, plain = adapted(base, lora, dtype=dtype), load_model_folder(base, dtype=dtype).state_dict()
    before, logits = {n: (p.clone(), p.requires_grad) for n, p in model.named_parameters()}, model.logits(DOCUMENTS)
    for _ in range(2):
        merge(model, keep=True)
        merged = model.logits(DOCUMENTS)
        assert difference(merged, logits) < TOLERANCE[dtype] * largest(logits)
        weights = model.state_dict()
        assert set(weights) == set(plain), "merged, it looks like a plain model"
        changed = {name for name in plain if not torch.equal(weights[name], plain[name])}
        assert changed == {n for n in plain if n.endswith((".qkv.weight", ".down.weight"))}
        assert not any(p.requires_grad for n, p in model.named_parameters() if n in changed)
        unmerge(model)
        after = dict(model.named_parameters())
        assert list(after) == list(before)
        for name, (values, trained) in before.items():
            assert torch.equal(after[name], values) and after[name].requires_grad == trained
        assert difference(model.logits(DOCUMENTS), logits) == 0


def test_what_is_held_aside_moves_with_the_model(folder: Callable[[str], Path]) -> None:
    model = adapted(folder("llama"), LoraConfig(rank=2))
    merge(model, keep=True)
    model.to(torch.float64)
    unmerge(model)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_bfloat16_base_keeps_its_dtype_when_merged(kind: str, folder: Callable[[str], Path]) -> None:
    narrow = adapted(folder("llama"), LoraConfig(rank=2, **KINDS[kind][0]), dtype=torch.bfloat16)
    for layer in adapter_layers(narrow).values():
        assert {p.dtype for n, p in layer.named_parameters() if "base" not in n} == {torch.float32}
    unmerged = narrow.logits(DOCUMENTS)
    merge(narrow)
    assert {p.dtype for p in narrow.parameters()} == {torch.bfloat16}
    assert difference(narrow.logits(DOCUMENTS), unmerged) < TOLERANCE[torch.bfloat16] * largest(unmerged)


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize(
    ("family", "targets"), [("llama", "all-linear"), ("llama", ["v_proj", "up"]), ("gpt2", "all-linear")]
)
def test_a_stored_adapter_comes_back_bit_for_bit(
    family: str, targets: Any, kind: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    base, lora = folder(family), LoraConfig(rank=3, targets=targets, **KINDS[kind][0])
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
    assert LoraConfig(rank=16, rslora=True).scale == 2
    assert LoraConfig(rank=64, alpha=4, rslora=True).scale == 0.5


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


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_training_leaves_the_base_alone(kind: str, folder: Callable[[str], Path]) -> None:
    base, lora = folder("gpt2"), LoraConfig(rank=2, dropout=0.1, **KINDS[kind][0])
    model, plain = load_model_folder(base), load_model_folder(base).state_dict()
    attach(model, lora, 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == adapter_parameters(model.config, lora)
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    losses = [step(model.train(), optimizer) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    for name, layer in adapter_layers(model).items():
        assert torch.equal(layer.base.weight, plain[f"{name}.weight"])
        assert torch.equal(layer.base.bias, plain[f"{name}.bias"])
        assert layer.base.weight.grad is None and layer.base.bias.grad is None
    assert torch.equal(model.embedding.token.weight, plain["embedding.token.weight"])


def step(model: Transformer, optimizer: torch.optim.Optimizer) -> float:
    document = torch.tensor(DOCUMENTS[0])
    places, ones = torch.arange(len(document) - 1), torch.ones(len(document) - 1)
    loss, count = model.loss(document[:-1], places, [0, len(document) - 1], document[1:], ones)
    optimizer.zero_grad()
    (loss / count).backward()
    optimizer.step()
    return (loss / count).item()


def test_dropout_is_of_what_the_update_reads_and_of_nothing_else(folder: Callable[[str], Path]) -> None:
    lora = LoraConfig(rank=2, dropout=0.5, targets=["down"])
    model = adapted(folder("llama"), lora)
    (layer, *_) = adapter_layers(model).values()
    x = torch.randn(4, layer.base.inputs)
    still = layer.eval()(x)
    assert torch.equal(layer(x), still)
    torch.manual_seed(11)
    moving = layer.train()(x)
    torch.manual_seed(11)
    kept = torch.nn.functional.dropout(torch.ones_like(x), 0.5)
    # All that differs went through the mask.
    torch.testing.assert_close(moving - layer.base(x), (x * kept) @ layer.delta().T)
    torch.manual_seed(11)
    assert torch.equal(layer(x), moving), "the same generator's state gives the same dropout"


@kinds
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("targets", ["all-linear", ["qkv", "down"]])
def test_one_pass_gives_the_gradients_of_two(
    family: str, kind: str, targets: Any, folder: Callable[[str], Path]
) -> None:
    """Where the base is trained too, its own pass and the adapter's are apart, and autograd adds up what they say."""
    lora = LoraConfig(rank=3, targets=targets, **KINDS[kind][0])
    results = []
    for apart in (False, True):
        model = adapted(folder(family), lora)
        document = torch.tensor(DOCUMENTS[0])
        for layer in adapter_layers(model).values():
            layer.base.weight.requires_grad_(apart)
        model.embedding.token.weight.requires_grad_(True)
        count = len(document) - 1
        loss, _ = model.loss(document[:-1], torch.arange(count), [0, count], document[1:], torch.ones(count))
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if ".base." not in n and p.grad is not None}
        results.append({"loss": loss.detach(), **gradients})
    assert results[0].keys() == results[1].keys() and "embedding.token.weight" in results[0]
    for name, gradient in results[0].items():
        assert (results[1][name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


def test_a_row_length_is_that_of_weight_and_update_together(folder: Callable[[str], Path]) -> None:
    """By the definition: the sum itself, row by row, in joined projections of which the middle one has no adapter."""
    lora = LoraConfig(rank=3, targets=["q_proj", "v_proj"], kind="dora")
    for layer in adapter_layers(adapted(folder("llama"), lora)).values():
        assert isinstance(layer, DoraLinear)
        together = (layer.base.weight + layer.delta()).double()
        q, k, v = layer.segments_split
        lengths = together.norm(dim=1)
        adapted_rows = torch.cat([torch.arange(q), torch.arange(q + k, q + k + v)])
        wanted = together.clone()
        wanted[adapted_rows] *= (layer.magnitude / lengths[adapted_rows]).unsqueeze(1)
        torch.testing.assert_close(layer.merged(layer.base.weight).double(), wanted, rtol=1e-5, atol=1e-6)
        middle = slice(q, q + k)
        assert torch.equal(layer.merged(layer.base.weight)[middle], layer.base.weight[middle])
        x = torch.randn(5, layer.base.inputs)
        torch.testing.assert_close(layer(x).double(), x.double() @ wanted.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_row_length_costs_no_weight_in_float32(training: bool, folder: Callable[[str], Path]) -> None:
    """In a pass with few tokens nothing as large as the weight is made, but for one in bfloat16 with its rows grown."""
    model = adapted(folder("llama"), LoraConfig(rank=2, kind="dora"), dtype=torch.bfloat16)
    layer = adapter_layers(model)["layers.0.feedforward.up"]
    x = torch.randn(3, layer.base.inputs).bfloat16()
    sizes: dict[torch.dtype, list[int]] = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                sizes.setdefault(out.dtype, []).append(out.numel())
            return out

    with Watch(), torch.set_grad_enabled(training):
        out = layer(x)
        if training:
            out.sum().backward()
    assert 0 < max(sizes[torch.float32]) < layer.base.weight.numel() / 2
    assert max(sizes[torch.bfloat16]) <= layer.base.weight.numel()


def test_bfloat16_sees_a_small_change_of_a_length(folder: Callable[[str], Path]) -> None:
    """A thousandth is less than bfloat16's own step at 1, and still reaches the outputs, half the time by one step."""
    model = adapted(folder("llama"), LoraConfig(rank=2, kind="dora", targets=["up"]), dtype=torch.bfloat16)
    layer = adapter_layers(model)["layers.0.feedforward.up"]
    x = torch.randn(64, layer.base.inputs).bfloat16()
    with torch.no_grad():
        before = layer(x).float()
        layer.magnitude.mul_(1.001)
        after = layer(x).float()
    large = before.abs() > 0.5
    assert (after / before)[large].mean().item() == pytest.approx(1.001, abs=3e-4)


@pytest.mark.parametrize("targets", [["self_attn.q_proj", "mlp.down_proj"], "model.layers.1.self_attn.o_proj"])
def test_targets_may_be_named_by_their_last_few_names(targets: Any, folder: Callable[[str], Path]) -> None:
    base = folder("llama")
    tensors, _ = peft_state(adapted(base, LoraConfig(targets=targets)), LoraConfig(targets=targets), "")
    theirs = [targets] if isinstance(targets, str) else targets
    reference = get_peft_model(reference_base(base), PeftConfig(target_modules=theirs, r=16))
    assert set(tensors) == set(get_peft_model_state_dict(reference))
