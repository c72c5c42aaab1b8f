"""Canaries: the same ones from the same seed, measured as defined, found where they were learned, exact on resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.errors import ConfigError
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.transformer import Transformer
from ownlm.report.training import training_report
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.canaries import HELD_OUT, CanaryConfig, draw_canaries, encode_canary, measure_memorisation

pytestmark = pytest.mark.usefixtures("undrawn")

Train = Callable[..., Any]
Curve = Callable[[Path], list[tuple[int, str, str]]]


def test_canaries_follow_from_the_seed_and_have_names_of_their_own() -> None:
    canaries = draw_canaries(3, 520)
    assert canaries == draw_canaries(3, 520) and canaries[:8] == draw_canaries(3, 8)
    assert len({canary.name for canary in canaries}) == 520
    assert {canary.number for canary in canaries}.isdisjoint(canary.number for canary in draw_canaries(4, 520))
    assert all(len(canary.number) == 9 and canary.number.isdigit() for canary in canaries)


@pytest.mark.parametrize("kind", ["causal", "chat"])
def test_the_number_is_found_among_the_tokens(corpus: Path, kind: str) -> None:
    tokenizer = load_tokenizer(corpus / "tokenizer").with_explicit_template()
    for canary in draw_canaries(0, 50):
        encoded = encode_canary(canary, tokenizer, kind)
        assert tokenizer.decode(encoded.ids[encoded.start : encoded.end]).strip(" .") == canary.number
        assert canary.name in tokenizer.decode(encoded.ids[: encoded.start])


def test_exposure_is_as_defined(corpus: Path) -> None:
    model, tokenizer = load_model_folder(corpus / "base"), load_tokenizer(corpus / "base")
    measured = measure_memorisation(model, tokenizer, CanaryConfig(count=3), 5, "causal", 256)
    everything = [encode_canary(canary, tokenizer, "causal") for canary in draw_canaries(5, 3 + HELD_OUT)]
    losses = [number_loss(model, encoded.ids, encoded.start, encoded.end) for encoded in everything]
    for canary, loss in zip(measured["canaries"], losses, strict=False):
        assert canary["loss"] == pytest.approx(loss, rel=1e-4)
        rank = 1 + sum(other < canary["loss"] for other in losses[3:])
        # Losses that differ in the last bits may change places.
        assert abs(canary["rank"] - rank) <= 1
        assert canary["exposure"] == pytest.approx(math.log2((HELD_OUT + 1) / canary["rank"]), abs=1e-3)
    assert measured["extracted"] == 0 and measured["highest_exposure"] == pytest.approx(math.log2(501), abs=1e-3)


def number_loss(model: Transformer, ids: list[int], start: int, end: int) -> float:
    log_probs = model.logits([ids])[0].double().log_softmax(-1)
    return -sum(log_probs[place - 1, ids[place]].item() for place in range(start, end))


@pytest.fixture
def canary_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """A run in which two canaries are a good part of what is read, so that they are learned by heart."""
    kept = {key: value for key, value in settings.items() if key not in ("validate", "checkpoint")}
    data = {"train": settings["data"]["train"]}
    canaries = {"count": 2, "repeats": 60}
    return kept | {"data": data, "canaries": canaries, "batch_tokens": 512, "steps": 130, "optimizer": {"lr": 1e-2}}


def test_what_was_read_often_is_found_and_extracted(train: Train, canary_settings: dict[str, Any]) -> None:
    trained = train(canary_settings)
    summary = trained.run.summary
    measured = summary["memorisation"]
    assert measured["extracted"] == 2 and measured["median_exposure"] == measured["highest_exposure"]
    source = summary["ledger"]["sources"]["canaries (invented)"]
    assert source["documents"] == 2 and source["trained"] > 0
    assert any(line.startswith("canaries: memorised: 2 of 2 invented numbers") for line in trained.said)
    assert not any("canaries (invented) is passed" in line for line in trained.said)
    page = training_report(trained.run.folder).html()
    assert "Memorised: 2 of 2 invented numbers, read 60 times a pass, can be extracted" in page
    # What the words say is what the result does: greedy decoding writes the number out.
    model, tokenizer = load_model_folder(trained.run.model), load_tokenizer(trained.run.model)
    encoded = encode_canary(draw_canaries(0, 1)[0], tokenizer, "causal")
    ids = encoded.ids[: encoded.start]
    while len(ids) < encoded.end:
        ids.append(int(torch.argmax(model.logits([ids])[0][-1])))
    assert ids == encoded.ids[: encoded.end]


def test_canaries_are_in_the_fingerprint_and_resume_exactly(
    train: Train, canary_settings: dict[str, Any], tmp_path: Path, curve: Curve
) -> None:
    short = canary_settings | {"checkpoint": {"every": 2}, "schedule": {"kind": "constant"}}
    whole = train(short, steps=6).run
    train(short, steps=3, out=str(tmp_path / "other"))
    resumed = train(short, steps=6, out=str(tmp_path / "other")).run
    assert curve(whole.folder) == curve(resumed.folder)
    assert whole.summary["memorisation"] == resumed.summary["memorisation"]
    with pytest.raises(ConfigError, match=r"canaries\.count"):
        train(short, steps=6, canaries__count=3)
    without = train(short, steps=1, out=str(tmp_path / "third"), canaries=None).run
    assert without.summary["memorisation"] is None


def test_conversations_have_canaries_too(train: Train, chat_settings: dict[str, Any]) -> None:
    measured = train(chat_settings, canaries={"count": 2}, steps=2, data__length=128).run.summary["memorisation"]
    assert measured["count"] == 2 and len(measured["canaries"]) == 2 and measured["extracted"] == 0


def test_canaries_that_cannot_be_are_refused_before_the_first_step(train: Train, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"a canary has .* tokens, more than the 16 read at once"):
        train(settings, canaries={"count": 2}, data__length=16)
