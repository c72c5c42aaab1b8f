"""Promise 5, the ledger: every token of every source is counted once, and a step without a trained token is an error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import DataError, OwnlmError
from ownlm.tokens.shards import ShardWriter
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training

pytestmark = pytest.mark.usefixtures("undrawn")


@dataclass
class Counted:
    """What a file holds, counted with nothing but the tokenizer."""

    lengths: list[int]
    trained: list[int]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def count_texts(path: Path, tokenizer: Tokenizer) -> Counted:
    """Every token of a text and its end are trained, but the first: nothing comes before it."""
    lengths = [len(tokenizer.encode(row["text"])) + 1 for row in rows(path)]
    return Counted(lengths, [length - 1 for length in lengths])


def count_chats(path: Path, tokenizer: Tokenizer) -> Counted:
    """A conversation's trained tokens are those that it has beyond its prompt."""
    lengths, trained = [], []
    for row in rows(path):
        question = [{"role": "user", "content": row["prompt"]}]
        lengths.append(len(tokenizer.render([*question, {"role": "assistant", "content": row["response"]}])))
        trained.append(lengths[-1] - len(tokenizer.render(question, add_generation_prompt=True)))
    return Counted(lengths, trained)


def train(config: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], list[str]]:
    """The ledger that a run leaves, and what it said."""
    said: list[str] = []
    run = run_training(read_train_config({**config, **changes}), say=said.append)
    ledger = json.loads((run.folder / "ledger.json").read_text())
    assert ledger == run.summary["ledger"]
    return ledger, said


def adds_up(count: dict[str, Any]) -> None:
    dropped = sum(part["tokens"] for part in count["dropped"].values())
    parts = count["trained"] + count["masked"] + count["truncated"] + dropped + count["unseen"]
    assert parts == count["tokens"]
    assert min(count[key] for key in ("trained", "masked", "truncated", "unseen")) >= 0
    assert count["truncated"] == 0, "nothing is cut"


@pytest.fixture
def tokenizer(corpus: Path) -> Tokenizer:
    return load_tokenizer(corpus / "tokenizer")


@pytest.fixture
def texts(settings: dict[str, Any]) -> dict[str, Any]:
    """Texts of which most are longer than the length, for an epoch and no validation."""
    data = {"train": settings["data"]["train"], "length": 40}
    return {**settings, "steps": None, "epochs": 1, "data": data, "checkpoint": {"every": 999}, "validate": {}}


@pytest.fixture
def chats(chat_settings: dict[str, Any]) -> dict[str, Any]:
    return {**chat_settings, "steps": None, "epochs": 1, "checkpoint": {"every": 999}, "validate": {}}


@pytest.mark.parametrize("epochs", [1, 3])
def test_texts_passed_whole_are_trained_but_for_their_first_tokens(
    epochs: int, texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer
) -> None:
    ledger, _ = train(texts, epochs=epochs)
    counted = count_texts(corpus / "train.jsonl", tokenizer)
    assert max(counted.lengths) > 40, "some texts are split"
    adds_up(ledger["total"])
    found = ledger["sources"][texts["data"]["train"]]
    assert found["documents"] == len(counted.lengths) == 60
    assert found["tokens"] == epochs * counted.tokens
    assert found["trained"] == epochs * sum(counted.trained)
    assert found["masked"] == epochs * len(counted.lengths)
    assert (found["unseen"], found["dropped"]) == (0, {})


@pytest.mark.parametrize("epochs", [1, 2])
def test_chats_train_their_answers_alone(
    epochs: int, chats: dict[str, Any], corpus: Path, tokenizer: Tokenizer
) -> None:
    ledger, _ = train(chats, epochs=epochs)
    counted = count_chats(corpus / "chats.jsonl", tokenizer)
    adds_up(ledger["total"])
    assert ledger["total"]["tokens"] == epochs * counted.tokens
    assert ledger["total"]["trained"] == epochs * sum(counted.trained) > 0
    assert ledger["total"]["masked"] == epochs * (counted.tokens - sum(counted.trained)) > 0


