"""Repair: what it changes, what it must not, and that its result holds nothing that it should have changed."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.extract.options import ExtractOptions
from ownlm.data.extract.repair import repair, tidy_lines

DEFAULT = ExtractOptions()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\r\nb\rc\x0bd\x0ce\u2028f\u2029g", "a\nb\nc\nd\ne\nf\ng"),
        ("a  \nb\t \n  c ", "a\nb\n  c"),
        ("\n\n  a\n\n\n\n\n\nb\n\n", "  a\n\n\nb"),
        ("a\0b\x07c\x7fd", "abcd"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("N\x08NA\x08AM\x08ME\x08E _\x08x", "NAME x"),
        ("a\u00a0b\u2009c\u3000d\u202fe", "a b c d e"),
        ("\ufeffstart and\ufeff middle", "start and middle"),
        ("hy\u00adphen\u200bated", "hyphenated"),
        ("e\u0301", "é"),
        ("\ud83d\ude00 and \ud83d alone", "😀 and  alone"),
        ("abc\u202edef\u202c \u2066x\u2069", "abcdef x"),
        ("a\U000e0049\U000e0067b", "ab"),
        ("cafÃ© and \u201cmore\u201d", "café and “more”"),
        ("a\u200db \u200dc", "ab c"),
        ("tab\tstays", "tab\tstays"),
        ("&amp; and &lt;p&gt; stay", "&amp; and &lt;p&gt; stay"),
        ("x\ufffe\uffff\ufdd0y\ufffd", "xy\ufffd"),
    ],
)
def test_what_is_repaired(before: str, after: str) -> None:
    assert repair(before, DEFAULT) == after
    # A long text goes another way to the same end.
    rest = "\n" + "é" * 2000
    assert repair(before + rest, DEFAULT) == re.sub(r"[ \t]+$", "", after) + rest or "\n\n" in before[-2:]


GOOD = [
    "👩‍💻 👨‍👩‍👧‍👦 ❤️‍🔥 🏳️‍🌈 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇫🇷 1️⃣",
    "می‌خواهم کتاب‌ها را بخوانم",
    "क्‍ष and ശ്രീ ന്‍",
    "ភាសា\u200bខ្មែរ และ\u200bภาษา",
    "def f(x):\n    return {'a': [x], \"b\": 1}\n\n\nclass C:\n\tpass",
    "“Curly” ‘quotes’ — and … ½ ² № ™ € £ ≠ → ✓",
    "L’été à Œuvré: « ça » naïve Ÿ",
    "ÅÄÖ Ærø Ångström Übergröße ÑANDÚ ÇÃO",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "\\frac{a}{b} \\'e \\alpha",
    "한국어 조선글, 日本語「テスト」、中文。",
]


@pytest.mark.parametrize("text", GOOD)
def test_good_text_stays(text: str) -> None:
    assert repair(text, DEFAULT) == text
    assert repair((text + "\n") * 200, DEFAULT) == ((text + "\n") * 200).strip("\n")


def test_passages_stay(sentences: dict[str, str]) -> None:
    for text in sentences.values():
        assert repair(text, DEFAULT) == unicodedata.normalize("NFC", text)
        assert repair(text * 30, DEFAULT) == unicodedata.normalize("NFC", text * 30)


def test_options() -> None:
    text = "ﬁne ① \u00a0x \r\n"
    assert repair(text, ExtractOptions(normalize="NFKC")) == "fine 1  x"
    assert repair(text, ExtractOptions(normalize="none")) == "ﬁne ①  x"
    assert repair(text, ExtractOptions(repair=False)) == text
    assert repair("e\u0301 \ud83d", ExtractOptions(repair=False, normalize="none")) == "e\u0301 "


ODD = "\r\n\t \x00\x0b\x0c\x1b\x85\u00a0\u00ad\u200b\u200c\u200d\u200e\u2028\u202e\u3000\ufeff\ufffe\ud800\udc00"


@settings(deadline=None)
@given(st.text(st.one_of(st.sampled_from(ODD + "aéÃ©Ð ि\u0301👩"), st.characters()), max_size=60), st.booleans())
def test_nothing_odd_is_left(text: str, long: bool) -> None:
    if long:
        text = text + "é" * 1600 + text
    found = repair(text, DEFAULT)
    found.encode()
    assert unicodedata.is_normalized("NFC", found)
    assert not re.search(
        "[\r\x00-\x08\x0b-\x1f\x7f-\x9f\u00a0\u00ad\u2000-\u200a\u2028-\u202f\u2060-\u206f\u3000\ufeff]", found
    )
    assert not re.search(r"[ \t](\n|$)|\n{4}|^\n|\n$", found)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \t\n"), max_size=40))
def test_tidy_lines_is_what_it_says(text: str) -> None:
    lines = [line.rstrip(" \t") for line in text.split("\n")]
    expected = re.sub("\n\n\n\n+", "\n\n\n", "\n".join(lines)).strip("\n")
    assert tidy_lines(text) == expected
    assert tidy_lines(expected) == expected
