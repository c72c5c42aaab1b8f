"""Each command on a tiny model: its JSON keys, its files, its mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import yaml

import ownlm as library

Run = Callable[..., Any]


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Path:
    """The settings of a tiny run, as a user's file."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_models_lists_what_can_be_fetched(ownlm: Run):
    models = ownlm("models", "--json").object["models"]
    assert "smollm2-135m-instruct" in [model["name"] for model in models]
    assert "smollm2-135m-instruct" in ownlm("models").err


def test_an_unknown_model_names_the_nearest(ownlm: Run):
    outcome = ownlm("generate", "smollm2-135m-instrct", "--prompt", "x", "--json")
    assert outcome.code == 2
    assert outcome.object["error"]["hint"] == "did you mean 'smollm2-135m-instruct'?"


def test_train_gives_its_keys_its_files_and_resumes(ownlm: Run, config: Path, tmp_path: Path):
    outcome = ownlm("train", config, "steps=6", "optimizer.lr=2e-3", "--json")
    assert outcome.code == 0
    result = outcome.object
    keys = {"run", "model", "steps", "tokens", "loss", "val_loss", "tokens_per_second", "peak_memory_bytes", "ledger"}
    assert keys <= set(result)
    assert result["steps"] == 6
    run = Path(result["run"])
    assert yaml.safe_load((run / "config.yaml").read_text())["optimizer"]["lr"] == 2e-3
    for name in (
        "metrics.jsonl",
        "ledger.json",
        "run.log",
        "report.html",
        "model/config.json",
        "model/model.safetensors",
    ):
        assert (run / name).is_file()
    more = ownlm("train", config, "steps=8", "optimizer.lr=2e-3")
    assert more.code == 0
    assert "resuming at step 6" in more.err
    assert "report.html" in more.err


@pytest.mark.parametrize(
    ("override", "where", "hint"),
    [("optimzer.lr=1", "optimzer", "'optimizer'"), ("optimizer.lrr=1", "optimizer.lrr", "'lr'")],
)
def test_train_names_the_nearest_key(ownlm: Run, config: Path, override: str, where: str, hint: str):
    outcome = ownlm("train", config, override, "--json")
    assert outcome.code == 2
    error = outcome.object["error"]
    assert error["where"].startswith(where)
    assert hint in error["hint"]


@pytest.mark.parametrize("line", [["nothing.yaml"], ["steps=3"], ["config.yaml", "steps"]])
def test_train_refuses_a_wrong_line(ownlm: Run, config: Path, line: list[str]):
    outcome = ownlm("train", *line, "--json")
    assert outcome.code == 2
    assert outcome.object["error"]["message"]


def test_help_config_describes_every_field(ownlm: Run):
    outcome = ownlm("train", "--help-config")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 100 and "Annotated" not in outcome.out
    fields = ownlm("train", "--help-config", "--json").object["fields"]
    assert {"out", "optimizer.lr", "data.train", "schedule.kind", "checkpoint.keep"} <= {f["key"] for f in fields}
    for field in fields:
        assert field["description"], field["key"]
        assert field["key"] in outcome.out


def test_generate_gives_texts_and_usage(ownlm: Run, corpus: Path):
    line = ["generate", corpus / "base", "--prompt", "The model", "--max-tokens", "6", "--n", "2", "--seed", "4"]
    result = ownlm(*line, "--json").object
    assert len(result["texts"]) == 2
    tokenizer = library.load_tokenizer(corpus / "base")
    assert result["usage"]["prompt_tokens"] == len(tokenizer.encode("The model"))
    assert 2 <= result["usage"]["completion_tokens"] <= 12
    assert ownlm(*line, "--json").object["texts"] == result["texts"]
    shown = ownlm(*line)
    assert shown.out.startswith("The model" + result["texts"][0])


def test_greedy_generation_is_the_librarys(ownlm: Run, corpus: Path):
    line = ["--max-tokens", "8", "--temperature", "0", "--dtype", "float32", "--json"]
    texts = ownlm("generate", corpus / "base", "--prompt", "The model", *line).object["texts"]
    model = library.load_model(corpus / "base", dtype="float32")
    tokenizer = library.load_tokenizer(corpus / "base")
    ids = tokenizer.encode("The model")
    for _ in range(8):
        following = int(model.logits([ids])[0][-1, : tokenizer.vocab_size].argmax())
        if following in tokenizer.stop_ids:
            break
        ids.append(following)
    assert texts == [tokenizer.decode(ids)[len("The model") :]]


