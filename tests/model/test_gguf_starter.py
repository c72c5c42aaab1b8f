"""The starter model's real GGUF file: logits, answer and tokens as public loaders give them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.model import registry
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.gguf import convert_gguf
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

STARTER = "smollm2-135m-instruct"
CHAT = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def _source() -> Path | None:
    if given_path := os.environ.get("OWNLM_TEST_GGUF"):
        return Path(given_path)
    folder = registry.cached(STARTER)
    return next(folder.glob("*.gguf"), None) if folder else None


@pytest.fixture(scope="module")
def source() -> Path:
    if path := _source():
        return path
    pytest.skip(f"the starter's GGUF file is not here: run 'ownlm pull {STARTER}', or set OWNLM_TEST_GGUF")


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (source.parent / "config.json").is_file():
        return source.parent
    converted = tmp_path_factory.mktemp("starter") / "model"
    convert_gguf(source, converted)
    return converted


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in a folder of its own, so that the public loader reads it and nothing of ours beside it."""
    path = tmp_path_factory.mktemp("alone") / source.name
    path.symlink_to(source.resolve())
    return path


@pytest.fixture(scope="module")
def public_tokenizer(alone: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(alone.parent, gguf_file=alone.name)


def test_the_public_loaders_logits_and_answer(
    alone: Path, folder: Path, tokenizer: Tokenizer, public_tokenizer: transformers.PreTrainedTokenizerBase
) -> None:
    reference, exact = (
        transformers.AutoModelForCausalLM.from_pretrained(alone.parent, gguf_file=alone.name, dtype=dtype).eval()
        for dtype in (torch.float32, torch.float64)
    )
    model = load_model_folder(folder, dtype=torch.float32)
    prompt = tokenizer.render(CHAT, add_generation_prompt=True)
    assert prompt == public_tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    documents = [prompt, tokenizer.encode("def double(x):\n    return 2 * x\n"), [0]]
    with torch.no_grad():
        for document, logits in zip(documents, model.logits(documents), strict=True):
            # Some of this model's activations are so large that float32 alone can cost the reference more than 1e-4, by
            # what the processor's matrix products round; ours may be as far from the exact result, and no further.
            right = exact(torch.tensor([document])).logits[0]
            rounding = float((reference(torch.tensor([document])).logits[0] - right).abs().max())
            assert float((logits - right).abs().max()) <= max(1e-4, 1.5 * rounding)
    expected = reference.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0].tolist()
    answer: list[int] = []
    while len(answer) < 12 and not tokenizer.stop_ids.intersection(answer):
        answer.append(int(model.logits([prompt + answer])[0][-1].argmax()))
    assert prompt + answer == expected
    assert "Paris" in tokenizer.decode(answer)


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.text(alphabet="aZ é漢\u0301 \n\t0127'’.,!😀ß", max_size=60),
        st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", "<|endoftext|>", " word", "\n", "don't"])).map("".join),
    )
)
def test_ids_are_the_public_loaders(
    tokenizer: Tokenizer, public_tokenizer: transformers.PreTrainedTokenizerBase, text: str
) -> None:
    ids = tokenizer.encode(text)
    # The public loader takes GPT-2's split for this file, which puts numbers together with each other and with the space
    # before them, where the file's own ("smollm") has each by itself. That shows where several spaces stand before one,
    # and where one is no plain digit; there llama.cpp is the reference, below.
    numbers = {c for c in text if unicodedata.category(c).startswith("N")}
    if numbers <= set("0123456789") and not re.search(r"\s\s\d", text):
        assert ids == public_tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a  123", [81, 256, 33, 34, 35]),
        ("x1 2\n 3", [104, 33, 216, 34, 3805, 35]),
        ("Call  555-0199,\t\t7 days", [12800, 256, 37, 37, 37, 29, 32, 33, 41, 41, 28, 1656, 39, 2009]),
        (
            "<|im_start|>user\nIt's 漢字 naïve 😀<|im_end|>",
            [1, 4093, 198, 1589, 506, 17097, 137, 112, 36518, 15486, 46494, 40303, 218, 2],
        ),
    ],
)
def test_ids_are_those_that_llama_cpp_gives(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == ids
