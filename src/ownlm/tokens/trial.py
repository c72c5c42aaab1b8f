"""Texts on which two tokenizer libraries are compared before the faster one is trusted with a tokenizer.

Two programs that split the same language differently do so at rare characters, at runs of white space, at contractions
and around special tokens. So every one of these is here, beside the tokenizer's own words, and always the same ones:
the texts depend on the tokenizer alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import tokenizers

# Raised whenever other texts are tried: what was trusted on fewer is then tried again.
VERSION = 1

SEED = 20_240_611
MIXED_TEXTS = 1500
WORDS_TRIED = 4096
MOST_ADDED = 512

# Ranges of code points in which every character is tried; of all the others, which are mostly ideographs and
# unassigned, each STRIDE-th. Unassigned ones are there since the libraries carry different versions of Unicode.
EVERY = ((0x0, 0x3400), (0xA000, 0xAC00), (0xF900, 0x10000), (0x10000, 0x12000), (0x16A00, 0x17000), (0x1B000, 0x20000))
STRIDE = 31
LAST = 0x110000
SURROGATES = range(0xD800, 0xE000)

SPACES = (" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", "\v", "\f", "\x1c", "\x85", "\xa0")
RARE_SPACES = (
    "\u1680",
    "\u2003",
    "\u200b",
    "\u2028",
    "\u2029",
    "\u202f",
    "\u3000",
    "\ufeff",
    " \n ",
    "  \t ",
    "\n    ",
)
RARE = (
    "e\u0301",
    "a\u0300\u0323",
    "\u1112\u1161\u11ab",
    "\u00ad",
    "\u200d",
    "\u202e",
    "\ue000",
    "\U0010ffff",
    "\0",
    "\x7f",
)
# One kind a line.
FRAGMENTS = r"""
's 't 're 've 'm 'll 'd 'S 'LL 'Re ’s ’t 'ſ 'x ''s s' '
. , ! ? ... -- ( ) [ ] {} # @ _ __ / \ ` $ % && += -> :: :// « » “ ” 、 。 ！ — · § € ™ ∑ ¿
0 7 12 123 1234 3.14 1,000,000 0x1F 1e-9 ٣٤٥ ४५ １２３ ½ ²³ ¼ Ⅷ Ⅻ ㊿
a I the The THE iPhone don naïve Straße ŒUVRE ǅ ﬁn İstanbul HTTPServer foo_bar fooBar2 a.b.c x@y.org
Ёлка здравствуйте Ελλάδα ς שָׁלוֹם السلام नमस्ते வணக்கம் สวัสดี ជំរាប გამარჯობა ሰላም 𝔘𝔫𝔦 𐍈
你好世界 東京 こんにちは カタカナ ｶﾀｶﾅ 안녕하세요 ㄱㄴㄷ
🙂 👩‍👩‍👧 🏳️‍🌈 🇨🇭 👍🏽 ❤️ ☃ �
def f(x): return x**2 <div> </div> <| |> <|endoftext [UNK] <s> </s> ▁ ▁the Ġthe https://a.org/?q=1&r=%20 C:\d\
"""

# Where a fragment, and where an added token, is placed.
PLACES = ("{0}", " {0}", "{0} ", "a{0}b", "1{0}2", "{0}{0}", "\n{0}\n")
MORE_PLACES = ("  {0}  .", "a {0}\n b", "\t{0}\t", "{0}\n\n{0}", "{0}s")


def trial_texts(backend: tokenizers.Tokenizer) -> list[str]:
    """Some two megabytes of text, the same for equal tokenizers."""
    draw = random.Random(SEED)
    added = sorted(token.content for token in backend.get_added_tokens_decoder().values())
    kinds = [SPACES, RARE_SPACES, RARE, *(tuple(line.split()) for line in FRAGMENTS.strip().split("\n"))]
    mixed = [SPACES, *kinds, *[_words_of(backend, draw)] * 4, *([added] if added else [])]
    return ["", *_placed(kinds), *_characters(), *_added(added), *_long(draw), *_mixed(draw, mixed)]


def _placed(kinds: Sequence[Sequence[str]]) -> Iterator[str]:
    """Each fragment alone, with spaces around it, between others, and doubled."""
    for part in dict.fromkeys(part for parts in kinds for part in parts):
        yield from (place.replace("{0}", part) for place in PLACES)


def _characters() -> Iterator[str]:
    """Characters between a letter and a number, and after a space: where a wrong class moves a border."""
    points = [point for start, end in EVERY for point in range(start, end)]
    covered = set(points)
    points += [point for point in range(0, LAST, STRIDE) if point not in covered]
    points = [point for point in points if point not in SURROGATES]
    for start in range(0, len(points), 64):
        yield "".join(f"a{chr(point)}1 {chr(point)}" for point in points[start : start + 64])


def _added(added: list[str]) -> Iterator[str]:
    """Special and other added tokens written in a text: alone, together, in a sentence, cut, in another case."""
    for token in added[:MOST_ADDED]:
        yield from (place.replace("{0}", token) for place in (*PLACES, *MORE_PLACES))
        yield from (token[:-1], token[1:], token.upper(), token.lower(), token.swapcase())


def _long(draw: random.Random) -> Iterator[str]:
    """Very long words and runs."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for part in ("a", " ", "\n", "=", "9", "語", "é", "🙂", " \n", "ab", "-", "\t", "\u0301", "\xa0"):
        yield from (part * 33, part * 257, f"x{part * 5000}y")
    for alphabet in (
        letters,
        "0123456789",
        letters.upper() + letters,
        "+/=" + letters,
        "あいうえお漢字仮名",
        ".,;:!?-_",
    ):
        yield from ("".join(draw.choices(alphabet, k=length)) for length in (50, 511, 8000))


def _mixed(draw: random.Random, kinds: Sequence[Sequence[str]]) -> Iterator[str]:
    """Everything in one text, in random order."""
    for _ in range(MIXED_TEXTS):
        parts = [draw.choice(draw.choice(kinds)) for _ in range(draw.randrange(1, 120))]
        yield draw.choice(("", "", " ", " ", "\n")).join(parts)


def _words_of(backend: tokenizers.Tokenizer, draw: random.Random) -> list[str]:
    """The texts of some of the tokenizer's own tokens, with their spaces, where it can write them."""
    size = backend.get_vocab_size(with_added_tokens=True)
    ids = draw.sample(range(size), min(WORDS_TRIED, size))
    texts = (backend.decode([number], skip_special_tokens=False) for number in ids)
    return [text for text in texts if text] or ["a"]
