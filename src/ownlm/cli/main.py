"""The command ``ownlm``: finds the command's function, lets typer parse its arguments, prints what it hands back.

Commands are named in one table and loaded when they are called, so that ``ownlm --help`` stays instant. Everywhere in
the line, ``--json`` asks for one JSON object on stdout and ``--debug`` for tracebacks.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .. import __version__
from ..errors import Interrupted, LostWorker, OwnlmError, Terminated, UserError, nearest
from .answer import Answer, columns, plain


class Command(NamedTuple):
    """Where a command's function stands, as module and name, and what it does in a few words."""

    module: str
    function: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "quickstart": Command("quickstart", "quickstart", "From nothing to a fine-tuned model that answers, with a report"),
    "models": Command("models", "models", "The base models that can be fetched, and those already here"),
    "pull": Command("models", "pull", "Fetch a base model"),
    "plan": Command("plan", "plan", "What a training run will take: parameters, memory, speed, time and cost"),
    "train": Command("train", "train", "Train or fine-tune by a config; the same command again resumes"),
    "runs": Command("runs", "runs", "Compare runs: settings that differ, losses, speed, memory, curves"),
    "generate": Command("generate", "generate", "Continue a prompt"),
    "chat": Command("chat", "chat", "Talk with a model in the terminal"),
    "eval": Command("eval", "evaluate", "Measure a model on tasks, with an interval for every score"),
    "bias": Command("eval", "bias", "Measure what a model takes for granted about people"),
    "card": Command("card", "card", "Write a model's card: what it is, its data, training, scores, bias and limits"),
    "compare": Command("compare", "compare", "Models side by side: size, speed, scores, and what differences mean"),
    "watch": Command("watch", "watch", "Evaluate a model whenever it changed; alarm where a score leaves its band"),
    "trend": Command("trend", "trend", "How models' scores went over time, and where one left its band"),
    "predict": Command("predict", "predict", "The class of a text, the answer to a question, the word for a gap"),
    "explain": Command(
        "explain", "explain", "How a model reads a text: surprise, attention, layer by layer, what comes next"
    ),
    "tokenizer train": Command("tokenizer", "train", "Train a tokenizer on your text"),
    "tokenizer encode": Command("tokenizer", "encode", "Turn text into token ids"),
    "data build": Command("build", "build", "Prepare a data set: read, clean, deduplicate, split, tokenize"),
    "data quality train": Command("build", "train_quality", "Train a model that scores texts for filtering"),
    "data show": Command("data", "show", "Show one batch exactly as the model gets it"),
    "data seen": Command("seen", "seen", "Which items of a task stand in training data, with the text that was found"),
    "bench serve": Command(
        "bench", "serve", "How fast a model, or a running server, answers: one request and many at once"
    ),
    "gate": Command("gate", "gate", "Whether a model may take another's place, by a file of gates"),
    "scorers train": Command("scorers", "train", "Train what tells how toxic or how positive a text is"),
    "scorers list": Command("scorers", "list_scorers", "The installed scorers, with what they are worth"),
    "scorers show": Command("scorers", "show", "How far a scorer can be trusted, and what it gets wrong"),
    "export": Command("export", "export", "Write a model for other tools, and check that it is the same"),
    "serve": Command("serve", "serve", "Serve a model over HTTP, as clients of OpenAI's expect it"),
    "keys create": Command("keys", "create", "Make an API key; it is shown once"),
    "keys list": Command("keys", "list_keys", "The API keys, and when each was last used"),
    "keys revoke": Command("keys", "revoke", "Make an API key good for nothing"),
    "store show": Command("store", "show", "How much the store holds"),
    "store purge": Command("store", "purge", "Remove conversations older than some days, with their feedback"),
    "doctor": Command("doctor", "doctor", "What this machine has, and what each command would use"),
}
GROUPS: Mapping[str, str] = {
    "tokenizer": "Train and try tokenizers",
    "data": "Prepare and look at training data",
    "bench": "Measure this machine with a model",
    "scorers": "Make and look at what tells how toxic or how positive a text is",
    "keys": "Make, list and revoke API keys",
    "store": "Look after conversations and feedback",
}
GLOBAL_OPTIONS = (
    ("--json", "print one JSON object to stdout"),
    ("--debug", "show the traceback of an error"),
    ("--version", "print the version"),
    ("-h, --help", "show this, or a command's arguments"),
)
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code: 0 done, 1 failed, 2 wrong input, 3 a gate's no, 130 Ctrl-C."""
    words, as_json, debug = split_global(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            answer = _run(words, as_json, debug)
        except BrokenPipeError:
            raise
        except Terminated as ended:
            _print_error(ended.interrupted, as_json)
            return 0
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                traceback.print_exc()
            problem = as_error(error)
            _print_error(problem, as_json)
            return problem.exit_code
        _print_answer(answer, as_json)
    except BrokenPipeError:
        # The reader went away, as `head` does; nothing is wrong, and Python must not complain when it exits.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return answer.exit_code


def split_global(arguments: Sequence[str]) -> tuple[list[str], bool, bool]:
    """The arguments without ``--json`` and ``--debug``, and whether each was there; what follows ``--`` is left alone."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    words = [word for word in arguments[:end] if word not in ("--json", "--debug")]
    return words + list(arguments[end:]), "--json" in arguments[:end], "--debug" in arguments[:end]


def as_error(error: BaseException) -> OwnlmError:
    """Any exception as an error that says what is wrong; our own mistakes ask for ``--debug``."""
    if isinstance(error, OwnlmError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        hint = "use a smaller micro_batch_tokens, a shorter data.length, or a smaller model"
        return OwnlmError("there is not enough memory", hint=hint)
    text = " ".join(str(error).split())
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    problem = OwnlmError(
        f"something unexpected went wrong: {named}", hint="run the same command with --debug for details"
    )
    problem.type = "unexpected"
    return problem


def _run(words: Sequence[str], as_json: bool, debug: bool) -> Answer:
    if len(words) > 1 and words[0] == "help":
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        return Answer({"commands": {name: command.help for name, command in COMMANDS.items()}}, output=help_text())
    if words[0] == "--version":
        return Answer({"version": __version__}, output=f"ownlm {__version__}")
    if words[0] in GROUPS and (len(words) == 1 or words[1] in ("-h", "--help")):
        inside = {name: command.help for name, command in COMMANDS.items() if name.startswith(f"{words[0]} ")}
        return Answer({"commands": inside}, output=help_text(words[0]))
    name = find_command(words)
    return _call(name, words[len(name.split()) :], as_json, debug)


def find_command(words: Sequence[str]) -> str:
    """The command that the line begins with.

    Raises:
        UserError: there is none, with the nearest one.
    """
    for length in (3, 2, 1):
        if (name := " ".join(words[:length])) in COMMANDS:
            return name
    if words[0].startswith("-"):
        options = [option.split(", ")[-1] for option, _ in GLOBAL_OPTIONS]
        raise UserError(f"unknown option '{words[0]}'", where="ownlm", hint=nearest(words[0], options))
    if words[0] in GROUPS:
        known = [name.split(maxsplit=1)[1] for name in COMMANDS if name.startswith(f"{words[0]} ")]
        raise UserError(f"unknown command '{words[1]}'", where=f"ownlm {words[0]}", hint=nearest(words[1], known))
    known = sorted({name.split()[0] for name in COMMANDS})
    raise UserError(f"unknown command '{words[0]}'", where="ownlm", hint=nearest(words[0], known))


def help_text(group: str = "") -> str:
    """The list of commands: all, or those of a group."""
    chosen = {name: command.help for name, command in COMMANDS.items() if name.startswith(group)}
    about = GROUPS.get(group, "Build, fine-tune and use a language model that you own")
    lines = [f"ownlm {group}".rstrip() + f": {about[0].lower()}{about[1:]}", ""]
    lines += [f"Usage: ownlm {group + ' ' if group else ''}COMMAND [ARGUMENTS] [--json] [--debug]", "", "Commands:"]
    lines += [columns([[name, text] for name, text in chosen.items()]), "", "Options:"]
    lines += [columns([list(option) for option in GLOBAL_OPTIONS])]
    if not group:
        lines += ["", "Begin with: ownlm quickstart"]
    return "\n".join(lines)


def _call(name: str, arguments: Sequence[str], as_json: bool, debug: bool) -> Answer:
    """Lets typer parse the arguments and call the command's function; its return value comes back."""
    import typer

    from .usage import usage_error

    command = COMMANDS[name]
    function: Callable[..., Answer] = getattr(
        importlib.import_module(f".{command.module}", __package__), command.function
    )
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(function)
    # Under --json stdout belongs to the one object: whatever a library prints goes to stderr, and help is captured.
    captured = io.StringIO()
    wants_help = any(word in ("-h", "--help") for word in arguments)
    target = captured if wants_help else sys.stderr
    with contextlib.redirect_stdout(target) if as_json else contextlib.nullcontext():
        try:
            # A command that starts others hands its own flags on.
            flags = {"--json": as_json, "--debug": debug}
            result: Any = app(list(arguments), prog_name=f"ownlm {name}", standalone_mode=False, obj=flags)
        except typer.Abort:
            raise KeyboardInterrupt from None
        except Exception as error:
            # Typer's usage errors have no public base class; what they share is how they are shown.
            if hasattr(error, "format_message"):
                raise usage_error(error, f"ownlm {name}") from None
            raise
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    if isinstance(result, Answer):
        return result
    return Answer({"help": captured.getvalue()})


def _speaks() -> bool:
    """Whether this process is the one of several workers that prints."""
    return os.environ.get("RANK", "0") == "0"


def _print_answer(answer: Answer, as_json: bool) -> None:
    if not _speaks():
        return
    if as_json:
        if not answer.printed:
            print(json.dumps(plain(answer.data), allow_nan=False), flush=True)
        return
    if answer.output:
        print(answer.output, flush=True)
    if answer.text:
        print(answer.text, file=sys.stderr, flush=True)


def _print_error(error: OwnlmError, as_json: bool) -> None:
    if not _speaks():
        if isinstance(error, UserError | Interrupted | LostWorker):
            # The first worker says the same, or the one that was lost said why.
            return
        as_json = False
    if as_json:
        print(json.dumps(error.as_json()), flush=True)
        return
    colored = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    red, dim, reset = ("\033[1;31m", "\033[2m", "\033[0m") if colored else ("", "", "")
    lines = [f"{red}error:{reset} {error.message}"]
    lines += [
        f"{dim}{name:>6}{reset} {value}" for name, value in (("where:", error.where), ("hint:", error.hint)) if value
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
