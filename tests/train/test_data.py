"""The run's data: what a name in data.train, data.mix or data.validation stands for, and how often it is passed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ownlm.config import merge
from ownlm.errors import ConfigError, DataError
from ownlm.tokens.dataset import Part, write_dataset
from ownlm.tokens.shards import ShardWriter
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.data import TrainingData, prepare_data
from ownlm.train.setup import set_up

pytestmark = pytest.mark.usefixtures("undrawn")

Prepare = Callable[..., TrainingData]


def texts_of(path: Path) -> list[str]:
    return [json.loads(row)["text"] for row in path.read_text().split("\n") if row]


def write_part(folder: Path, tokenizer: Tokenizer, texts: Sequence[str], may_be_empty: bool = False) -> None:
    info = {"tokenizer": tokenizer.fingerprint, "kind": "text", "dropped": {"too dull": {"documents": 1, "tokens": 9}}}
    with ShardWriter(folder, tokenizer.vocab_size, info, may_be_empty=may_be_empty) as writer:
        for text in texts:
            writer.add([*tokenizer.encode(text), tokenizer.eos_id])


@pytest.fixture
def built(corpus: Path, tmp_path: Path) -> Path:
    """A built data set: "many" and, twice as heavy and passed at most twice, "few"; validation of "many" alone."""
    folder = tmp_path / "built"
    shutil.copytree(corpus / "tokenizer", folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    texts = texts_of(corpus / "train.jsonl")
    write_part(folder / "train" / "many", tokenizer, texts[:50])
    write_part(folder / "train" / "few", tokenizer, texts[50:])
    write_part(folder / "validation" / "many", tokenizer, texts_of(corpus / "held.jsonl"))
    parts = [Part("many", folder / "train" / "many"), Part("few", folder / "train" / "few", 2.0, 2.0)]
    write_dataset(folder, {"train": parts, "validation": [Part("many", folder / "validation" / "many")]}, kind="text")
    return folder


@pytest.fixture
def prepared(settings: dict[str, Any], built: Path) -> Prepare:
    """Prepares the data of the usual run, with these entries under ``data``, and the tokenizer that they bring."""
    settings = {key: value for key, value in settings.items() if key not in ("data", "tokenizer")}

    def prepare(data: dict[str, Any], said: list[str] | None = None, **changes: Any) -> TrainingData:
        config = read_train_config(settings | {"data": data} | changes)
        said = [] if said is None else said
        return prepare_data(config, set_up(config), said.append)

    return prepare


def epoch_tokens(data: TrainingData) -> list[int]:
    counts = data.loader.counts(data.loader.epoch_pieces(0))
    return [trained + masked for trained, masked in counts]


def test_a_built_data_set_is_its_parts_as_a_mix_would_have_them(prepared: Prepare, built: Path, corpus: Path) -> None:
    data = prepared({"train": str(built)})
    assert [source.name for source in data.sources] == [f"{built}/many", f"{built}/few"]
    entries = [
        {"dataset": str(built / "train" / "many"), "weight": 1.0, "epochs": 1},
        {"dataset": str(built / "train" / "few"), "weight": 2.0, "epochs": 2},
    ]
    by_hand = prepared({"mix": entries}, tokenizer=str(corpus / "tokenizer"))
    assert data.loader.repeats == by_hand.loader.repeats
    assert data.loader.repeats[1] == 2.0
    for step in range(3):
        assert data.loader.batch(step).tokens.tolist() == by_hand.loader.batch(step).tokens.tolist()
    many, few = epoch_tokens(data)
    assert few == pytest.approx(2 * many, rel=0.1)


def test_without_weights_every_part_is_passed_whole(prepared: Prepare, built: Path) -> None:
    parts = [Part(name, built / "train" / name) for name in ("many", "few")]
    write_dataset(built, {"train": parts}, kind="text")
    data = prepared({"train": str(built)})
    assert data.loader.repeats == [1.0, 1.0]
    assert data.validation is None


def test_other_weights_are_other_data(prepared: Prepare, built: Path) -> None:
    before = prepared({"train": str(built)}).fingerprints
    assert prepared({"train": f"{built}/"}).fingerprints == before
    parts = [Part("many", built / "train" / "many"), Part("few", built / "train" / "few", 3.0, 2.0)]
    held = [Part("many", built / "validation" / "many")]
    write_dataset(built, {"train": parts, "validation": held}, kind="text")
    after = prepared({"train": str(built)}).fingerprints
    assert after[:-1] == before[:-1] and after != before


def test_the_validation_split_is_held_out_by_itself(prepared: Prepare, built: Path) -> None:
    said: list[str] = []
    data = prepared({"train": str(built)}, said)
    assert data.validation is not None and [len(dataset) for dataset in data.validation.datasets] == [8]
    assert said[0] == f"{built}: its validation split is held out (8 documents)"
    assert "left out of the validation (too dull)" in said[1]
    by_name = prepared({"train": str(built), "validation": str(built)})
    assert by_name.fingerprints == data.fingerprints
    other = prepared({"train": str(built), "validation": str(built / "train" / "few")}, said)
    assert other.validation is not None and other.fingerprints != data.fingerprints
    mixed = prepared({"mix": [{"dataset": str(built)}]})
    assert mixed.fingerprints == data.fingerprints
    alone = prepared({"train": str(built / "train" / "many")}, tokenizer=str(built / "tokenizer"))
    assert alone.validation is None


def test_parts_share_the_weight_of_their_entry(prepared: Prepare, built: Path, corpus: Path) -> None:
    """A built data set in a mix is one thing: its entry's weight and epochs are of its own epochs, mixed as built."""
    inside = epoch_tokens(prepared({"train": str(built)}))
    other = str(corpus / "held.jsonl")
    mix = [{"dataset": str(built), "weight": 3.0, "epochs": 2}, {"dataset": other, "weight": 1.0, "epochs": 100}]
    data = prepared({"mix": mix})
    many, few, held = epoch_tokens(data)
    assert [many, few] == pytest.approx([2 * count for count in inside], rel=0.05)
    assert many + few == pytest.approx(3 * held, rel=0.1)
    ledger = data.ledger(1).as_json()
    assert list(ledger["sources"]) == [f"{built}/many", f"{built}/few", other]
    assert ledger["total"]["dropped"] == {"too dull": {"documents": 2, "tokens": 18}}
    beside = prepared({"train": [str(built), other]})
    assert epoch_tokens(beside)[:2] == inside
    assert beside.loader.repeats[2] == 1.0


