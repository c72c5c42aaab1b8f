"""The library's nouns: that they are there however a room was imported first, and that they do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml

import ownlm
from ownlm.errors import ConfigError, UserError

PROMPT = "The model reads"

IMPORTS = {
    "the package alone": "import ownlm",
    "a file of the training room": "import ownlm.train.config\nimport ownlm",
    "the training room itself": "import ownlm.train\nimport ownlm",
    "two rooms by name": "import ownlm\nfrom ownlm.train.run import run_training\nfrom ownlm.train.config import TrainConfig",
}


@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
def test_every_noun_can_be_called_whatever_was_imported_first(imports: str) -> None:
    script = f"""{imports}
import sys
if {imports == "import ownlm"}:
    assert "torch" not in sys.modules, "import ownlm is instant"
from ownlm.errors import ConfigError
for name in ("load_model", "load_tokenizer", "train", "generate", "train_tokenizer"):
    assert callable(getattr(ownlm, name)), name
from ownlm import generate, load_model, load_tokenizer, train
try:
    ownlm.train({{"stepz": 1}})
except ConfigError as error:
    assert error.hint == "did you mean 'steps'?"
else:
    raise SystemExit("no error")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_noun_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lod_model'"):
        ownlm.lod_model  # noqa: B018


def test_a_model_gives_the_public_logits_of_each_document(corpus: Path) -> None:
    model = ownlm.load_model(corpus / "base", dtype="float32", device="cpu")
    reference = transformers.AutoModelForCausalLM.from_pretrained(corpus / "base").eval()
    documents = [[3, 1, 4, 1, 5, 9], [2, 6]]
    logits = model.logits(documents)
    assert [tuple(x.shape) for x in logits] == [(6, 320), (2, 320)]
    for document, found in zip(documents, logits, strict=True):
        with torch.no_grad():
            expected = reference(input_ids=torch.tensor([document])).logits[0]
        assert (found - expected).abs().max() < 1e-4
    assert model.config.family == "llama"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
def test_a_model_is_in_the_dtype_asked_for(dtype: str, corpus: Path) -> None:
    model = ownlm.load_model(str(corpus / "base"), dtype=dtype, device="cpu")
    found = {parameter.dtype for parameter in model.parameters()}
    assert found == {model.compute_dtype}
    assert dtype == "auto" or found == {getattr(torch, dtype)}
    assert model.logits([[1, 2]])[0].dtype == torch.float32


def test_wrong_names_get_the_nearest(corpus: Path) -> None:
    with pytest.raises(UserError, match="unknown dtype 'flaot32'") as raised:
        ownlm.load_model(corpus / "base", dtype="flaot32")
    assert raised.value.hint == "did you mean 'float32'?"
    with pytest.raises(UserError, match="there is no such model"):
        ownlm.load_model("models/nowhere")
    with pytest.raises(UserError, match="unknown model 'smollm2-135m-instrukt'") as raised:
        ownlm.load_tokenizer("smollm2-135m-instrukt")
    assert raised.value.hint == "did you mean 'smollm2-135m-instruct'?"


def test_a_tokenizer_reads_and_writes_text(corpus: Path) -> None:
    tokenizer = ownlm.load_tokenizer(corpus / "base")
    ids = tokenizer.encode(PROMPT)
    assert tokenizer.decode(ids) == PROMPT
    messages = [{"role": "user", "content": PROMPT}]
    prompt = tokenizer.render(messages, add_generation_prompt=True)
    whole = tokenizer.render([*messages, {"role": "assistant", "content": "Text."}])
    assert whole[: len(prompt)] == prompt


def test_training_takes_a_mapping_or_a_file_and_dotted_changes(settings: dict[str, Any], tmp_path: Path) -> None:
    mapping = ownlm.train(settings, **{"steps": 2, "optimizer.lr": 1e-3, "out": str(tmp_path / "mapping")})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**settings, "out": str(tmp_path / "file")}))
    file = ownlm.train(str(path), **{"steps": 2, "optimizer.lr": 1e-3})
    losses = [[row["loss"] for row in run.metrics if "loss" in row] for run in (mapping, file)]
    assert losses[0] == losses[1] and len(losses[0]) == 2
    assert settings["steps"] == 12, "the caller's mapping stays as it is"
    with pytest.raises(ConfigError, match="unknown key 'lrr'"):
        ownlm.train(settings, **{"optimizer.lrr": 1})

    model = ownlm.load_model(mapping.model, dtype="float32", device="cpu")
    assert len(ownlm.generate(model, [PROMPT, "A"], max_tokens=4, temperature=0)) == 2
    # A run's folder stands for the model that came out of it.
    again = ownlm.load_model(mapping.folder, dtype="float32", device="cpu")
    assert torch.equal(again.logits([[1, 2]])[0], model.logits([[1, 2]])[0])


def test_greedy_text_is_that_of_the_public_generation(corpus: Path) -> None:
    model = ownlm.load_model(corpus / "base", dtype="float32", device="cpu")
    tokenizer = ownlm.load_tokenizer(corpus / "base")
    reference = transformers.AutoModelForCausalLM.from_pretrained(corpus / "base").eval()
    prompts = [PROMPT, "Loss falls while", "Token"]
    found = ownlm.generate(model, prompts, max_tokens=12, temperature=0)
    for prompt, text in zip(prompts, found, strict=True):
        ids = torch.tensor([tokenizer.encode(prompt)])
        with torch.no_grad():
            out = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert text == tokenizer.decode(out[0, ids.shape[1] :].tolist())


def test_generation_takes_the_samplers_options(corpus: Path) -> None:
    model = ownlm.load_model(corpus / "base", dtype="float32", device="cpu")
    texts = ownlm.generate(model, [PROMPT], max_tokens=5, seed=3, n=3)
    assert len(texts) == 3 == len(set(texts))
    assert texts == ownlm.generate(model, [PROMPT], max_tokens=5, seed=3, n=3)
    with pytest.raises(ConfigError, match="unknown key 'temprature'") as raised:
        ownlm.generate(model, [PROMPT], temprature=0)
    assert raised.value.hint == "did you mean 'temperature'?"


def test_a_model_without_a_folder_needs_a_tokenizer(corpus: Path) -> None:
    from ownlm.model.checkpoint import random_model

    tokenizer = ownlm.load_tokenizer(corpus / "base")
    model = random_model(ownlm.load_model(corpus / "base").config, 0)
    with pytest.raises(UserError, match="no folder to take a tokenizer from") as raised:
        ownlm.generate(model, [PROMPT])
    assert raised.value.hint == "pass tokenizer="
    assert len(ownlm.generate(model, [PROMPT], tokenizer=tokenizer, max_tokens=3)) == 1


def test_a_tokenizer_is_trained_and_saved(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The model reads text and learns token by token. " * 30)
    made = ownlm.train_tokenizer([tmp_path / "text.txt"], 280, tmp_path / "tokenizer")
    read = ownlm.load_tokenizer(tmp_path / "tokenizer")
    assert made.vocab_size == read.vocab_size <= 280
    assert made.encode(PROMPT) == read.encode(PROMPT)
