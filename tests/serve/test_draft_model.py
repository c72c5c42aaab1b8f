"""A server whose model has a smaller one to guess for it."""

from __future__ import annotations

from pathlib import Path

import pytest

import ownlm
from ownlm.errors import UserError
from ownlm.serve.config import ServeConfig
from ownlm.serve.start import engine_of

from .conftest import Running, Start


def test_a_draft_model_changes_nothing_but_the_counts(start_server: Start, server: Running, tiny: Path) -> None:
    def text(of: Running) -> str:
        return of.chat("How warm is it in Ulm?", max_tokens=40).json()["choices"][0]["message"]["content"]

    with start_server(tiny, "--draft-model", str(tiny)) as drafted:
        assert text(drafted) == text(server)
        assert drafted.metric("ownlm_right_tokens") > 0.5 * drafted.metric("ownlm_guessed_tokens") > 0
        assert drafted.stop() == 0
    assert server.metric("ownlm_guessed_tokens") == 0


def test_what_writes_nothing_needs_no_draft_model(encoder: Path, tiny: Path) -> None:
    model, tokenizer = ownlm.load_model(encoder, device="cpu"), ownlm.load_tokenizer(encoder)
    with pytest.raises(UserError, match="writes nothing"):
        engine_of(model, tokenizer, ServeConfig(), ownlm.load_model(tiny, device="cpu"))
