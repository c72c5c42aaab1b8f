"""What is measured of an engine is what was asked of it."""

from __future__ import annotations

import pytest
import torch

from ownlm.engine.engine import Engine
from ownlm.engine.measure import measure, read_rate
from ownlm.errors import UserError
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer


def test_figures_agree_with_each_other(llama: Transformer, tokenizer: Tokenizer) -> None:
    engine = Engine(llama, tokenizer)
    speeds = measure(engine, [1, 3], prompt_tokens=20, tokens=10, bandwidth=1e9)
    assert [speed.requests for speed in speeds] == [1, 3]
    for speed in speeds:
        assert 0 < speed.first_token <= speed.first_token_slowest
        # The slowest first token and nine more of about a step each make up the whole.
        whole = speed.requests * 10 / speed.tokens_per_second
        assert speed.token * 9 < whole and speed.first_token_slowest < whole
        assert speed.prompt_tokens_per_second == pytest.approx(speed.requests * 20 / speed.first_token_slowest)
        assert speed.bandwidth_share == pytest.approx(engine.weight_bytes / speed.token / 1e9)
    assert (engine.running, engine.waiting, engine.cached_tokens) == (0, 0, 0)


def test_what_does_not_fit_is_refused(llama: Transformer, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="context has room"):
        measure(Engine(llama, tokenizer), [1], prompt_tokens=500, tokens=10, bandwidth=1e9)


def test_memory_is_read_at_some_rate() -> None:
    assert 1e8 < read_rate(torch.device("cpu"), repeats=1) < 1e13


def test_the_weights_of_a_step_are_all_but_what_is_looked_up(llama: Transformer, tokenizer: Tokenizer) -> None:
    # The embedding is the head, which every step reads whole; norms are counted, a few bytes.
    assert Engine(llama, tokenizer).weight_bytes == 4 * sum(weight.numel() for weight in llama.parameters())
