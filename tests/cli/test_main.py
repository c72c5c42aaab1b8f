"""The command line's frame: finding commands, one JSON object, errors, exit codes."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.cli import main as main_module
from ownlm.cli.answer import Answer, plain
from ownlm.cli.main import COMMANDS, Command, as_error, main, split_global
from ownlm.errors import ConfigError, Interrupted


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_with_help(ownlm: Callable[..., Any], name: str):
    command = COMMANDS[name]
    function = getattr(importlib.import_module(f"ownlm.cli.{command.module}"), command.function)
    assert inspect.getdoc(function)
    outcome = ownlm(*name.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"Usage: ownlm {name}" in outcome.out


@pytest.mark.parametrize("line", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(ownlm: Callable[..., Any], line: list[str]):
    outcome = ownlm(*line)
    assert outcome.code == 0
    for name, command in COMMANDS.items():
        assert name in outcome.out
        assert command.help in outcome.out


def test_a_group_lists_its_commands(ownlm: Callable[..., Any]):
    outcome = ownlm("tokenizer")
    assert outcome.code == 0
    assert "tokenizer train" in outcome.out
    assert "quickstart  " not in outcome.out


def test_help_under_json_is_an_object(ownlm: Callable[..., Any]):
    assert set(ownlm("--help", "--json").object["commands"]) == set(COMMANDS)
    assert set(ownlm("tokenizer", "--json").object["commands"]) == {"tokenizer train", "tokenizer encode"}
    assert "--prompt" in ownlm("generate", "--help", "--json").object["help"]


def test_the_version(ownlm: Callable[..., Any]):
    import ownlm as package

    assert ownlm("--version").out == f"ownlm {package.__version__}\n"
    assert ownlm("--json", "--version").object == {"version": package.__version__}


@pytest.mark.parametrize(
    ("line", "message", "where", "hint"),
    [
        (["quikstart"], "unknown command 'quikstart'", "ownlm", "did you mean 'quickstart'?"),
        (["tokenizer", "trian"], "unknown command 'trian'", "ownlm tokenizer", "did you mean 'train'?"),
        (["--jsn"], "unknown option '--jsn'", "ownlm", "did you mean '--json'?"),
        (
            ["generate", "m", "--promt", "x"],
            "unknown option '--promt'",
            "ownlm generate",
            "did you mean '--prompt'?",
        ),
        (["pull"], "missing argument 'NAME'", "ownlm pull", "see ownlm pull --help"),
        (["models", "extra"], "got unexpected extra argument(s) (extra)", "ownlm models", "see ownlm models --help"),
        (
            ["plan", "c.yaml", "--seeds", "3"],
            "unknown option '--seeds'",
            "ownlm plan",
            "known: --debug, --gpu, --gpus, --json, --price; a setting is written without dashes: seeds=...",
        ),
        (
            ["plan", "c.yaml", "--gpus", "0"],
            "invalid value for '--gpus': it should be greater than or equal to 1",
            "ownlm plan",
            "see ownlm plan --help",
        ),
        (
            ["plan", "c.yaml", "--price", "low"],
            "invalid value for '--price': it should be a number",
            "ownlm plan",
            "see ownlm plan --help",
        ),
        (["train"], "a config file is missing", "ownlm train", "write: ownlm train CONFIG.yaml"),
    ],
)
def test_wrong_usage_is_an_error_of_the_users_input(
    ownlm: Callable[..., Any], line: list[str], message: str, where: str, hint: str
):
    outcome = ownlm(*line)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"error: {message}\nwhere: {where}\n hint: {hint}\n"
    as_json = ownlm(*line, "--json")
    assert (as_json.code, as_json.err) == (2, "")
    assert as_json.object == {"error": {"type": "input", "message": message, "where": where, "hint": hint}}


def test_help_of_a_command_is_asked_for_in_both_orders(ownlm: Callable[..., Any]):
    for command in (["train"], ["data", "build"], ["tokenizer"]):
        assert ownlm("help", *command).out == ownlm(*command, "--help").out != ownlm("--help").out


def test_a_value_of_the_wrong_kind_is_named(ownlm: Callable[..., Any]):
    outcome = ownlm("generate", "m", "--prompt", "x", "--max-tokens", "many", "--json")
    assert outcome.code == 2
    assert "--max-tokens" in outcome.object["error"]["message"]


@pytest.mark.parametrize(
    ("line", "words", "as_json", "debug"),
    [
        (["--json", "models"], ["models"], True, False),
        (["models", "--debug"], ["models"], False, True),
        (["train", "c.yaml", "--json", "steps=1", "--debug"], ["train", "c.yaml", "steps=1"], True, True),
        (["generate", "--", "--json"], ["generate", "--", "--json"], False, False),
    ],
)
def test_json_and_debug_stand_anywhere(line: list[str], words: list[str], as_json: bool, debug: bool):
    assert split_global(line) == (words, as_json, debug)


def add_command(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> None:
    """Puts a command of the test's own into the table."""
    module = types.ModuleType("ownlm.cli.of_the_test")
    module.function = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ownlm.cli.of_the_test", module)
    table = {**COMMANDS, "try": Command("of_the_test", "function", "A test's own")}
    monkeypatch.setattr(main_module, "COMMANDS", table)


def test_stdout_holds_one_object_whatever_is_printed(ownlm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    def function() -> Answer:
        """A command whose libraries talk."""
        print("a library's chatter")
        return Answer({"path": Path("a"), "loss": float("nan"), "rows": [(1, 2)]}, "for people", "for pipes")

    add_command(monkeypatch, function)
    outcome = ownlm("try", "--json")
    assert outcome.object == {"path": "a", "loss": None, "rows": [[1, 2]]}
    assert outcome.err == "a library's chatter\n"
    outcome = ownlm("try")
    assert (outcome.out, outcome.err) == ("a library's chatter\nfor pipes\n", "for people\n")


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (ConfigError("wrong", where="a.b"), 2, "config"),
        (Interrupted("stopped at step 3; the run is saved"), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("division by zero"), 1, "unexpected"),
        (MemoryError(), 1, "failed"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "failed"),
    ],
)
def test_every_failure_has_its_exit_code_and_no_traceback(
    ownlm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, kind: str
):
    def function() -> Answer:
        """A command that fails."""
        raise error

    add_command(monkeypatch, function)
    outcome = ownlm("try", "--json")
    assert (outcome.code, outcome.object["error"]["type"], outcome.err) == (code, kind, "")
    outcome = ownlm("try")
    assert (outcome.code, outcome.out) == (code, "")
    assert "Traceback" not in outcome.err
    outcome = ownlm("try", "--debug", "--json")
    assert outcome.code == code
    assert "Traceback" in outcome.err


def test_an_unexpected_error_is_named_in_one_sentence():
    error = as_error(KeyError("weights"))
    assert error.message == "something unexpected went wrong: KeyError: 'weights'"
    assert "--debug" in str(error.hint)


def test_colours_are_for_terminals_only(ownlm: Callable[..., Any]):
    assert "\x1b" not in ownlm("quikstart").err


def test_plain_values_are_what_json_holds():
    values = {"a": Path("x/y"), 1: float("inf"), "b": {"c": (1.5, None, True)}}
    assert json.loads(json.dumps(plain(values), allow_nan=False)) == {
        "a": "x/y",
        "1": None,
        "b": {"c": [1.5, None, True]},
    }


def test_main_takes_the_process_arguments(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["ownlm", "--version"])
    assert main() == 0
    assert capfd.readouterr().out.startswith("ownlm ")
