"""The words of texts and how often each stands there, cut exactly as the tokenizer to be trained will cut them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import tokenizers

# What stands for a space in SentencePiece's words, which begin with it.
SPACE = "\u2581"
_MARKED = re.compile(rf"\n|{SPACE}[^{SPACE}\n]*|[^{SPACE}\n]+")
# What cuts BERT's words: tabs, ends of lines, and what Unicode calls a space. Other control characters, of which some
# are white space as well, are taken out of words before.
_BETWEEN_SPACES = re.compile(r"[^\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def count_marked_words(texts: Iterable[str], longest: int) -> Counter[str]:
    """SentencePiece's words: a space begins a word as its first character, and a line's end is a word of its own.

    Args:
        texts: each begins with a space, whether or not one is written there.
        longest: longer words are counted in parts of so many characters.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        marked = text.replace(" ", SPACE)
        if marked.startswith("\n"):
            counts[SPACE + "\n"] += 1
            marked = marked[1:]
        elif not marked.startswith(SPACE):
            marked = SPACE + marked
        counts.update(_MARKED.findall(marked))
    for word in [word for word in counts if len(word) > longest]:
        times = counts.pop(word)
        for begin in range(0, len(word), longest):
            counts[word[begin : begin + longest]] += times
    return counts


def count_bert_words(texts: Iterable[str], backend: tokenizers.Tokenizer) -> Counter[str]:
    """BERT's words, lower-cased and without accents; a punctuation mark is a word of its own.

    Args:
        texts: read once.
        backend: whose normaliser and pre-tokenizer make the words; neither looks beyond white space, so each word
            between two spaces is given to them once.
    """
    written: Counter[str] = Counter()
    for text in texts:
        written.update(_BETWEEN_SPACES.findall(text))
    counts: Counter[str] = Counter()
    for word, times in written.items():
        for part, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word)):
            counts[part] += times
    return counts


def count_characters(counts: Mapping[str, int]) -> Counter[str]:
    """How often each character stands in counted words."""
    characters: Counter[str] = Counter()
    for word, times in counts.items():
        for character in word:
            characters[character] += times
    return characters
