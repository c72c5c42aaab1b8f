"""Rules that an answer keeps or breaks, and a program can tell: what "follow the instruction" means without a judge.

An item lists them: ``[{"rule": "words_at_most", "value": 50}, {"rule": "contains", "value": "refund"}]``. The kinds follow
IFEval's (Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import DataError, nearest


def words_of(text: str) -> list[str]:
    """Words as a reader counts them: runs of letters, digits and what joins them."""
    return re.findall(r"\w+(?:['’.,-]\w+)*", text)


def sentences_of(text: str) -> list[str]:
    """Sentences: what ends with a full stop, a question or an exclamation mark, or with its line."""
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if re.search(r"\w", part)]


def paragraphs_of(text: str) -> list[str]:
    """What stands between empty lines."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def bullets_of(text: str) -> list[str]:
    """Lines that begin with ``-``, ``*`` or ``•``."""
    return re.findall(r"(?m)^\s*[-*•]\s+\S", text)


def is_json(text: str) -> bool:
    """Whether it is one JSON value, with or without a fence of code around it."""
    inner = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n```", text.strip(), re.DOTALL)
    try:
        json.loads(inner[1] if inner else text)
    except ValueError:
        return False
    return True


def _has(text: str, value: Any) -> bool:
    return str(value).casefold() in text.casefold()


RULES: Mapping[str, Callable[[str, Any], bool]] = {
    "words_at_most": lambda text, value: len(words_of(text)) <= int(value),
    "words_at_least": lambda text, value: len(words_of(text)) >= int(value),
    "sentences_at_most": lambda text, value: len(sentences_of(text)) <= int(value),
    "sentences_at_least": lambda text, value: len(sentences_of(text)) >= int(value),
    "paragraphs": lambda text, value: len(paragraphs_of(text)) == int(value),
    "bullets": lambda text, value: len(bullets_of(text)) == int(value),
    "contains": _has,
    "lacks": lambda text, value: not _has(text, value),
    "starts_with": lambda text, value: text.lstrip().casefold().startswith(str(value).casefold()),
    "ends_with": lambda text, value: text.rstrip().casefold().endswith(str(value).casefold()),
    "matches": lambda text, value: re.search(str(value), text) is not None,
    "json": lambda text, value: is_json(text) == bool(value),
    "lower_case": lambda text, value: (text == text.lower()) == bool(value),
    "upper_case": lambda text, value: (text == text.upper()) == bool(value),
    "no_commas": lambda text, value: ("," not in text) == bool(value),
}


def kept(text: str, rules: Sequence[Mapping[str, Any]], where: str) -> list[bool]:
    """Which of an item's rules an answer keeps; an empty answer keeps none.

    Raises:
        DataError: a rule that there is not, or a value that it cannot take.
    """
    if (
        not isinstance(rules, list | tuple)
        or not rules
        or not all(isinstance(r, Mapping) and "rule" in r for r in rules)
    ):
        raise DataError("rules must be a list, each with 'rule' and 'value'", where=where)
    found = []
    for rule in rules:
        name = str(rule["rule"])
        if name not in RULES:
            raise DataError(
                f"there is no rule '{name}'", where=where, hint=nearest(name, list(RULES)) or ", ".join(RULES)
            )
        try:
            found.append(bool(text.strip()) and RULES[name](text, rule.get("value", True)))
        except (ValueError, TypeError, re.error) as error:
            raise DataError(f"rule '{name}' cannot take {rule.get('value')!r}: {error}", where=where) from None
    return found
