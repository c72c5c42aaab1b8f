"""A WordPiece vocabulary from counted words, the same in every process.

The library makes one as it makes a BPE vocabulary, with pieces inside of words marked by ``##``. Where two merges are
equally frequent, the numbers of their pieces decide, and marked characters get theirs in the order of its words, which
chance decides. Here they have their numbers before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from .count_words import count_characters

INSIDE = "##"
# Characters of the texts that the library is given at a time.
_PART = 2**20


def train_wordpiece(counts: Mapping[str, int], vocab_size: int, specials: Sequence[str]) -> dict[str, int]:
    """The vocabulary: special tokens, then characters, then what the most frequent merges give.

    Args:
        counts: how often each word stands in the text; words may be in any order.
        vocab_size: the most ids there may be. Where there are more characters than that, the rarest are left out, and
            words with them are unknown.
        specials: come first, as they are.
    """
    alphabet = _alphabet(counts, vocab_size - len(specials))
    known = set(alphabet)
    words = {word: times for word, times in counts.items() if known.issuperset(word)}
    scratch = tokenizers.Tokenizer(models.BPE())
    scratch.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(dict.fromkeys([*specials, *alphabet])),
        continuing_subword_prefix=INSIDE,
        show_progress=False,
    )
    scratch.train_from_iterator(_repeated(words), trainer)
    return scratch.get_vocab(with_added_tokens=False)


def _alphabet(counts: Mapping[str, int], size: int) -> list[str]:
    """The characters, and those that stand inside of words once more with their mark, both sorted."""
    inside = {character for word in counts for character in word[1:]}
    kept: list[str] = []
    for character, _ in sorted(count_characters(counts).items(), key=lambda item: (-item[1], item[0])):
        size -= 1 + (character in inside)
        if size < 0:
            break
        kept.append(character)
    kept.sort()
    return [*kept, *(INSIDE + character for character in kept if character in inside)]


def _repeated(counts: Mapping[str, int]) -> Iterator[str]:
    """Texts with each word as often as it is counted."""
    part: list[str] = []
    room = _PART
    for word in sorted(counts):
        left = counts[word]
        while left:
            times = min(left, room // (len(word) + 1) + 1)
            part.append((word + " ") * times)
            left -= times
            room -= times * (len(word) + 1)
            if room <= 0:
                yield "".join(part)
                part, room = [], _PART
    yield "".join(part)
