"""Errors: one sentence, the place, what to do, and the exit code."""

from __future__ import annotations

import pytest

from ownlm import errors


def test_an_error_reads_as_place_sentence_and_hint():
    error = errors.DataError("this line is not JSON", where="chats.jsonl:3", hint="mend the line")
    assert str(error) == "chats.jsonl:3: this line is not JSON (mend the line)"


def test_an_error_is_the_object_that_scripts_read():
    error = errors.ConfigError("unknown key 'lrr'", where="optimizer.lrr", hint="did you mean 'lr'?")
    assert error.as_json() == {
        "error": {
            "type": "config",
            "message": "unknown key 'lrr'",
            "where": "optimizer.lrr",
            "hint": "did you mean 'lr'?",
        }
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.OwnlmError, 1),
        (errors.FetchError, 1),
        (errors.StorageError, 1),
        (errors.DamagedError, 1),
        (errors.UserError, 2),
        (errors.ConfigError, 2),
        (errors.DataError, 2),
        (errors.ModelError, 2),
        (errors.Interrupted, 130),
    ],
)
def test_exit_codes(kind: type[errors.OwnlmError], code: int):
    assert kind("something").exit_code == code


def test_a_missing_extra_says_how_to_install_it():
    assert errors.MissingExtra("tracking with mlflow", "track").hint == "pip install 'ownlm[track]'"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("optimzer", "did you mean 'optimizer'?"), ("zzz", "known: data, optimizer, schedule")],
)
def test_nearest_names_the_nearest_or_all(name: str, hint: str):
    assert errors.nearest(name, ["schedule", "optimizer", "data"]) == hint
