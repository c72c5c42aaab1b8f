"""Tiny models with random weights, and a small byte-level tokenizer."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

TEXT = """The order was sent on Monday and came on Tuesday. 🙂 Where is my parcel? 你好，世界！ Das Paket ist größer als
gedacht. Please tell the support team what the order number is, and they will see what can be done for the order."""

SHAPES = {
    "llama": {"family": "llama", "heads": 6, "kv_heads": 2, "head_width": 8},
    "gpt2": {"family": "gpt2", "heads": 4},
    "mistral": {"family": "mistral", "heads": 4, "kv_heads": 2, "sliding_window": 7},
    "qwen3": {"family": "qwen3", "heads": 4, "kv_heads": 1, "head_width": 16},
    "gemma2": {"family": "gemma2", "heads": 4, "kv_heads": 2, "sliding_window": 7, "logit_softcap": 2.0},
    "bert": {"family": "bert", "heads": 4},
}


def documents_for(model: Transformer, seed: object, lengths: Sequence[int]) -> list[list[int]]:
    """Random tokens of a model's vocabulary, a document for each length."""
    rng = random.Random(seed)
    return [[rng.randrange(model.config.vocab_size) for _ in range(length)] for length in lengths]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Byte-level BPE with all 256 bytes, a few merges and three special tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer)
    return Tokenizer.from_parts(backend, bos=None, eos="<|endoftext|>", pad=None)


@pytest.fixture(scope="session")
def sentencepiece_like() -> Tokenizer:
    """As Llama 2 has it: ▁ for spaces, bytes for what has no token, and no space at the beginning of a text."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    pieces += ["▁the", "or", "er", "▁{", '{"', '▁"', '":', "▁▁", "▁a", "好", "▁tr", "ue", "▁yes", "no", "es"]
    merges = [("▁", "{"), ("{", '"'), ("▁", '"'), ('"', ":"), ("▁", "▁"), ("▁", "a"), ("n", "o"), ("e", "s")]
    backend = tokenizers.Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer.from_parts(backend, bos="<s>", eos="</s>")


@pytest.fixture(scope="session")
def unigram() -> Tokenizer:
    """SentencePiece's own spelling of spaces, without bytes: it can say printable ASCII only."""
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    pieces = [("<unk>", 0.0), ("▁", -1.0), ("▁a", -2.0), ("▁yes", -2.0), ('{"', -2.0), *letters, ("é", -3.0)]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, 0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["</s>"])
    return Tokenizer.from_parts(backend, eos="</s>")


@pytest.fixture(scope="session")
def make_model(tokenizer: Tokenizer) -> Callable[..., Transformer]:
    """A model of a family by name; its weights are wide enough that its answers vary."""

    def make(
        name: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: object
    ) -> Transformer:
        size = {"layers": 2, "width": 48, "vocab_size": tokenizer.vocab_size, "max_positions": 160}
        values = {**size, "initializer_range": 0.3, "family": name, **SHAPES.get(name, {}), **changes}
        model = Transformer(config_from_user(values)).eval()
        model.initialize(seed)
        model.compute_dtype = dtype
        for weight in model.parameters():
            weight.data = weight.data.to(dtype)
        return model

    return make


@pytest.fixture(scope="session")
def llama(make_model: Callable[..., Transformer]) -> Transformer:
    """One Llama for tests that need any model; they must not change it."""
    return make_model("llama")


@pytest.fixture(scope="session")
def interpreted() -> Callable[..., None]:
    """Runs a test file as a program in which Triton's kernels are interpreted.

    A process of its own, since Triton decides it when it is imported.
    """

    def run(file: str, *arguments: str) -> None:
        if importlib.util.find_spec("triton") is None:
            pytest.skip("Triton is not installed")
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        done = subprocess.run(
            [sys.executable, file, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if "only 0-dimensional arrays can be converted" in done.stderr:
            pytest.skip("this Triton's interpreter does not know this numpy")
        assert done.returncode == 0, done.stderr

    return run
