"""Promise 3, isolation: in a packed batch, changing one document leaves every other one's logits bit-identical."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer

VOCAB = 61
SHAPE = {"layers": 2, "width": 32, "heads": 4, "vocab_size": VOCAB, "max_positions": 64, "initializer_range": 0.2}
MODELS = {
    "gpt2": {"family": "gpt2"},
    "llama": {"family": "llama", "kv_heads": 2},
    "mistral": {"family": "mistral", "kv_heads": 1, "sliding_window": 3},
    "qwen2": {"family": "qwen2", "kv_heads": 2},
    "qwen3": {"family": "qwen3", "kv_heads": 2, "head_width": 16},
}


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> Transformer:
    return random_model(config_from_user(SHAPE | MODELS[request.param]), seed=5)


tokens = st.integers(0, VOCAB - 1)
packed = st.lists(st.lists(tokens, min_size=1, max_size=12), min_size=2, max_size=6)


@settings(max_examples=25, deadline=None)
@given(documents=packed, data=st.data())
def test_no_document_sees_another(model: Transformer, documents: list[list[int]], data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, len(documents) - 1))
    other = [(token + data.draw(st.integers(1, VOCAB - 1))) % VOCAB for token in documents[changed]]
    before = model.logits(documents)
    after = model.logits([*documents[:changed], other, *documents[changed + 1 :]])
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if index != changed:
            assert torch.equal(old, new)
    assert not torch.equal(before[changed], after[changed])


@settings(max_examples=25, deadline=None)
@given(document=st.lists(tokens, min_size=2, max_size=12), data=st.data())
def test_no_token_sees_a_later_one(model: Transformer, document: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(document) - 1))
    changed = [*document[:place], (document[place] + 1) % VOCAB, *document[place + 1 :]]
    before, after = model.logits([[3, 1], document])[1], model.logits([[3, 1], changed])[1]
    assert torch.equal(before[:place], after[:place])