def test_chats_that_are_too_long_are_dropped_with_the_reason(
    chats: dict[str, Any], corpus: Path, tokenizer: Tokenizer
) -> None:
    counted = count_chats(corpus / "chats.jsonl", tokenizer)
    limit = sorted(counted.lengths)[30]
    long = [length for length in counted.lengths if length > limit]
    assert 0 < len(long) <= 9
    data = {**chats["data"], "length": limit, "too_long": "drop"}
    ledger, said = train(chats, data=data)
    adds_up(ledger["total"])
    reason = f"longer than {limit} tokens"
    assert ledger["total"]["dropped"] == {reason: {"documents": len(long), "tokens": sum(long)}}
    assert ledger["total"]["documents"] == 40, "those dropped are among the documents"
    assert ledger["total"]["tokens"] == counted.tokens
    kept = [trained for length, trained in zip(counted.lengths, counted.trained, strict=True) if length <= limit]
    assert ledger["total"]["trained"] == sum(kept)
    assert any(f"{sum(long):,} dropped in {len(long)} documents ({reason})" in line for line in said)


def test_what_is_dropped_from_the_validation_is_said(chats: dict[str, Any], corpus: Path, tokenizer: Tokenizer) -> None:
    limit = sorted(count_chats(corpus / "chats.jsonl", tokenizer).lengths)[38]
    name = chats["data"]["train"]
    data = {"train": name, "validation": name, "length": limit, "too_long": "drop"}
    _, said = train(chats, data=data, epochs=None, steps=1)
    assert f"{name}: 1 documents are left out of the validation (longer than {limit} tokens)" in said


def test_a_dropped_chat_counts_once_however_many_passes_there_are(
    chats: dict[str, Any], tokenizer: Tokenizer, corpus: Path
) -> None:
    counted = count_chats(corpus / "chats.jsonl", tokenizer)
    limit = sorted(counted.lengths)[30]
    kept = sum(length for length in counted.lengths if length <= limit)
    ledger, _ = train(chats, epochs=2, data={**chats["data"], "length": limit, "too_long": "drop"})
    adds_up(ledger["total"])
    assert ledger["total"]["tokens"] == 2 * kept + (counted.tokens - kept)


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_a_run_that_ends_before_its_data_says_what_is_unseen(
    steps: int, texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer
) -> None:
    ledger, _ = train(texts, epochs=None, steps=steps)
    counted = count_texts(corpus / "train.jsonl", tokenizer)
    adds_up(ledger["total"])
    passes = ledger["total"]["tokens"] / counted.tokens
    assert passes == 1 and ledger["total"]["unseen"] > 0
    metrics = [json.loads(line) for line in (Path(texts["out"]) / "metrics.jsonl").read_text().split("\n")[:-1]]
    assert ledger["total"]["trained"] == metrics[-1]["trained_tokens"]


def test_one_and_a_half_epochs_are_planned_as_two(texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer) -> None:
    ledger, _ = train(texts, epochs=1.5)
    counted = count_texts(corpus / "train.jsonl", tokenizer)
    adds_up(ledger["total"])
    assert ledger["total"]["tokens"] == 2 * counted.tokens
    assert 0.2 * counted.tokens < ledger["total"]["unseen"] < 0.8 * counted.tokens


