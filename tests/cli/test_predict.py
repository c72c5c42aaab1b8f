"""``ownlm predict`` for each kind of model, and what it says where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ownlm as library
from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.tokenizer import load_tokenizer


@pytest.fixture
def model(encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny encoder with another head, as a folder."""

    def make(head: str, **changes: Any) -> Path:
        config = read_config(encoder).model_copy(update={"head": head, **changes})
        folder = tmp_path / f"{head}-{changes.get('problem', '')}"
        save_model_folder(load_model_folder(encoder, config=config, seed=3), folder, tokenizer=load_tokenizer(encoder))
        return folder

    return make


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_classes(model: Callable[..., Path], ownlm: Callable[..., Any], tmp_path: Path) -> None:
    folder = model("classify", labels=("bad", "good"))
    done = ownlm("predict", folder, "--text", "the model reads", "--text", "it learns", "--json")
    assert done.code == 0 and done.object["model"] == str(folder)
    first, second = done.object["predictions"]
    assert (first["text"], second["text"]) == ("the model reads", "it learns")
    for one in (first, second):
        assert set(one) == {"text", "label", "score", "scores", "labels"}
        assert one["score"] == one["scores"][one["label"]] and sum(one["scores"].values()) == pytest.approx(1)
    file = write(tmp_path / "a.jsonl", [{"sentence": "the model reads", "label": "good"}, {"sentence": "it learns"}])
    assert ownlm("predict", folder, "--file", file, "--json").object["predictions"] == [first, second]
    done = ownlm("predict", folder, "--text", "the model reads")
    assert done.out.split() == [first["label"], f"{first['score']:.3f}", "the", "model", "reads"]
    loaded = library.load_model(folder)
    found = library.predict(loaded, ["the model reads", ("it", "learns")])
    assert found[0].label == first["label"] and found[1].text == ("it", "learns")


def test_several_classes_and_numbers(model: Callable[..., Path], ownlm: Callable[..., Any]) -> None:
    folder = model("classify", labels=("a", "b", "c"), problem="multi")
    (one,) = ownlm("predict", folder, "--text", "the model", "--json").object["predictions"]
    assert one["labels"] == [label for label, score in one["scores"].items() if score >= 0.5]
    folder = model("classify", labels=("score",), problem="regression")
    (one,) = ownlm("predict", folder, "--text", "the model", "--json").object["predictions"]
    assert one["label"] == "score" and one["scores"] == {"score": one["score"]}


def test_answers(model: Callable[..., Path], ownlm: Callable[..., Any], tmp_path: Path) -> None:
    folder, context = model("span"), "the model reads text by word and learns"
    asked = ("--question", "what reads?", "--context", context)
    done = ownlm("predict", folder, *asked, "--null-threshold", "inf", "--max-answer", "3", "--json")
    (one,) = done.object["predictions"]
    assert set(one) == {"question", "answer", "score", "start", "end", "others"}
    assert one["answer"] == context[one["start"] : one["end"]] and len(one["answer"].split()) <= 3
    file = write(tmp_path / "a.jsonl", [{"question": "what reads?", "context": context}])
    again = ownlm("predict", folder, "--file", file, "--null-threshold", "inf", "--max-answer", "3", "--json")
    assert again.object["predictions"] == [one]
    done = ownlm("predict", folder, *asked, "--null-threshold=-1e6", "--json")
    (none,) = done.object["predictions"]
    assert (none["answer"], none["start"], none["end"]) == (None, None, None)
    assert ownlm("predict", folder, *asked, "--null-threshold=-1e6").out.startswith("(no answer)")
    found = library.predict(library.load_model(folder), [("what reads?", context)], null_threshold=float("inf"))
    assert found[0].answer in context


def test_gaps(model: Callable[..., Path], ownlm: Callable[..., Any]) -> None:
    folder = model("masked")
    done = ownlm("predict", folder, "--text", "the [MASK] reads", "--top", "3", "--json")
    (one,) = done.object["predictions"]
    assert one["text"] == "the [MASK] reads" and len(one["scores"]) == 3
    assert one["filled"] == f"the {one['label']} reads" and one["gaps"] == [one["scores"]]
    assert one["label"] in ownlm("predict", folder, "--text", "the [MASK] reads").out


