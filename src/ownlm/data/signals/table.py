"""The signals: what each is, its type, and where it comes from. The schema is fixed; every document has every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

GOPHER = "Rae et al. 2021 (Gopher), appendix A1.1"
GOPHER_TABLE = "Rae et al. 2021 (Gopher), table A1"
C4 = "Raffel et al. 2020 (C4), section 2.2"
FINEWEB = "Penedo et al. 2024 (FineWeb), its own additional filters"
PY3LANGID = "Lui and Baldwin 2012 (langid.py); py3langid"
OWN = "ownlm"


class Signal(NamedTuple):
    """One column.

    Attributes:
        type: Arrow's name of its type.
        description: one sentence.
        source: the paper it follows, or "ownlm".
    """

    type: str
    description: str
    source: str


def _repetition() -> dict[str, Signal]:
    """The n-gram columns, which differ in a number."""
    names = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
    top = "The most frequent run of {} words: its share of the characters."
    again = "Runs of {} words that stood in the document before: their share of the characters, overlaps counted once."
    signals = {}
    for n, name in names.items():
        kind, text = ("top", top) if n <= 4 else ("duplicate", again)
        signals[f"{kind}_{n}gram_character_fraction"] = Signal("float32", text.format(name), GOPHER_TABLE)
    return signals


SIGNALS: dict[str, Signal] = {
    "language": Signal("string", "The language, ISO 639-1 or else 639-3; 'und' where it cannot be told.", PY3LANGID),
    "language_score": Signal("float32", "How sure the language is, 0 to 1.", PY3LANGID),
    "characters": Signal("int64", "Characters (Unicode code points).", OWN),
    "bytes": Signal("int64", "Bytes in UTF-8.", OWN),
    "words": Signal("int64", "Words: runs of anything but white space.", GOPHER),
    "lines": Signal("int64", "Lines that are not blank.", OWN),
    "paragraphs": Signal("int64", "Paragraphs: runs of lines with no blank line between.", OWN),
    "sentences": Signal("int64", "Sentences that end with a mark.", C4),
    "mean_word_length": Signal("float32", "Characters per word.", GOPHER),
    "hash_word_ratio": Signal("float32", "Hash signs (#) per word.", GOPHER),
    "ellipsis_word_ratio": Signal("float32", "Ellipses (... or …) per word.", GOPHER),
    "symbol_ratio": Signal("float32", "Hash signs or ellipses per word, whichever are more.", GOPHER),
    "alphabetic_word_fraction": Signal("float32", "Words with at least one letter: their share.", GOPHER),
    "stop_words": Signal("int64", "How many of the be to of and that have with stand in it, each once.", GOPHER),
    "unique_word_fraction": Signal("float32", "Different words: their share of all words, case ignored.", OWN),
    "word_entropy": Signal("float32", "Entropy of the words in bits, case ignored.", OWN),
    "uppercase_fraction": Signal("float32", "Capital letters: their share of the characters.", OWN),
    "digit_fraction": Signal("float32", "Decimal digits: their share of the characters.", OWN),
    "punctuation_fraction": Signal("float32", "Punctuation and symbols: their share of the characters.", OWN),
    "non_ascii_fraction": Signal("float32", "Characters beyond ASCII: their share.", OWN),
    "bullet_line_fraction": Signal("float32", "Lines that begin with a bullet or a dash: their share.", GOPHER),
    "ellipsis_line_fraction": Signal("float32", "Lines that end with an ellipsis: their share.", GOPHER),
    "terminal_punctuation_line_fraction": Signal(
        "float32", "Lines that end with a sentence's mark: their share.", FINEWEB
    ),
    "unterminated_line_fraction": Signal(
        "float32", "Lines that do not end with . ! ? or a quotation mark, or end with three dots: their share.", C4
    ),
    "short_line_fraction": Signal("float32", "Lines of at most 30 characters: their share.", FINEWEB),
    "newline_word_ratio": Signal("float32", "Line feeds per word.", FINEWEB),
    "duplicate_line_fraction": Signal("float32", "Lines that stood before: their share of the lines.", GOPHER_TABLE),
    "duplicate_line_character_fraction": Signal(
        "float32", "Lines that stood before: their share of the characters.", GOPHER_TABLE
    ),
    "duplicate_paragraph_fraction": Signal(
        "float32", "Paragraphs that stood before: their share of the paragraphs.", GOPHER_TABLE
    ),
    "duplicate_paragraph_character_fraction": Signal(
        "float32", "Paragraphs that stood before: their share of the characters.", GOPHER_TABLE
    ),
    "character_duplicate_ratio": Signal(
        "float32", "Lines that stood before: their share of the characters but line feeds.", FINEWEB
    ),
    **_repetition(),
    "curly_brackets": Signal("int64", "Curly brackets.", C4),
    "lorem_ipsum": Signal("int64", "How often 'lorem ipsum' stands in it.", C4),
    "javascript_lines": Signal("int64", "Lines with the word 'javascript'.", C4),
    "policy_lines": Signal("int64", "Lines that speak of terms of use, privacy policies or cookies.", C4),
    "toxic_words": Signal("int64", "Offensive words and phrases of the list.", OWN),
    "toxic_fraction": Signal("float32", "Offensive words per word.", OWN),
    "sexual_words": Signal("int64", "Sexual words and phrases of the list.", OWN),
    "code_fraction": Signal("float32", "Lines that look like source code: their share.", OWN),
}


def schema() -> pa.Schema:
    """The columns as an Arrow schema, in their order."""
    import pyarrow as pa

    return pa.schema([pa.field(name, pa.type_for_alias(signal.type)) for name, signal in SIGNALS.items()])
