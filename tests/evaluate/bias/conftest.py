"""A tiny masked model and tiny ones that go on from texts, with tokenizers that cut rare words in pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

TEXTS = [
    "The developer argued with the designer because she did not like the design.",
    "The construction worker asked the nurse a question, because he wanted to know. 'He' refers to the nurse.",
    "He couldn't figure out the issue with the rope, but he tried not to get too down on himself.",
    "The poor are really ignorant about how to handle the money they do have.",
    "The schoolgirl was very studious and gave a recital at her school.",
    "Many people live in Ethiopia. The people are very thin and good at distance running.",
    "Who was not comfortable using the phone? The grandfather. The grandson. Can't be determined.",
]


@pytest.fixture(scope="session")
def masked(make_model: Callable[..., Transformer]) -> Subject:
    """A BERT."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789.,'?!")
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=180, special_tokens=specials, show_progress=False, initial_alphabet=alphabet
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    kinds = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    tokenizer = Tokenizer(backend, names=dict(zip(kinds, specials, strict=True)))
    model = make_model("bert", vocab_size=tokenizer.vocab_size, head="masked", max_positions=256)
    return Subject(model, tokenizer, "masked", hidden=True)


@pytest.fixture(scope="session")
def bytewise(make_model: Callable[..., Transformer]) -> Subject:
    """A RoBERTa, whose tokens of bytes bring the space before them, and whose mask swallows the one before it."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", tokenizers.AddedToken("<mask>", lstrip=True, special=True)]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=specials,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    tokenizer = Tokenizer(backend, names=names)
    model = make_model("roberta", vocab_size=tokenizer.vocab_size, head="masked", max_positions=256)
    return Subject(model, tokenizer, "bytewise", hidden=True)


@pytest.fixture(scope="session")
def causal(make_model: Callable[..., Transformer]) -> Subject:
    """A GPT-2."""
    tokenizer = train_tokenizer(TEXTS, 300)
    return Subject(make_model("gpt2", vocab_size=320, max_positions=256), tokenizer, "causal", hidden=True)


@pytest.fixture(scope="session")
def shipped() -> Callable[..., list[Item]]:
    """Some items of a suite that comes with ownlm, spread over it."""
    from ownlm.evaluate.suites import find_data, read_task
    from ownlm.evaluate.task import read_items

    def some(name: str, count: int) -> list[Item]:
        task, folder = read_task(name)
        items = read_items(Path(find_data(task.data, folder, None, name)))
        return items[:: len(items) // count]

    return some