def test_scores_where_the_right_ones_are_known(
    model: Callable[..., Path], ownlm: Callable[..., Any], tmp_path: Path
) -> None:
    texts = ["the model reads", "it learns", "what it has seen", "by word and token"]
    folder = model("classify", labels=("bad", "good"))

    def scores(folder: Path, rows: list[dict[str, Any]]) -> tuple[Any, Any]:
        done = ownlm("predict", folder, "--file", write(tmp_path / "a.jsonl", rows), "--score", "--json")
        return done.object.get("predictions"), done.object.get("scores", done.object.get("error"))

    right = [one["label"] for one in scores(folder, [{"text": t, "label": "bad"} for t in texts])[0]]
    flipped = [{"bad": "good", "good": "bad"}[right[0]], *right[1:]]
    measured = scores(folder, [{"text": t, "label": label} for t, label in zip(texts, flipped, strict=True)])[1]
    assert measured["accuracy"] == 0.75 and set(measured) == {"accuracy", "macro_f1", "matthews"}
    wrong = scores(folder, [{"text": "the model", "label": "goood"}])[1]
    assert "'goood' is not one of the model's classes" in wrong["message"] and wrong["where"].endswith("a.jsonl:1")
    several = model("classify", labels=("a", "b"), problem="multi")
    given = [one["labels"] for one in scores(several, [{"text": t, "a": 0, "b": 1} for t in texts])[0]]
    rows = [{"text": t, "a": int("a" in g), "b": int("b" in g)} for t, g in zip(texts, given, strict=True)]
    assert scores(several, rows)[1]["micro_f1"] == (1 if any(given) else 0)
    numbers = model("classify", labels=("score",), problem="regression")
    found = scores(numbers, [{"text": t, "score": 0} for t in texts])[0]
    rows = [{"text": t, "score": one["score"] + 2} for t, one in zip(texts, found, strict=True)]
    measured = scores(numbers, rows)[1]
    assert measured["mean_squared_error"] == pytest.approx(4) and measured["pearson"] == pytest.approx(1)
    span = model("span")
    question = {"question": "what reads?", "context": "the model reads text"}
    (answered,) = scores(span, [{**question, "answers": ["text"]}])[0]
    measured = scores(span, [{**question, "answers": [answered["answer"]] if answered["answer"] else []}])[1]
    assert measured["exact"] == measured["f1"] == 100
    done = ownlm("predict", folder, "--text", "x", "--score", "--json")
    assert done.code == 2 and "nothing to compare with" in done.object["error"]["message"]


