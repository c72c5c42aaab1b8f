"""WordPiece vocabularies against the library's own trainer."""

from __future__ import annotations

import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from ownlm.tokens.wordpiece import train_wordpiece

SPECIALS = ["[UNK]", "[CLS]"]


def library_vocabulary(counts: dict[str, int], vocab_size: int) -> set[str]:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=SPECIALS, show_progress=False)
    backend.train_from_iterator([" ".join([word] * times) for word, times in counts.items()], trainer)
    return set(backend.get_vocab())


def test_without_ties_it_is_the_librarys() -> None:
    # At no time do two pairs have the same count, so that nothing is left to chance there.
    counts = {"ab": 100, "abc": 10, "xbc": 7, "xb": 4, "de": 50, "dez": 23}
    ours = train_wordpiece(counts, 20, SPECIALS)
    assert set(ours) == library_vocabulary(counts, 20)
    characters = ["a", "b", "c", "d", "e", "x", "z", "##b", "##c", "##e", "##z"]
    assert sorted(ours, key=lambda piece: ours[piece]) == [
        *SPECIALS,
        *characters,
        "ab",
        "de",
        "dez",
        "xb",
        "abc",
        "xbc",
    ]
    assert sorted(ours.values()) == list(range(len(ours)))


def test_with_ties_the_order_of_the_words_changes_nothing() -> None:
    draw = random.Random(0)
    words = {"".join(draw.choices("abcdefgh", k=draw.randint(1, 9))): draw.randint(1, 3) for _ in range(400)}
    shuffled = draw.sample(sorted(words), len(words))
    for size in (40, 200, 2000):
        vocabulary = train_wordpiece(words, size, SPECIALS)
        assert train_wordpiece({word: words[word] for word in shuffled}, size, SPECIALS) == vocabulary
        assert len(vocabulary) <= size


def test_characters_beyond_the_vocabulary_are_left_out_the_rarest_first() -> None:
    vocabulary = train_wordpiece({"ab": 5, "ca": 3, "zz": 1}, 6, SPECIALS)
    # 'a' and 'b' both stand inside of words; there is no room for two more of 'c' or 'z'.
    assert vocabulary == {"[UNK]": 0, "[CLS]": 1, "a": 2, "b": 3, "##a": 4, "##b": 5}


def test_no_words() -> None:
    assert train_wordpiece({}, 10, SPECIALS) == {"[UNK]": 0, "[CLS]": 1}
