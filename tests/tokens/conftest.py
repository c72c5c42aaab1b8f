"""Small real tokenizers, trained on the spot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.\n",
    "A customer asks how to cancel an order; an agent answers, politely and at once.\n",
    "user assistant system tool Hello there! What is the capital of France? Paris, of course.\n",
    "def f(x):\n    return x ** 2  # 123 456 7890\n\n\tprint(f(3))\n",
    "Äpfel, naïve café, здравствуйте, 你好世界, नमस्ते, 🙂🚀\n",
] * 4

CHAT_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<think>",
    "</think>",
)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="session")
def sample() -> list[str]:
    """The texts that the tokenizers here are trained on."""
    return CORPUS


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    """Byte-level BPE with the ChatML template."""
    return train_tokenizer(CORPUS, 600)


@pytest.fixture(scope="session")
def chat_backend() -> str:
    """A byte-level BPE backend, as JSON, with several chat formats' special tokens and Llama 3's way to split a text."""
    backend = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_PATTERN), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(CHAT_SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend.to_str()


@pytest.fixture(scope="session")
def llama_backend() -> str:
    """A backend, as JSON, as converted from Llama 2's SentencePiece model: a space before every text, byte fallback."""
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, show_progress=False, max_token_length=8)
    # SentencePiece joins no pieces across a space; once trained, its converted form splits nowhere.
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.train_from_iterator(CORPUS, trainer)
    description = json.loads(backend.to_str())
    added = [token for token in description["added_tokens"] if not token["content"].startswith("<0x")]
    return json.dumps(description | {"pre_tokenizer": None, "added_tokens": added})


@pytest.fixture(scope="session")
def gpt2(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """GPT-2's own tokenizer, from the two files that it was published with."""
    folder = tmp_path_factory.mktemp("gpt2")
    shutil.copyfile(shared_data / "tokenizers" / "gpt2_encoder.json", folder / "vocab.json")
    shutil.copyfile(shared_data / "tokenizers" / "gpt2_vocab.bpe", folder / "merges.txt")
    return load_tokenizer(folder)
