"""Ready rules for kinds of data, with the paper behind each threshold.

| preset | for | what it drops |
|---|---|---|
| web | text of web pages | what Gopher, C4 and FineWeb drop, and pages of abuse or pornography |
| chat | conversations, one a document | empty, garbled or looping ones, and nothing for being short |
| books | books, plays and long articles, whole or in parts | tables, indexes and bad scans, and nothing for its lines |
| prose | articles, documentation and posts, without code | code, tables and lists |
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """A rule of a preset.

    Attributes:
        expression: true for documents to drop.
        source: where the threshold comes from.
    """

    expression: str
    source: str


GOPHER = "Rae et al. 2021 (Gopher), appendix A1.1"
GOPHER_TABLE = "Rae et al. 2021 (Gopher), table A1"
C4 = "Raffel et al. 2020 (C4), section 2.2"
FINEWEB = "Penedo et al. 2024 (FineWeb), its own additional filters"
OWN = "ownlm: set on real text of the kind"


# Written without spaces, so that a "word" of these is a clause; and rules about words do not fit.
_WITHOUT_SPACES = "language in ('zh', 'ja', 'th', 'lo', 'km', 'my', 'dz', 'yue', 'wuu')"


def _any(*conditions: str) -> str:
    return " or ".join(conditions)


def _spaced(condition: str, source: str) -> Rule:
    """A rule about words, for languages that have spaces between them."""
    return Rule(f"({condition}) and not {_WITHOUT_SPACES}", source)


def _too_short(words: int, source: str) -> Rule:
    """Fewer words; or as few characters as three a word, where there are no spaces."""
    return Rule(f"words < {words} and (characters < {3 * words} or not {_WITHOUT_SPACES})", source)


# Table A1, a rule for each kind of repetition.
_REPETITION = {
    "repeated_lines": Rule(
        _any("duplicate_line_fraction > 0.30", "duplicate_line_character_fraction > 0.20"), GOPHER_TABLE
    ),
    "repeated_paragraphs": Rule(
        _any("duplicate_paragraph_fraction > 0.30", "duplicate_paragraph_character_fraction > 0.20"), GOPHER_TABLE
    ),
    "frequent_ngram": _spaced(
        _any(*(f"top_{n}gram_character_fraction > {limit}" for n, limit in ((2, "0.20"), (3, "0.18"), (4, "0.16")))),
        GOPHER_TABLE,
    ),
    "repeated_ngrams": Rule(
        _any(*(f"duplicate_{n}gram_character_fraction > {0.20 - n / 100:.2f}" for n in range(5, 11))), GOPHER_TABLE
    ),
}
_WORD_LENGTH = _spaced("mean_word_length < 3 or mean_word_length > 10", GOPHER)
_SYMBOLS = _spaced("symbol_ratio > 0.1", GOPHER)
_STOP_WORDS = Rule("language = 'en' and stop_words < 2", GOPHER)
_LINES = {
    "bullets": Rule("bullet_line_fraction > 0.9", GOPHER),
    "ellipses": Rule("ellipsis_line_fraction > 0.3", GOPHER),
}
# Gopher's limit is 0.8; text whose signs stand apart, as WikiText's and many books' do, has a few more.
_FEW_LETTERS = Rule("alphabetic_word_fraction < 0.7", OWN)
_CODE = Rule("code_fraction > 0.3", OWN)
_ABUSE = Rule("toxic_words >= 5 and toxic_fraction > 0.02", OWN)
_PORNOGRAPHY = Rule("sexual_words >= 5 and sexual_words > 0.02 * words", OWN)

PRESETS: dict[str, dict[str, Rule]] = {
    "none": {},
    "web": {
        "too_short": _too_short(50, GOPHER),
        "too_long": Rule("words > 100000", GOPHER),
        "word_length": _WORD_LENGTH,
        "symbols": _SYMBOLS,
        "few_letters": Rule("alphabetic_word_fraction < 0.8", GOPHER),
        **_LINES,
        "few_stop_words": _STOP_WORDS,
        **_REPETITION,
        "placeholder": Rule("lorem_ipsum > 0", C4),
        # C4 asks for five, and its successors for three, since the lines that do not end as sentences stay here.
        "few_sentences": Rule("sentences < 3", C4),
        "few_marks": Rule("terminal_punctuation_line_fraction <= 0.12", FINEWEB),
        "repeated_characters": Rule("character_duplicate_ratio >= 0.1", FINEWEB),
        "short_lines": Rule("short_line_fraction >= 0.67", FINEWEB),
        # C4 drops the lines; here a page goes of which they are a good part.
        "notices": Rule("policy_lines > 0.3 * lines", OWN),
        "abuse": _ABUSE,
        "pornography": _PORNOGRAPHY,
    },
    "chat": {
        "empty": Rule("words < 2 and characters < 5", OWN),
        "garbled": _spaced("alphabetic_word_fraction < 0.4 or mean_word_length > 20", OWN),
        "looping": Rule("words >= 50 and duplicate_10gram_character_fraction > 0.5", OWN),
        "abuse": _ABUSE,
        "pornography": _PORNOGRAPHY,
    },
    "books": {
        "too_short": _too_short(200, OWN),
        "word_length": _WORD_LENGTH,
        "symbols": _SYMBOLS,
        "few_letters": _FEW_LETTERS,
        "few_stop_words": _STOP_WORDS,
        # Plays repeat the speakers' names, verse its refrain: many lines of few characters.
        "repeated_lines": Rule("duplicate_line_character_fraction > 0.20", GOPHER_TABLE),
        "repeated_paragraphs": Rule("duplicate_paragraph_character_fraction > 0.20", GOPHER_TABLE),
        "frequent_ngram": _REPETITION["frequent_ngram"],
        "repeated_ngrams": _REPETITION["repeated_ngrams"],
        "digits": Rule("digit_fraction > 0.1", OWN),
        "code": _CODE,
    },
    "prose": {
        "too_short": _too_short(50, GOPHER),
        "word_length": _WORD_LENGTH,
        "symbols": _SYMBOLS,
        "few_letters": _FEW_LETTERS,
        **_LINES,
        "few_stop_words": _STOP_WORDS,
        **_REPETITION,
        "few_sentences": Rule("sentences < 3", C4),
        "code": _CODE,
        "abuse": _ABUSE,
        "pornography": _PORNOGRAPHY,
    },
}