def test_a_draft_model_changes_no_answer(ownlm: Run, corpus: Path, tmp_path: Path):
    line = ["generate", corpus / "base", "--prompt", "The model", "--max-tokens", "12", "--seed", "4", "--json"]
    assert ownlm(*line, "--draft-model", corpus / "base").object == ownlm(*line).object
    other = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    library.tokens.tokenizer.Tokenizer.from_parts(other, eos="b").save(tmp_path / "other")
    outcome = ownlm(*line, "--draft-model", tmp_path / "other")
    assert outcome.code == 2
    error = outcome.object["error"]
    assert "another vocabulary" in error["message"] and error["where"] == str(tmp_path / "other")


def test_generate_answers_as_in_a_chat(ownlm: Run, corpus: Path):
    line = ["generate", corpus / "base", "--prompt", "Hello", "--max-tokens", "3", "--chat", "--json"]
    rendered = library.load_tokenizer(corpus / "base").render(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True
    )
    assert ownlm(*line).object["usage"]["prompt_tokens"] == len(rendered)


@pytest.mark.parametrize(
    ("option", "value"), [("--temperature", "-1"), ("--top-p", "0"), ("--max-tokens", "0"), ("--dtype", "float7")]
)
def test_generate_names_a_wrong_option(ownlm: Run, corpus: Path, option: str, value: str):
    outcome = ownlm("generate", corpus / "base", "--prompt", "x", option, value, "--json")
    assert outcome.code == 2
    assert str(outcome.object["error"]["where"]).strip("-") == option.strip("-")


def test_generate_follows_a_constraint(ownlm: Run, corpus: Path, tmp_path: Path):
    (tmp_path / "schema.json").write_text(
        '{"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}'
    )
    (tmp_path / "sums.lark").write_text('start: /[0-9]/ "+" /[0-9]/')
    line = ["generate", corpus / "base", "--prompt", "The model", "--n", "3", "--json"]
    lists = ownlm(*line, "--json-schema", tmp_path / "schema.json").object
    assert all(len(json.loads(text)) in (2, 3) for text in lists["texts"]) and set(lists["finish_reasons"]) == {"stop"}
    assert set(ownlm(*line, "--choice", "yes", "--choice", "no").object["texts"]) <= {"yes", "no"}
    assert all(len(text) == 4 and text.isdigit() for text in ownlm(*line, "--regex", r"\d{4}").object["texts"])
    assert all(text[1] == "+" for text in ownlm(*line, "--grammar", tmp_path / "sums.lark").object["texts"])


@pytest.mark.parametrize(
    ("options", "where", "message"),
    [
        (["--regex", "(a"], "--regex", "unclosed group"),
        (["--json-schema", "schema.json"], "--json-schema", "'not'"),
        (["--json-schema", "missing.json"], "missing.json", "no such file"),
        (["--regex", "a", "--choice", "b"], None, "--regex and --choice"),
        (["--frequency-penalty", "3"], "--frequency-penalty", "2"),
    ],
)
def test_generate_says_what_is_wrong_with_a_constraint(
    ownlm: Run, corpus: Path, tmp_path: Path, options: list[str], where: str | None, message: str
):
    (tmp_path / "schema.json").write_text('{"not": {}}')
    outcome = ownlm("generate", corpus / "base", "--prompt", "x", *options, "--json")
    assert outcome.code == 2
    assert outcome.object["error"]["where"] == where and message in outcome.object["error"]["message"]


def test_a_prompt_that_does_not_fit_is_an_error(ownlm: Run, corpus: Path):
    outcome = ownlm("generate", corpus / "base", "--prompt", "word " * 500, "--json")
    assert outcome.code == 2
    assert "tokens" in outcome.object["error"]["message"]