@pytest.mark.parametrize(
    ("head", "arguments", "message", "hint"),
    [
        ("classify", ["--question", "q", "--context", "c"], "this model tells the class of a text", "--text"),
        ("span", ["--text", "x"], "this model answers questions about a text", "--question and --context"),
        ("masked", ["--question", "q", "--context", "c"], "this model fills gaps in a text", "[MASK]"),
        ("none", ["--text", "x"], "this model has no head", "fine-tune it first"),
        ("classify", ["--question", "q"], "--context is missing", "a question needs its context"),
        ("classify", [], "give one of the ways to say what to predict on", "--text, --file"),
        ("classify", ["--text", "x", "--file", "y"], "give one of the ways to say what to predict on", "--file"),
        ("classify", ["--file", "nothing.jsonl"], "there is no such file", "check the path"),
        ("classify", ["--text", " "], "text 1 is empty", "some words"),
        ("classify", ["--text", "model " * 90], "text 1 has 92 tokens, and the model reads at most 64", "--cut"),
        ("masked", ["--text", "no gap"], "text 1 has no gap", "[MASK]"),
        ("classify", ["--text", "x", "--batch-tokens", "0"], "must be at least 1", ""),
        ("classify", ["--txt", "x"], "--txt", "--text"),
        ("classify", ["--text", "x\udcff"], "a text of the command line is not UTF-8", "UTF-8 file"),
        ("span", ["--question", "\udcff", "--context", "c"], "a text of the command line is not UTF-8", "UTF-8 file"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_a_sentence(
    head: str, arguments: list[str], message: str, hint: str, model: Callable[..., Path], ownlm: Callable[..., Any]
) -> None:
    folder = model(head, **({"labels": ("a", "b")} if head == "classify" else {}))
    done = ownlm("predict", folder, *arguments, "--json")
    error = done.object["error"]
    assert done.code == 2 and message in error["message"] and hint in (error["hint"] or "")


def test_a_model_that_writes_is_sent_to_its_command(corpus: Path, ownlm: Callable[..., Any]) -> None:
    done = ownlm("predict", corpus / "base", "--text", "the model")
    assert done.code == 2 and "this model continues texts" in done.err and "ownlm generate" in done.err


def test_a_long_text_is_read_from_its_beginning_where_asked(
    model: Callable[..., Path], ownlm: Callable[..., Any]
) -> None:
    folder = model("classify", labels=("a", "b"))
    done = ownlm("predict", folder, "--text", "model " * 90, "--cut", "--json")
    (one,) = done.object["predictions"]
    (other,) = ownlm("predict", folder, "--text", "model " * 62, "--json").object["predictions"]
    assert one["scores"] == other["scores"]


def test_a_gap_is_never_cut_off(model: Callable[..., Path], ownlm: Callable[..., Any]) -> None:
    done = ownlm("predict", model("masked"), "--text", "model " * 90 + "[MASK]", "--cut", "--json")
    error = done.object["error"]
    assert done.code == 2 and "text 1 has 93 tokens" in error["message"] and error["hint"] == "shorten it"


def test_answers_are_scored_as_the_file_has_them_wherever_they_stand(
    model: Callable[..., Path], ownlm: Callable[..., Any], tmp_path: Path
) -> None:
    folder, asked = model("span"), {"question": "what reads?", "context": "the model reads text"}
    # As the official evaluation does, which looks at texts alone: an answer that stands nowhere is still one.
    rows = [{**asked, "answers": [{"text": "a cat", "answer_start": 0}]}, {**asked, "answers": []}]
    done = ownlm("predict", folder, "--file", write(tmp_path / "a.jsonl", rows), "--score", "--json")
    assert done.object["scores"]["has_exact"] == 0 and "no_exact" in done.object["scores"]


def test_texts_made_from_others(ownlm: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(corpus / "tokenizer")
    shape = {"family": "marian", "layers": 1, "width": 32, "heads": 4, "vocab_size": 320, "max_positions": 64}
    model = random_model(config_from_user({**shape, "initializer_range": 0.2, "start_token": tokenizer.eos_id}), 3)
    save_model_folder(model, tmp_path / "model", tokenizer=tokenizer)
    options = ("--max-tokens", "6", "--dtype", "float32", "--json")
    texts = ["the model reads", "a token"]
    given = [part for text in texts for part in ("--text", text)]
    made = [one["output"] for one in ownlm("predict", tmp_path / "model", *given, *options).object["predictions"]]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({"de": a, "en": b}) + "\n" for a, b in zip(texts, made, strict=True)))
    done = ownlm("predict", tmp_path / "model", "--file", file, "--score", *options).object
    assert [one["output"] for one in done["predictions"]] == made
    assert done["scores"]["exact"] == 1.0
    wrong = ownlm("predict", tmp_path / "model", "--file", file, "--score", "--target", "em", *options)
    assert wrong.code == 2 and json.loads(wrong.out)["error"]["message"] == "there is no column 'em'"
    for command in (("chat",), ("generate", "--prompt", "a")):
        refused = ownlm(command[0], tmp_path / "model", *command[1:])
        assert refused.code == 2 and "use 'ownlm predict'" in refused.err
