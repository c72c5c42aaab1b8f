"""Errors that tell the user what is wrong, where, and what to do.

Every error a user can cause, or can mend, is an ``OwnlmError``: one sentence, the place, and a hint. The command line
prints these three and exits with ``exit_code``; a traceback is shown only with ``--debug``. Our own mistakes are
ordinary Python exceptions and keep their traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OwnlmError(Exception):
    """Something failed while working (exit code 1).

    Args:
        message: one sentence saying what is wrong, without a full stop at its end.
        where: the file and line, or the config key, or the model's name.
        hint: what to do about it.
    """

    exit_code = 1
    type = "failed"

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def as_json(self) -> dict[str, dict[str, str | None]]:
        """The ``{"error": ...}`` object that ``--json`` prints."""
        return {"error": {"type": self.type, "message": self.message, "where": self.where, "hint": self.hint}}


class UserError(OwnlmError):
    """The user's input is wrong: arguments, config, files or data (exit code 2)."""

    exit_code = 2
    type = "input"


class ConfigError(UserError):
    """A configuration value is wrong; ``where`` is its dotted key."""

    type = "config"


class DataError(UserError):
    """A data file is wrong; ``where`` is the file, with the line where there is one."""

    type = "data"


class ModelError(UserError):
    """A model folder, its weights or its tokenizer are wrong; ``where`` is the folder or file."""

    type = "model"


class MissingExtra(UserError):
    """A part of ownlm is not installed; the hint is the one line that installs it."""

    type = "missing-extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}'", hint=f"pip install 'ownlm[{extra}]'")


class FetchError(OwnlmError):
    """A remote model could not be fetched (exit code 1)."""

    type = "fetch"


class StorageError(OwnlmError):
    """A file could not be written: a full disk, missing rights (exit code 1)."""

    type = "storage"


class DamagedError(OwnlmError):
    """A file is not what was written: its checksum or its shape differs (exit code 1)."""

    type = "damaged"


class LostWorker(OwnlmError):
    """Another process of the run has ended, and this one cannot go on without it."""

    type = "lost-worker"


class Interrupted(OwnlmError):
    """The user pressed Ctrl-C, and the work so far is saved (exit code 130)."""

    exit_code = 130
    type = "interrupted"


class Terminated(SystemExit):
    """SIGTERM, by which a scheduler asks for the machine: the work so far is saved, and the process ends well."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(0)
        self.interrupted = Interrupted(message, hint=hint)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to ``name``, or all of them where none is near."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(choices)