def test_a_tokenizer_is_trained_and_encodes(ownlm: Run, tmp_path: Path, corpus: Path):
    outcome = ownlm("tokenizer", "train", corpus / "train.jsonl", "--vocab-size", "300", "--out", "tok", "--json")
    assert outcome.code == 0
    result = outcome.object
    assert result["tokenizer"] == "tok"
    assert result["vocab_size"] <= 300
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tok" / "tokenizer.json"))
    assert result["vocab_size"] == reference.get_vocab_size()
    texts = [json.loads(line)["text"] for line in (corpus / "train.jsonl").read_text().split("\n") if line]
    size, count = sum(len(t.encode()) for t in texts), sum(len(reference.encode(t).ids) for t in texts)
    assert result["bytes_per_token"] == pytest.approx(size / count)
    (tmp_path / "text.txt").write_text("the model reads é 語")
    encoded = ownlm("tokenizer", "encode", "tok", "--file", "text.txt", "--json").object["ids"]
    assert encoded == reference.encode("the model reads é 語").ids
    assert ownlm("tokenizer", "encode", "tok", "--file", "text.txt").out == " ".join(map(str, encoded)) + "\n"


@pytest.mark.parametrize("line", [["nothing.txt", "--vocab-size", "300"], ["text.txt", "--vocab-size", "10"]])
def test_a_tokenizer_that_cannot_be_trained_is_an_error(ownlm: Run, tmp_path: Path, line: list[str]):
    (tmp_path / "text.txt").write_text("some text")
    outcome = ownlm("tokenizer", "train", *line, "--out", "tok", "--json")
    assert outcome.code == 2
    assert not (tmp_path / "tok").exists()


@pytest.mark.parametrize(
    "line", [["tokenizer", "train", "text.txt", "--vocab-size", "300"], ["data", "quality", "train"]]
)
def test_a_folder_that_holds_something_else_is_not_replaced(ownlm: Run, tmp_path: Path, corpus: Path, line: list[str]):
    (tmp_path / "text.txt").write_text("some text")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    if line[0] == "data":
        line = [*line, "--good", str(corpus / "train.jsonl"), "--bad", str(corpus / "held.jsonl")]
    for out in ("mine", "text.txt"):
        outcome = ownlm(*line, "--out", out, "--json")
        assert outcome.code == 2
        assert outcome.object["error"]["message"] == "something else stands here already"
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "text.txt").read_text() == "some text"


def test_a_tokenizer_is_trained_again_in_its_folder_but_not_over_a_model(ownlm: Run, tmp_path: Path, corpus: Path):
    train = ["tokenizer", "train", corpus / "train.jsonl", "--vocab-size", "300", "--out"]
    assert [ownlm(*train, "tok").code, ownlm(*train, "tok").code] == [0, 0]
    assert ownlm(*train, corpus / "base").code == 2
    assert (corpus / "base" / "model.safetensors").is_file()


def test_export_writes_the_same_model(ownlm: Run, corpus: Path, tmp_path: Path):
    result = ownlm("export", corpus / "base", "--to", "hf", "--out", "exported", "--json").object
    assert result["path"] == "exported"
    assert 0 <= result["max_difference"] < 1e-4
    assert (tmp_path / "exported" / "model.safetensors").is_file()
    wrong = ownlm("export", corpus / "base", "--to", "gguff", "--out", "x", "--json")
    assert (wrong.code, wrong.object["error"]["hint"]) == (2, "did you mean 'gguf'?")


@pytest.mark.parametrize(("to", "quantize", "name"), [("gguf", "q8_0", "model.gguf"), ("onnx", "int8", "exported")])
def test_export_for_other_programs(ownlm: Run, corpus: Path, tmp_path: Path, to: str, quantize: str, name: str):
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    line = ["export", corpus / "base", "--to", to, "--out", name]
    result = ownlm(*line, "--json").object
    assert result["path"] == name
    assert 0 <= result["max_difference"] < 1e-4
    assert (tmp_path / name).exists()
    told = ownlm(*line, "--quantize", quantize)
    assert f"Rounded to {quantize}, the model differs by" in told.err
    wrong = ownlm(*line, "--quantize", "int9", "--json")
    assert (wrong.code, wrong.object["error"]["where"]) == (2, "--quantize")