def test_an_entry_of_no_weight_is_left_out(prepared: Prepare, built: Path, corpus: Path) -> None:
    mix = [{"dataset": str(built), "weight": 0}, {"dataset": str(corpus / "held.jsonl")}]
    assert epoch_tokens(prepared({"mix": mix}))[:2] == [0, 0]


def test_a_run_on_a_built_data_set_needs_no_tokenizer(
    train: Callable[..., Any], settings: dict[str, Any], built: Path
) -> None:
    settings = merge({key: value for key, value in settings.items() if key != "tokenizer"}, {"steps": 2})
    run = train(settings | {"data": {"train": str(built)}}).run
    assert load_tokenizer(run.model).fingerprint == load_tokenizer(built / "tokenizer").fingerprint
    assert run.summary["val_loss"] is not None
    assert set(run.summary["ledger"]["sources"]) == {f"{built}/many", f"{built}/few"}
    with pytest.raises(ConfigError, match="a new model needs a tokenizer"):
        set_up(read_train_config(settings | {"data": {"train": str(built / "train" / "many")}}))


def test_what_does_not_fit_is_named(prepared: Prepare, built: Path, corpus: Path, bpe_of_another: Path) -> None:
    with pytest.raises(DataError, match="made with another tokenizer") as caught:
        prepared({"train": str(built)}, tokenizer=str(bpe_of_another))
    assert caught.value.where == str(built / "train" / "many")
    with pytest.raises(DataError, match="made for texts"):
        prepared({"train": str(built)}, objective={"kind": "chat"})
    write_part(built / "train" / "few", load_tokenizer(built / "tokenizer"), [], may_be_empty=True)
    with pytest.raises(DataError, match="no document"):
        prepared({"train": str(built)})
    write_dataset(built, {"train": [Part("many", built / "train" / "many")]}, kind="text")
    with pytest.raises(DataError, match="no validation split"):
        prepared({"train": str(built), "validation": str(built)})
    (built / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="format"):
        prepared({"train": str(built)})


@pytest.fixture
def bpe_of_another(tmp_path: Path) -> Path:
    from ownlm.tokens.train_bpe import train_tokenizer

    folder = tmp_path / "other"
    folder.mkdir()
    train_tokenizer(["quite other words than those"] * 9, 280).save(folder)
    return folder
