"""ONNX folders: every family and head says in ONNX Runtime what the model says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions
from ownlm.errors import MissingExtra, ModelError, OwnlmError, UserError
from ownlm.files import verify_folder
from ownlm.model import registry
from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder
from ownlm.model.export import export_model
from ownlm.model.export import onnx as exporting
from ownlm.model.export.onnx import export_onnx
from ownlm.model.families import FAMILIES, config_from_user
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

STARTER = "smollm2-135m-instruct"
# Weights so large that a small mistake shows.
SHAPE = {"layers": 2, "width": 32, "heads": 4, "vocab_size": 400, "max_positions": 128, "initializer_range": 0.2}
OTHER: dict[str, dict[str, Any]] = {
    "windows": {"family": "gemma3_text", "layers": 7, "sliding_window": 5, "kv_heads": 1},
    "softcaps": {"family": "gemma2", "sliding_window": 7, "kv_heads": 2, "attention_softcap": 2.0},
    "bands": {"family": "gpt3", "sliding_window": 6},
    "grouped": {"family": "qwen3", "kv_heads": 2, "head_width": 16, "tied_head": False},
    "one after the other": {"family": "gpt_neox", "parallel": False, "tied_head": True},
    "biases": {"family": "llama", "qkv_bias": True, "output_bias": True, "feedforward_bias": True},
    "stretched": {
        "family": "llama",
        "rope_scaling": {"kind": "llama3", "factor": 8.0, "original_max_positions": 32},
    },
    "relu": {"family": "gpt2", "activation": "relu"},
    "untied": {"family": "bert", "tied_head": False},
}
EVERY = [(family, head) for family, found in FAMILIES.items() for head in found.architectures if head != "seq2seq"]


def made(folder: Path, tokenizer: Tokenizer, **values: Any) -> Path:
    labels = {"labels": ("a", "b", "c")} if values.get("head") == "classify" else {}
    config = config_from_user({**SHAPE, **labels, **values})
    save_model_folder(random_model(config, 1), folder, tokenizer=tokenizer)
    return folder


def session(folder: Path) -> Any:
    from ownlm.model.export.onnx_session import OnnxModel

    return OnnxModel(folder, read_config(folder))


@pytest.mark.parametrize(("family", "head"), EVERY)
def test_every_family_and_head(family: str, head: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", tokenizer, family=family, head=head)
    result = export_onnx(folder, tmp_path / "out")
    assert result["max_difference"] < 1e-4
    assert result["compared_with"] == ["onnxruntime"]
    named = {"span": ["start_logits", "end_logits"], "none": ["last_hidden_state"]}.get(head, ["logits"])
    assert [name for name in result["outputs"] if not name.startswith("present")] == named
    assert ("past_key_values.1.value" in result["inputs"]) is (head == "lm")


@pytest.mark.parametrize("name", OTHER)
def test_what_a_config_may_say(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", tokenizer, **OTHER[name])
    assert export_onnx(folder, tmp_path / "out")["max_difference"] < 1e-4


@pytest.mark.parametrize(("family", "head"), [("bert", "classify"), ("llama", "classify"), ("gpt2", "span")])
def test_the_public_class_agrees(family: str, head: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = made(tmp_path / "model", tokenizer, family=family, head=head)
    export_onnx(folder, tmp_path / "out")
    ids = np.random.default_rng(0).integers(0, 300, (3, 20))
    mask = np.ones_like(ids)
    for row, length in enumerate((20, 9, 1)):
        mask[row, length:] = 0
    kind = {"classify": "AutoModelForSequenceClassification", "span": "AutoModelForQuestionAnswering"}[head]
    reference = getattr(transformers, kind).from_pretrained(folder).eval()
    reference.config.pad_token_id = None
    found = session(tmp_path / "out").run(ids, mask)
    for row, length in enumerate((20, 9, 1)):
        with torch.no_grad():
            expected = reference(torch.from_numpy(ids[row : row + 1, :length]))
        if head == "span":
            both = (expected.start_logits[0], expected.end_logits[0])
            assert all(np.allclose(a[row, :length], b, atol=1e-4) for a, b in zip(found, both, strict=True))
        else:
            assert np.allclose(found[0][row], expected.logits[0], atol=1e-4)


def test_segments_are_an_input(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import onnxruntime

    folder = made(tmp_path / "model", tokenizer, family="bert", head="classify")
    export_onnx(folder, tmp_path / "out")
    model, ids, segments = load_model_folder(folder), torch.arange(3, 15), torch.tensor([0] * 5 + [1] * 7)
    with torch.no_grad():
        hidden = model.read(ids, torch.arange(12), [0, 12], segments)
        expected = model.head(hidden[:1])
    graph = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": segments}
    (found,) = graph.run(None, {name: values.numpy()[None] for name, values in feed.items()})
    assert np.allclose(found, expected, atol=1e-5)


def test_the_folder_is_a_models_and_checks_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", tokenizer, family="llama")
    result = export_onnx(folder, tmp_path / "out")
    verify_folder(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"model.onnx", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"}
    assert result["bytes"] == (tmp_path / "out" / "model.onnx").stat().st_size
    onnx.checker.check_model(tmp_path / "out" / "model.onnx", full_check=True)
    text = "the model <|im_end|>"
    assert load_tokenizer(tmp_path / "out").encode(text) == tokenizer.encode(text)
    assert read_config(tmp_path / "out") == read_config(folder)
    assert "lineage" in json.loads((tmp_path / "out" / "ownlm.json").read_text())
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    sizes = {one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in graph.input}
    assert sizes["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert sizes["past_key_values.0.key"] == ["batch_size", 4, "past_sequence_length", 8]


def test_large_weights_stand_beside_the_graph(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "model", tokenizer, family="llama")
    monkeypatch.setattr(exporting, "INSIDE", 10_000)
    result = export_onnx(folder, tmp_path / "out")
    graph, data = tmp_path / "out" / "model.onnx", tmp_path / "out" / "model.onnx.data"
    assert result["bytes"] == graph.stat().st_size + data.stat().st_size
    # A vector of a few numbers may stay inside; the matrices may not.
    assert graph.stat().st_size < 60_000 < data.stat().st_size
    assert graph.stat().st_mode == data.stat().st_mode
    # An export replaces an older one, the file beside it included.
    monkeypatch.undo()
    export_onnx(folder, tmp_path / "out")
    assert not data.exists()


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize(("family", "head"), [("llama", "lm"), ("bert", "masked"), ("gpt2", "classify")])
def test_few_bits(kind: str, family: str, head: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    shape = {"family": family, "head": head, "width": 64, "initializer_range": 0.05, "vocab_size": 1000}
    folder = made(tmp_path / "model", tokenizer, **shape)
    whole, small = (export_onnx(folder, tmp_path / name, q) for name, q in (("out", None), ("small", kind)))
    assert small["bytes"] < 0.5 * whole["bytes"]
    assert ("divergence" in small) is (head != "classify")
    # What the codes and scales stand for, by hand.
    model, graph = load_model_folder(folder), onnx.load(tmp_path / "small" / "model.onnx").graph
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    changed = random_model(model.config, 0)
    state = dict(model.state_dict())
    for name in [name for name in weights if name.endswith(".codes")]:
        codes, scales = weights[name], weights[name.replace(".codes", ".scales")]
        bits = int(name.split(".")[-2])
        if bits == 4:
            codes = np.stack((codes & 15, codes >> 4), -1).reshape(*codes.shape[:2], -1)
        values = (codes.astype(np.float32) - 2 ** (bits - 1)) * scales[..., None]
        ours = name.removesuffix(f".{bits}.codes")
        rounded = torch.from_numpy(values.reshape(state[ours].shape))
        step = torch.from_numpy(np.abs(scales)).repeat_interleave(32, 1)
        # The value that is farthest out on the side without a code of its own loses most: a whole step.
        assert ((rounded - state[ours]).abs() <= step * (1.001 if bits == 4 else 0.501)).all()
        state[ours] = rounded
    changed.load_state_dict(state)
    ids = tokenizer.encode("The model reads what it has seen before")
    found = session(tmp_path / "small").outputs([ids])[0]
    expected = exporting.outputs(changed.eval(), ids)
    # The runtime rounds what is multiplied with it to 8 bits as well.
    assert (found - expected).abs().max() < 0.03 * max(1, expected.abs().max())


def test_a_width_that_is_no_whole_blocks_stays_in_float32(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", tokenizer, family="gpt2", width=40)
    assert export_onnx(folder, tmp_path / "out", "int8")["max_difference"] < 0.5


def test_a_graph_that_says_something_else_is_not_left(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "model", tokenizer, family="llama")
    save = onnx.save_model

    def save_badly(model: Any, *arguments: Any, **options: Any) -> None:
        first = next(one for one in model.graph.initializer if "feedforward" in one.name)
        first.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(first) * 1.01, first.name))
        save(model, *arguments, **options)

    monkeypatch.setattr(onnx, "save_model", save_badly)
    with pytest.raises(OwnlmError, match="its logits differ"):
        export_onnx(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_only_an_older_export_is_replaced(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", tokenizer, family="gpt2", layers=1)
    export_onnx(folder, tmp_path / "out")
    export_onnx(folder, tmp_path / "out")
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for other in (folder, tmp_path / "out", tmp_path / "out" / "thesis.txt"):
        with pytest.raises(UserError, match="something else stands here"):
            export_onnx(folder, other)
    assert (folder / "model.safetensors").is_file()


def test_what_has_no_graph_and_unknown_words(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shape = {"family": "marian", "head": "seq2seq", "encoder_layers": 1, "layers": 1, "start_token": 0}
    folder = made(tmp_path / "model", tokenizer, **shape)
    with pytest.raises(ModelError, match="texts from others"):
        export_onnx(folder, tmp_path / "out")
    with pytest.raises(UserError, match="did you mean 'int8'"):
        export_model(folder, "onnx", tmp_path / "out", "int9")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_its_packages_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        export_onnx("no-model-is-looked-for", tmp_path / "out")
    assert caught.value.hint == "pip install 'ownlm[onnx]'"


def test_a_full_disk_leaves_what_stood_there(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", tokenizer, family="llama")
    export_onnx(folder, tmp_path / "out")
    code = (
        "import resource, sys; from pathlib import Path; from ownlm.errors import StorageError\n"
        "from ownlm.model.export.onnx import export_onnx\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: export_onnx(sys.argv[1], Path(sys.argv[2]))\n"
        "except StorageError as error: print(error.message)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, folder, tmp_path / "out"], capture_output=True, text=True)
    assert child.stdout == "cannot write: file too large\n", child.stderr
    verify_folder(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def greedy(model: Any, prompt: list[int], stops: frozenset[int], count: int) -> list[int]:
    """Token by token, each time with the keys and values that came out."""
    logits, *past = model.run(np.array([prompt]), np.ones((1, len(prompt)), np.int64))
    found: list[int] = []
    while len(found) < count:
        found.append(int(logits[0, -1].argmax()))
        if found[-1] in stops:
            break
        mask = np.ones((1, len(prompt) + len(found)), np.int64)
        logits, *past = model.run(np.array([[found[-1]]]), mask, past)
    return found


def test_greedy_text_of_a_trained_model(trained: Callable[[dict[str, Any]], Path], tmp_path: Path) -> None:
    folder = trained({"family": "llama", "kv_heads": 2})
    export_onnx(folder, tmp_path / "out")
    model, tokenizer = load_model_folder(folder), load_tokenizer(folder)
    prompt = tokenizer.encode("The model")
    (ours,) = Engine(model, tokenizer).generate([prompt], SamplingOptions(max_tokens=40, temperature=0))
    found = greedy(session(tmp_path / "out"), prompt, tokenizer.stop_ids, 40)
    assert tokenizer.decode(found) == ours.text


@pytest.mark.parametrize("kind", [None, "int8"])
def test_the_starter_answers_the_same(kind: str | None, tmp_path: Path) -> None:
    folder = registry.cached(STARTER)
    if folder is None:
        pytest.skip(f"the starter is not here: run 'ownlm pull {STARTER}'")
    result = export_onnx(folder, tmp_path / "out", kind)
    assert result.get("divergence", 0) < 0.02
    model, tokenizer = load_model_folder(folder), load_tokenizer(folder)
    question = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    prompt = tokenizer.render(question, add_generation_prompt=True)
    (ours,) = Engine(model, tokenizer).generate([prompt], SamplingOptions(max_tokens=24, temperature=0))
    found = greedy(session(tmp_path / "out"), prompt, tokenizer.stop_ids, 24)
    assert tokenizer.decode(found) == ours.text
    assert found[-1] in tokenizer.stop_ids


def test_the_guides_example_runs(tokenizer: Tokenizer, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    code = guide.split("```python\n")[1].split("```")[0]
    folder = made(tmp_path / "model", tokenizer, family="llama", vocab_size=tokenizer.vocab_size)
    export_onnx(folder, tmp_path / "support-onnx")
    child = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    model = load_model_folder(folder)
    prompt = tokenizer.render([{"role": "user", "content": "Where is my order?"}], add_generation_prompt=True)
    (ours,) = Engine(model, tokenizer).generate([prompt], SamplingOptions(max_tokens=80, temperature=0))
    assert child.stdout.startswith(ours.text)
