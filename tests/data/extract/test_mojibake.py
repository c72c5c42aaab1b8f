"""The search for mojibake against ftfy itself, over passages that were misread in each way it knows."""

from __future__ import annotations

import ftfy
import pytest
from ftfy.chardata import CHARMAP_ENCODINGS
from ftfy.fixes import fix_c1_controls

from ownlm.data.extract.characters import look
from ownlm.data.extract.mojibake import fix_mojibake


@pytest.mark.parametrize("encoding", CHARMAP_ENCODINGS)
def test_misread_passages(encoding: str, sentences: dict[str, str]) -> None:
    restored = 0
    for text in sentences.values():
        sample = f"“{text}” — 5 €"
        bad = sample.encode().decode(encoding, "ignore").replace("\n", "")
        fixed = fix_mojibake(bad)
        assert fixed == fix_c1_controls(ftfy.fix_encoding(bad))
        # The quick look at long texts must not miss what the search would find.
        assert look(f"{bad}\n" * (1 + 2000 // len(bad))).mojibake
        restored += fixed == sample
    # ftfy leaves most of what was read as the IBM PC's characters.
    assert restored >= (0.4 if encoding == "cp437" else 0.95) * len(sentences)


@pytest.mark.parametrize("encoding", CHARMAP_ENCODINGS)
def test_misread_words(encoding: str, sentences: dict[str, str]) -> None:
    words = [word for text in sentences.values() for word in text.split(" ") if not word.isascii()]
    misread = [bad for word in words if "\n" not in (bad := word.encode().decode(encoding, "ignore"))]
    same = sum(fix_mojibake(bad) == fix_c1_controls(ftfy.fix_encoding(bad)) for bad in misread)
    # On its own a word tells less; first bytes that became quotation marks or lines of boxes are left out.
    assert same >= (0.9 if encoding in ("macroman", "cp437") else 1.0) * len(misread)


def test_good_text_is_left_alone(sentences: dict[str, str]) -> None:
    for text in sentences.values():
        assert fix_mojibake(text) == text
        assert fix_mojibake(text.upper()) == text.upper()
        assert fix_mojibake(f"« {text}\u00a0» – “{text}” …") == f"« {text}\u00a0» – “{text}” …"


def test_known_cases() -> None:
    cases = {
        "sÃ³": "só",
        "donâ€™t": "don’t",
        "voilÃ  le travail": "voilà le travail",
        "ÐŸÑ€Ð¸Ð²ÐµÑ‚": "Привет",
        "РџСЂРёРІРµС‚, РјРёСЂ": "Привет, мир",
        "l‚Äôhumanit√©": "l’humanité",
        "ðŸ˜€ fine": "😀 fine",
        "IsnÃ¢â‚¬â„¢t it": "Isn’t it",
        "a\x93quoted\x94 word": "a“quoted” word",
    }
    assert {bad: fix_mojibake(bad) for bad in cases} == cases


def test_only_the_lines_that_need_it_change() -> None:
    lines = ["Où est-il ?", "Ã‰tÃ© comme hiver", "Ça va, naïve"] * 50
    fixed = fix_mojibake("\n".join(lines))
    assert fixed.split("\n") == ["Où est-il ?", "Été comme hiver", "Ça va, naïve"] * 50


def test_a_very_long_line() -> None:
    text = "word " * 30_000
    assert fix_mojibake(text + "cafÃ© " + text) == text + "café " + text
    assert fix_mojibake("x" * 100_000 + "Ã©" + "x" * 100_000) == "x" * 100_000 + "é" + "x" * 100_000