def test_data_show_is_the_batch_that_training_reads(ownlm: Run, config: Path, tmp_path: Path):
    assert ownlm("train", config, "steps=2", "--json").code == 0
    run = yaml.safe_load(config.read_text())["out"]
    shown = ownlm("data", "show", run, "--batch", "1", "--html", "batch.html", "--json").object
    lines = [json.loads(row) for row in (Path(run) / "metrics.jsonl").read_text().split("\n") if '"loss"' in row]
    assert shown["tokens"] == lines[1]["tokens"] - lines[0]["tokens"]
    assert sum(d["tokens"] for d in shown["documents"]) == shown["tokens"]
    assert shown["trained_tokens"] == sum(d["trained_tokens"] for d in shown["documents"])
    assert "position" in (tmp_path / "batch.html").read_text()
    assert ownlm("data", "show", config, "--split", "validation").code == 0
    wrong = ownlm("data", "show", run, "--split", "vaildation", "--json")
    assert (wrong.code, wrong.object["error"]["hint"]) == (2, "did you mean 'validation'?")


def test_data_show_marks_the_answers_of_conversations(ownlm: Run, corpus: Path):
    line = ["data", "show", corpus / "chats.jsonl", "--model", corpus / "base", "--kind", "chat", "--length", "128"]
    shown = ownlm(*line, "--json").object
    answers = [json.loads(row)["response"] for row in (corpus / "chats.jsonl").read_text().split("\n") if row]
    for document in shown["documents"]:
        assert any(answer in document["text"] for answer in answers)
        assert 0 < document["trained_tokens"] < document["tokens"]
    assert "«" in ownlm(*line).err


def test_data_show_of_files_needs_a_model(ownlm: Run, corpus: Path):
    outcome = ownlm("data", "show", corpus / "train.jsonl", "--json")
    assert (outcome.code, outcome.object["error"]["hint"]) == (2, "add --model NAME")


def test_an_option_without_its_value_is_one_sentence(ownlm: Run, config: Path):
    error = ownlm("train", config, "--sweep", "--json").object["error"]
    assert (error["type"], error["message"]) == ("input", "option '--sweep' requires an argument")


def test_a_number_of_gpus_needs_their_kind(ownlm: Run, config: Path):
    outcome = ownlm("plan", config, "--gpus", "2", "--json")
    assert outcome.code == 2 and "--gpu h100" in outcome.object["error"]["hint"]


def test_generate_takes_an_adapter_beside_its_base(
    ownlm: Run, chat_settings: dict[str, Any], corpus: Path, tmp_path: Path
):
    settings = chat_settings | {"steps": 8, "optimizer": {"lr": 0.3}}
    run = library.train(settings)
    ask = ("--prompt", "The model", "--temperature", "0", "--max-tokens", "12", "--json")
    merged = ownlm("generate", run.model, *ask).object["texts"]
    beside = ownlm("generate", corpus / "base", "--adapter", run.folder / "adapter", *ask).object["texts"]
    assert beside == merged != ownlm("generate", corpus / "base", *ask).object["texts"]
    for folder, message in ((corpus / "tokenizer", "no adapter_config.json"), (tmp_path / "none", "no such folder")):
        outcome = ownlm("generate", corpus / "base", "--adapter", folder, *ask)
        assert outcome.code == 2 and message in outcome.object["error"]["message"]
    # An adapter alone says what to do with it.
    assert "--adapter" in ownlm("generate", run.folder / "adapter", *ask).object["error"]["hint"]


def test_bench_serve_measures_what_it_is_asked_for(ownlm: Run, corpus: Path):
    line = ["bench", "serve", corpus / "base", "--concurrency", "1,3", "--prompt-tokens", "8", "--tokens", "4"]
    result = ownlm(*line, "--json").object
    assert [speed["requests"] for speed in result["speeds"]] == [1, 3]
    assert result["limit_tokens_per_second"] == result["bandwidth_bytes_per_second"] / result["weight_bytes"]
    shown = ownlm(*line)
    assert shown.code == 0 and "tokens/s" in shown.out + shown.err


@pytest.mark.parametrize(
    ("option", "value", "where"),
    [
        ("--concurrency", "1,x", "--concurrency"),
        ("--concurrency", "0", "--concurrency"),
        ("--tokens", "100000", "--prompt-tokens"),
        ("--weights", "int3", "--weights"),
    ],
)
def test_bench_serve_names_what_is_wrong(ownlm: Run, corpus: Path, option: str, value: str, where: str):
    outcome = ownlm("bench", "serve", corpus / "base", option, value, "--json")
    assert (outcome.code, outcome.object["error"]["where"]) == (2, where)
