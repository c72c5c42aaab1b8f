"""A wrong setting gets one sentence that names the key and, where there is one, the nearest right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ownlm.config import merge
from ownlm.errors import ConfigError, UserError
from ownlm.train.config import TrainConfig, plain, read_train_config

MODEL = {"family": "gpt2", "layers": 1, "width": 8, "heads": 1, "vocab_size": 300, "max_positions": 8}
SOUND: dict[str, Any] = {"model": MODEL, "tokenizer": "tokenizer", "data": {"train": "a.txt"}}


def refused(changes: dict[str, Any], base: dict[str, Any] = SOUND) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        read_train_config(base, changes)
    assert raised.value.exit_code == 2 and not raised.value.message.endswith(".")
    return raised.value


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("batch_token", "batch_tokens"),
        ("epoch", "epochs"),
        ("optimzer", "optimizer"),
        ("optimizer.weight_decy", "weight_decay"),
        ("data.validaton", "validation"),
        ("schedule.warm_up", "warmup"),
        ("validate.patient", "patience"),
        ("checkpoint.keeps", "keep"),
        ("objective.knd", "kind"),
        ("adapter.rnak", "rank"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(key: str, nearest: str) -> None:
    error = refused({key: 1}, base={"base": "x", "data": {"train": "a.txt"}, "adapter": {}})
    assert error.where == key
    assert error.message == f"unknown key '{key.split('.')[-1]}'"
    assert error.hint == f"did you mean '{nearest}'?"


def test_a_key_of_a_mixture_is_named_too() -> None:
    error = refused({"data": {"mix": [{"dataset": "a.txt"}, {"dataset": "b.txt", "wieght": 2}]}})
    assert (error.where, error.hint) == ("data.mix.1.wieght", "did you mean 'weight'?")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("optimizer.kind", "adam", "did you mean 'adamw'?"),
        ("schedule.kind", "cosin", "did you mean 'cosine'?"),
        ("objective.kind", "casual", "did you mean 'causal'?"),
        ("precision", "fp16", "did you mean 'bf16'?"),
        ("adapter.kind", "lorra", "did you mean 'lora'?"),
        ("data.too_long", "crop", "did you mean 'drop'?"),
        ("data.too_long", "split", "known: cut, drop, refuse"),
        ("track", ["tensorbord"], "did you mean 'tensorboard'?"),
        ("track", "tensorbord", "did you mean 'tensorboard'?"),
    ],
)
def test_a_value_that_is_no_choice_is_named_with_the_nearest(key: str, value: Any, hint: str) -> None:
    error = refused({key: value}, base={"base": "x", "data": {"train": "a.txt"}})
    assert str(error.where).startswith(key) and error.hint == hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.lr", 0),
        ("optimizer.lr", -1e-3),
        ("optimizer.lr", float("nan")),
        ("optimizer.lr", float("inf")),
        ("optimizer.lr", "fast"),
        ("optimizer.betas", [0.9, 1.0]),
        ("optimizer.betas", [0.9]),
        ("optimizer.clip", 0),
        ("optimizer.weight_decay", -0.1),
        ("schedule.warmup", -1),
        ("schedule.floor", 1.5),
        ("schedule.decay", 2),
        ("steps", 0),
        ("steps", 2.5),
        ("epochs", 0),
        ("epochs", float("inf")),
        ("epochs", float("nan")),
        ("batch_tokens", 1),
        ("micro_batch_tokens", 0),
        ("micro_batch_tokens", -5),
        ("micro_batch_tokens", 2.5),
        ("micro_batch_tokens", "atuo"),
        ("micro_batch_tokens", True),
        ("dropout", 1.0),
        ("seed", -1),
        ("seed", 2**32),
        ("validate.every", 0),
        ("validate.patience", 0),
        ("checkpoint.keep", 0),
        ("data.train", 5),
        ("data.mix", [{"dataset": "a", "epochs": 0}]),
        ("data.mix", [{"dataset": "a", "weight": -1}]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_at_its_key(key: str, value: Any) -> None:
    error = refused({key: value})
    assert error.where is not None
    assert error.where.split(".")[: key.count(".") + 1] == key.split("."), error
    assert "got" in error.message or "is missing from this list" in error.message


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 3, "epochs": 2}, "give steps or epochs, not both"),
        ({"base": "x"}, "give base (a model to start from) or model (the shape of a new one), not both"),
        ({"model": None}, "base (a model to start from) or model (the shape of a new one) is missing"),
        ({"adapter": {}}, "an adapter needs a base: random weights are trained whole"),
        ({"data": {}}, "data.train is missing: name the files or the dataset folder to train on"),
        ({"data": {"train": []}}, "data.train is missing: name the files or the dataset folder to train on"),
        ({"data": {"train": "a", "mix": [{"dataset": "b"}]}}, "give data.train or data.mix, not both"),
        ({"data.length": 1}, "length must be at least 2: one token to read and one to predict"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], sentence: str) -> None:
    assert refused(changes).message == sentence


def test_a_file_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {family: gpt2}\ntokenizer: t\ndata:\n  trian: a.txt\n")
    with pytest.raises(ConfigError) as raised:
        read_train_config(path)
    assert raised.value.where == f"data.trian in {path}:4"
    path.write_text("steps: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML") as raised:
        read_train_config(path)
    assert str(raised.value.where).startswith(f"{path}:")
    with pytest.raises(UserError, match="no such file"):
        read_train_config(tmp_path / "nothing.yaml")


def test_one_name_is_a_list_of_one() -> None:
    config = read_train_config(SOUND, {"data.validation": "b.txt"})
    assert (config.data.train, config.data.validation) == (["a.txt"], ["b.txt"])


def test_a_written_config_reads_back_as_the_same_config() -> None:
    config = read_train_config(SOUND, {"optimizer.lr": "3e-5", "validate.patience": 3, "epochs": 0.5})
    assert config.optimizer.lr == 3e-5
    text = yaml.safe_dump(plain(config))
    assert read_train_config(yaml.safe_load(text)) == config
    assert "validate_" not in text


def test_every_setting_has_a_description_and_a_default() -> None:
    from ownlm.config import describe

    rows = describe(TrainConfig)
    assert len(rows) > 40
    for key, _, default, description in rows:
        assert description.endswith("."), key
        assert default != "required" or key in ("data.mix.dataset", "objective.teacher"), key


def test_overrides_do_not_change_the_mapping_they_are_laid_over() -> None:
    before = merge(SOUND, {})
    read_train_config(SOUND, {"data.length": 4, "model.layers": 9})
    assert before == SOUND


def test_a_lone_tracker_is_a_list_of_one() -> None:
    assert read_train_config({"base": "x", "data": {"train": "a.txt"}, "track": "wandb"}).track == ["wandb"]
