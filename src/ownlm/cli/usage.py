"""Typer's complaints about a command line, as our errors: one sentence, the command, the nearest name."""

from __future__ import annotations

from typing import Any, TypeVar

from ..errors import UserError, nearest

T = TypeVar("T", str, list[str], None)


def whole_text(given: T) -> T:
    """Texts of the command line as they are: a terminal may hand over bytes that are none.

    Raises:
        UserError: they are not UTF-8.
    """
    texts: list[str] = [given] if isinstance(given, str) else given or []
    for text in texts:
        if any("\ud800" <= character <= "\udfff" for character in text):
            hint = "write it to a UTF-8 file, or set the terminal to UTF-8"
            raise UserError("a text of the command line is not UTF-8", where=repr(text[:60]), hint=hint)
    return given


def usage_error(error: Any, command: str) -> UserError:
    """A wrong option, a missing argument or a value of the wrong kind, as an error of the user's input.

    Args:
        error: the exception that typer raised.
        command: the command's full name.
    """
    hint = f"see {command} --help"
    option = getattr(error, "option_name", None)
    # An option without its value has no context to name others by, and is known.
    if option is not None and error.ctx is not None:
        known = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("-")]
        if option not in known:
            hint = nearest(option, [*known, "--json", "--debug"])
            if any(parameter.metavar == "KEY=VALUE" for parameter in error.ctx.command.params):
                setting = option.lstrip("-").replace("-", "_")
                hint += ("" if hint.endswith("?") else ";") + f" a setting is written without dashes: {setting}=..."
            return UserError(f"unknown option '{option}'", where=command, hint=hint)
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    for found, plain in _PLAIN.items():
        message = message.replace(found, plain)
    return UserError(message[:1].lower() + message[1:], where=command, hint=hint)


# What pydantic says of a value, in our words.
_PLAIN = {
    "Input should be a valid integer, unable to parse string as an integer": "it should be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it should be a number",
    "Input should be": "it should be",
}