def test_a_mixture_counts_each_source(
    texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first, second = str(corpus / "train.jsonl"), str(corpus / "held.jsonl")
    mix = [{"dataset": first, "weight": 1}, {"dataset": second, "weight": 1, "epochs": 2}]
    ledger, _ = train(texts, data={"mix": mix, "length": 40})
    assert list(ledger["sources"]) == [first, second]
    for count in (*ledger["sources"].values(), ledger["total"]):
        adds_up(count)
    for key in ("documents", "tokens", "trained", "masked", "unseen"):
        assert ledger["total"][key] == sum(count[key] for count in ledger["sources"].values())
    # The smaller source is passed twice; the larger gives as much as that, in whole pieces of average length.
    counted = count_texts(corpus / "held.jsonl", tokenizer)
    assert ledger["sources"][second]["tokens"] == 2 * counted.tokens
    assert ledger["sources"][second]["trained"] == 2 * sum(counted.trained)
    assert ledger["sources"][first]["tokens"] == pytest.approx(2 * counted.tokens, rel=0.15)


def test_two_files_without_weights_are_each_passed_whole(
    texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer
) -> None:
    names = [str(corpus / "train.jsonl"), str(corpus / "held.jsonl")]
    ledger, _ = train(texts, data={"train": names, "length": 40}, epochs=2)
    for name in names:
        counted = count_texts(Path(name), tokenizer)
        assert ledger["sources"][name]["tokens"] == 2 * counted.tokens
        assert ledger["sources"][name]["trained"] == 2 * sum(counted.trained)


def test_an_early_stop_leaves_the_rest_unseen(texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer) -> None:
    data = {**texts["data"], "validation": str(corpus / "held.jsonl")}
    hopeless = {"optimizer": {"lr": 1.0}, "validate": {"every": 1, "patience": 2}}
    ledger, said = train(texts, epochs=5, data=data, **hopeless)
    assert any(line.startswith("stopping early") for line in said)
    counted = count_texts(corpus / "train.jsonl", tokenizer)
    adds_up(ledger["total"])
    assert ledger["total"]["tokens"] == 5 * counted.tokens
    assert ledger["total"]["unseen"] > 3 * counted.tokens


def test_the_ledger_is_said_before_the_first_step_and_saved_with_every_checkpoint(
    texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer
) -> None:
    out = Path(texts["out"])
    _, said = train(texts, checkpoint={"every": 3, "keep": 9})
    counted = count_texts(corpus / "train.jsonl", tokenizer)
    line = next(line for line in said if "to come" in line)
    assert f"{counted.tokens:,} tokens in 60 documents: {counted.tokens:,} to come" in line
    trained = {}
    for row in (json.loads(line) for line in (out / "metrics.jsonl").read_text().split("\n")[:-1]):
        trained[row["step"]] = row["trained_tokens"]
    folders = list((out / "checkpoints").iterdir())
    assert len(folders) >= 3
    for folder in folders:
        state = json.loads((folder / "training.json").read_text())
        adds_up(state["ledger"]["total"])
        assert state["ledger"]["total"]["trained"] == trained[state["step"]]


def test_a_longer_plan_keeps_what_was_seen(texts: dict[str, Any], corpus: Path, tokenizer: Tokenizer) -> None:
    train(texts, epochs=1)
    ledger, _ = train(texts, epochs=2)
    counted = count_texts(corpus / "train.jsonl", tokenizer)
    adds_up(ledger["total"])
    assert ledger["total"]["tokens"] == 2 * counted.tokens
    assert (ledger["total"]["trained"], ledger["total"]["unseen"]) == (2 * sum(counted.trained), 0)


def written(folder: Path, tokenizer: Tokenizer, documents: list[list[bool]], **notes: Any) -> str:
    """A tokenized dataset of documents with these flags."""
    info = {"tokenizer": tokenizer.fingerprint, **notes}
    with ShardWriter(folder, tokenizer.vocab_size, info) as writer:
        for number, flags in enumerate(documents):
            writer.add([(number + place) % 200 for place in range(len(flags))], flags)
    return str(folder)


def test_what_was_dropped_when_a_dataset_was_made_is_counted(
    texts: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    dropped = {"a duplicate": {"documents": 2, "tokens": 70}}
    name = written(tmp_path / "made", tokenizer, [[True] * 30] * 5, dropped=dropped)
    ledger, _ = train(texts, data={"train": name})
    adds_up(ledger["total"])
    assert ledger["total"]["dropped"] == dropped
    assert (ledger["total"]["documents"], ledger["total"]["tokens"]) == (7, 220)


def test_data_with_nothing_to_train_is_refused(texts: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path) -> None:
    name = written(tmp_path / "untrained", tokenizer, [[False] * 9, [True] + [False] * 5])
    with pytest.raises(DataError, match="no token of the training data is to be trained") as raised:
        train(texts, data={"train": name})
    assert raised.value.where == name
    assert not (Path(texts["out"]) / "metrics.jsonl").exists()


def test_a_step_with_nothing_to_train_is_an_error_and_no_loss_of_zero(
    texts: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    name = written(tmp_path / "half", tokenizer, [[False] * 60, [True] * 60])
    with pytest.raises(OwnlmError, match=r"step [12] has no token to train on"):
        train(texts, data={"train": name, "length": 60}, batch_tokens=64)
    metrics = Path(texts["out"]) / "metrics.jsonl"
    assert not metrics.exists() or all(json.loads(line)["loss"] > 0 for line in metrics.read_text().split("\n")[:-1])


def test_validation_with_nothing_to_measure_is_an_error(
    texts: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    name = written(tmp_path / "untrained", tokenizer, [[False] * 9])
    with pytest.raises(OwnlmError, match="validation data has no token to measure"):
        train(texts, data={**texts["data"], "validation": name})
