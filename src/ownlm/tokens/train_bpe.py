"""Training a tokenizer on one's own text: byte-level BPE, or WordPiece, or Unigram."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..errors import UserError, nearest
from .count_words import count_bert_words, count_characters, count_marked_words
from .template import CHATML
from .tokenizer import Tokenizer
from .unigram import train_unigram
from .wordpiece import INSIDE, train_wordpiece

Kind = Literal["bpe", "wordpiece", "unigram"]

END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
DEFAULT_SPECIALS = (END, TURN_START, TURN_END)
WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN = "<unk>"

# The library counts pairs in 32 bits, and one pair may be all of a text.
MOST_BYTES = 2**31 - 1
# Its time rises with the square of a word's length, and a word can be all of a text: a picture in letters, a line of
# dashes, DNA. So longer ones are counted in parts of this many characters.
LONGEST_WORD = 256
_LONG_PARTS = re.compile(rf"\w{{{LONGEST_WORD}}}|[^\w\s]{{{LONGEST_WORD}}}|\s{{{LONGEST_WORD}}}")
# It takes some hundred and fifty bytes for each of a text, so a long one comes in parts of so many characters, each of
# them whole words: they begin with the single space that belongs to the word behind it.
LONGEST_PART = 2**20
_ONE_SPACE = re.compile(r"(?<=\S) (?=\S)")
_LONG_SPACE = re.compile(rf"\s{{{LONGEST_WORD}}}")


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, kind: Kind = "bpe", specials: Sequence[str] = DEFAULT_SPECIALS
) -> Tokenizer:
    """Trains a tokenizer; the same texts always give the same one.

    ``bpe`` is GPT-2's: bytes, split by its pattern, so every text can be written and read back exactly. ``wordpiece``
    is BERT's, lower-cased. ``unigram`` is SentencePiece's (Kudo 2018).

    Args:
        texts: read once, one at a time.
        vocab_size: the most ids there may be; a small corpus gives fewer.
        kind: which algorithm.
        specials: tokens that no text is ever split into; the first ends a text. With ``<|im_start|>`` and ``<|im_end|>``
            among them the tokenizer gets the ChatML template.

    Raises:
        UserError: the vocabulary is too small, or there is no text, or more than 2 GiB of it.
    """
    recipes = _recipes()
    if kind not in recipes:
        raise UserError(f"there is no tokenizer of kind '{kind}'", where="kind", hint=nearest(kind, recipes))
    recipe = recipes[kind](list(dict.fromkeys(specials)))
    if vocab_size < recipe.smallest:
        raise UserError(
            f"a vocabulary of {vocab_size:,} is too small",
            where="vocab_size",
            hint=f"a {kind} tokenizer with these special tokens needs at least {recipe.smallest}",
        )
    counted = _Counted(texts)
    backend = recipe.backend
    recipe.train(counted, vocab_size)
    if not counted.bytes:
        raise UserError("there is no text to train a tokenizer on")
    names = {"bos_token": specials[0], "eos_token": specials[0], "pad_token": specials[0]} if specials else {}
    if kind == "wordpiece":
        names |= dict(
            zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), WORDPIECE_SPECIALS, strict=True)
        )
        backend.post_processor = _bert_frame(backend)
    if kind == "unigram":
        names["unk_token"] = UNKNOWN
    chats = {TURN_START, TURN_END} <= set(specials)
    return Tokenizer(backend, names=names, chat_template=CHATML if chats else None)


def least_vocab_size(kind: Kind, specials: Sequence[str] = DEFAULT_SPECIALS) -> int:
    """The smallest vocabulary that a tokenizer of this kind can have."""
    return _recipes()[kind](list(dict.fromkeys(specials))).smallest


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """How many UTF-8 bytes of text one token stands for, on average; more is a shorter sequence."""
    size = tokens = 0
    for text in texts:
        size += len(text.encode())
        tokens += len(tokenizer.encode(text))
    if not tokens:
        raise UserError("there is no text to measure the tokenizer on")
    return size / tokens


class _Counted:
    """Passes texts on and counts them: neither an empty corpus nor a vast one makes the library complain."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.bytes += len(text.encode())
            if self.bytes > MOST_BYTES:
                raise UserError(
                    "there is more text than a tokenizer can count without overflow",
                    hint="train it on a random sample of at most 2 GB",
                )
            yield from _parts(text)


