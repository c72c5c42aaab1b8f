"""Rules that an answer keeps or breaks, and a program can tell: what "follow the instruction" means without a judge.

An item lists them: ``[{"rule": "words_at_most", "value": 50}, {"rule": "contains", "value": "refund"}]``. The kinds follow
IFEval's (Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models"). None knows a language; what is
counted is said in text_parts.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from ..errors import DataError, nearest
from .text_parts import (
    bullets_of,
    comparable,
    headings_of,
    lines_of,
    numbered_of,
    paragraphs_of,
    sentences_of,
    words_of,
)

Rule = Callable[[str, Any], bool]


def is_json(text: str) -> bool:
    """Whether it is one JSON value, with or without a fence of code around it."""
    return bool(_json_in(text))


def _json_in(text: str) -> list[Any]:
    """The one JSON value, alone or in a fence of code; nothing where there is none."""
    inner = re.fullmatch(r"(?:```|~~~)\w*[ \t]*\r?\n(.*?)\r?\n?(?:```|~~~)", text.strip(), re.DOTALL)
    try:
        return [json.loads(inner[1] if inner else text, parse_constant=_no_json)]
    except (ValueError, RecursionError):
        return []


def _no_json(name: str) -> NoReturn:
    """NaN and the infinities, which Python reads and JSON has not."""
    raise ValueError(name)


def _keys(text: str, value: Any) -> bool:
    return any(isinstance(found, dict) and set(_texts(value)) <= found.keys() for found in _json_in(text))


def _count(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError("a count is expected")
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def _texts(value: Any) -> list[str]:
    """One or several texts to look for, none of them empty."""
    texts = [str(one) for one in (value if isinstance(value, list | tuple) else [value])]
    if isinstance(value, bool | Mapping) or not texts or not all(text.strip() for text in texts):
        raise ValueError("a text, or a list of texts, is expected")
    return texts


def _times(text: str, word: str) -> int:
    """How often a word, or several, stand in a text as such, and not as a part of others."""
    return len(re.findall(rf"(?<!\w){re.escape(comparable(word, word))}(?!\w)", comparable(text, word)))


def _word_and_count(value: Any) -> tuple[str, int]:
    if not isinstance(value, list | tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise ValueError('a word and a count are expected, such as ["tea", 3]')
    return _texts(value[0])[0], _count(value[1])


def _has(text: str, value: str) -> bool:
    return comparable(value, value) in comparable(text, value)


def _starts(text: str, value: Any) -> bool:
    return any(comparable(text, one).startswith(comparable(one, one)) for one in _texts(value))


def _ends(text: str, value: Any) -> bool:
    return any(comparable(text, one).endswith(comparable(one, one)) for one in _texts(value))


def _cased(text: str, wanted: Callable[[str], bool], unwanted: Callable[[str], bool]) -> bool:
    """Whether there are letters of a case, and none of the other."""
    return any(map(wanted, text)) and not any(unwanted(c) or (c.istitle() and not wanted(c)) for c in text)


def _capital_words(text: str) -> int:
    """Words in capitals, of two letters at least: "I" and "A" are none."""
    return sum(word.isupper() and sum(map(str.isalpha, word)) > 1 for word in words_of(text))


def _counted(count: Callable[[str], int], compare: Callable[[int, int], bool]) -> Rule:
    return lambda text, value: compare(count(text), _count(value))


def _by_parts(name: str, parts: Callable[[str], Sequence[str]]) -> dict[str, Rule]:
    """A part of texts that may be asked for in a number, or in at least or at most so many."""
    return {
        name: _counted(lambda text: len(parts(text)), lambda a, b: a == b),
        f"{name}_at_least": _counted(lambda text: len(parts(text)), lambda a, b: a >= b),
        f"{name}_at_most": _counted(lambda text: len(parts(text)), lambda a, b: a <= b),
    }


RULES: Mapping[str, Rule] = {
    **_by_parts("words", words_of),
    **_by_parts("sentences", sentences_of),
    **_by_parts("paragraphs", paragraphs_of),
    **_by_parts("lines", lines_of),
    **_by_parts("bullets", bullets_of),
    **_by_parts("numbered", numbered_of),
    **_by_parts("headings", headings_of),
    "characters_at_most": lambda text, value: len(text.strip()) <= _count(value),
    # Anywhere, as a part of a word too; all of several, or none of them.
    "contains": lambda text, value: all(_has(text, one) for one in _texts(value)),
    "lacks": lambda text, value: not any(_has(text, one) for one in _texts(value)),
    # As words.
    "has_words": lambda text, value: all(_times(text, one) for one in _texts(value)),
    "lacks_words": lambda text, value: not any(_times(text, one) for one in _texts(value)),
    "word_at_least": lambda text, value: _times(text, _word_and_count(value)[0]) >= _word_and_count(value)[1],
    "word_at_most": lambda text, value: _times(text, _word_and_count(value)[0]) <= _word_and_count(value)[1],
    # With one of several; and the whole answer, but for its last full stop.
    "starts_with": _starts,
    "ends_with": _ends,
    "one_of": lambda text, value: comparable(text).rstrip(". ") in {comparable(x).rstrip(". ") for x in _texts(value)},
    "quoted": lambda text, value: (re.fullmatch(r'"[^"]+"', comparable(text)) is not None) == _flag(value),
    "matches": lambda text, value: re.search(str(value), text) is not None,
    "json": lambda text, value: is_json(text) == _flag(value),
    "json_keys": _keys,
    "lower_case": lambda text, value: _cased(text, str.islower, str.isupper) == _flag(value),
    "upper_case": lambda text, value: _cased(text, str.isupper, str.islower) == _flag(value),
    "capital_words_at_least": lambda text, value: _capital_words(text) >= _count(value),
    "capital_words_at_most": lambda text, value: _capital_words(text) <= _count(value),
    "bold_at_least": lambda text, value: len(re.findall(r"\*\*[^\s*][^*\n]*\*\*", text)) >= _count(value),
    "placeholders_at_least": lambda text, value: len(re.findall(r"\[[^\[\]\n]+\]", text)) >= _count(value),
    "no_commas": lambda text, value: (not set(",，،、") & set(text)) == _flag(value),
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
        if unknown := [str(key) for key in rule if key not in ("rule", "value")]:
            raise DataError(f"rule '{name}' has 'value', and no '{unknown[0]}'", where=where)
        try:
            # Tried on an empty answer as well, so that a wrong value is told whatever was answered.
            is_kept = RULES[name](text, rule.get("value", True))
        except (ValueError, TypeError, re.error) as error:
            raise DataError(f"rule '{name}' cannot take {rule.get('value')!r}: {error}", where=where) from None
        found.append(bool(text.strip()) and is_kept)
    return found