def _parts(text: str) -> Iterator[str]:
    """The text in parts that the library can count: cut between words where it is long, and inside long words."""
    begin = 0
    while (space := _ONE_SPACE.search(text, begin + LONGEST_PART)) is not None:
        yield from _without_long_words(text[begin : space.start()])
        begin = space.start()
    yield from _without_long_words(text[begin:])


def _without_long_words(text: str) -> Iterator[str]:
    begin = 0
    if _LONG_SPACE.search(text) or max(map(len, text.split()), default=0) > LONGEST_WORD:
        for part in _LONG_PARTS.finditer(text):
            yield text[begin : part.end()]
            begin = part.end()
    if begin < len(text):
        yield text[begin:]


class _Recipe(NamedTuple):
    """How a kind of tokenizer is made.

    Attributes:
        backend: all but its vocabulary.
        smallest: the smallest vocabulary that there can be.
        train: gives it one of at most so many ids, from texts.
    """

    backend: tokenizers.Tokenizer
    smallest: int
    train: Callable[[Iterable[str], int], None]


def _recipes() -> dict[str, Callable[[list[str]], _Recipe]]:
    return {"bpe": _bpe, "wordpiece": _wordpiece, "unigram": _unigram}


def _bpe(specials: list[str]) -> _Recipe:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    # In order, since the numbers of two pieces decide which of two equally frequent merges comes first.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())

    def train(texts: Iterable[str], vocab_size: int) -> None:
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
        backend.train_from_iterator(texts, trainer)

    return _Recipe(backend, len(alphabet) + len(specials), train)


def _wordpiece(specials: list[str]) -> _Recipe:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=INSIDE)
    every = [*WORDPIECE_SPECIALS, *(token for token in specials if token not in WORDPIECE_SPECIALS)]

    def train(texts: Iterable[str], vocab_size: int) -> None:
        counts = count_bert_words(texts, backend)
        backend.model = models.WordPiece(vocab=train_wordpiece(counts, vocab_size, every), unk_token="[UNK]")
        backend.add_special_tokens(every)

    return _Recipe(backend, len(every) + 1, train)


def _unigram(specials: list[str]) -> _Recipe:
    backend = tokenizers.Tokenizer(models.Unigram())
    # Nothing is normalised away, and a line's end is a token of its own: what is written can be read back.
    line_ends = pre_tokenizers.Split("\n", "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([line_ends, pre_tokenizers.Metaspace(prepend_scheme="first")])
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    every = [UNKNOWN, *(token for token in specials if token != UNKNOWN)]

    def train(texts: Iterable[str], vocab_size: int) -> None:
        counts = count_marked_words(texts, LONGEST_WORD)
        characters = len(count_characters(counts))
        if vocab_size < characters + len(every):
            raise UserError(
                f"a vocabulary of {vocab_size:,} is too small for the {characters:,} different characters of this text",
                where="vocab_size",
                hint=f"it needs at least {characters + len(every):,}; bpe can write every text with {256 + len(every)}",
            )
        pieces = train_unigram(counts, vocab_size - len(every)) if counts else []
        rows = [(token, 0.0) for token in every] + [row for row in pieces if row[0] not in every]
        backend.model = models.Unigram(rows, every.index(UNKNOWN), False)
        backend.add_special_tokens(every)

    return _Recipe(backend, len(every) + 1, train)


def _bert_frame(backend: tokenizers.Tokenizer) -> processors.TemplateProcessing:
    ids = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
