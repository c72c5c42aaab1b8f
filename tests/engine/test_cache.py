"""Attention over the cache gives the logits of one pass over the whole document, however the passes are cut."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from ownlm.engine.cache import SMALLEST, KVCache, Row, room_for
from ownlm.model.transformer import Transformer


def cache_of(model: Transformer) -> KVCache:
    return KVCache(model.config, model.compute_dtype, model.device)


@torch.no_grad()
def read(model: Transformer, cache: KVCache, work: list[tuple[Row, list[int]]]) -> list[torch.Tensor]:
    """One pass over new tokens of several rows; their logits, each [new, vocab]."""
    positions = [row.length + i for row, tokens in work for i in range(len(tokens))]
    context = cache.begin([(row, len(tokens)) for row, tokens in work])
    flat = torch.tensor([token for _, tokens in work for token in tokens])
    logits = model.logits_of(model(flat, torch.tensor(positions), context))
    return list(logits.split([len(tokens) for _, tokens in work]))


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "qwen3"])
def test_cached_logits_are_those_of_the_whole(make_model: Callable[..., Transformer], name: str) -> None:
    model, rng = make_model(name, initializer_range=0.15), random.Random(name)
    # From below the smallest shelf to beyond the next one, so that sequences move while others stand still.
    documents = [[rng.randrange(model.config.vocab_size) for _ in range(size)] for size in (3, 40, 70, 131, 150)]
    cache = cache_of(model)
    rows = [cache.open(1) for _ in documents]
    got: list[list[torch.Tensor]] = [[] for _ in documents]
    while unread := [i for i, document in enumerate(documents) if rows[i].length < len(document)]:
        work = []
        for i in rng.sample(unread, rng.randint(1, len(unread))):
            size = rng.choice([1, 1, 1, 1, 2, 9, 33])
            work.append((i, documents[i][rows[i].length : rows[i].length + size]))
        for (i, _), logits in zip(work, read(model, cache, [(rows[i], new) for i, new in work]), strict=True):
            got[i].append(logits)
    for i, whole in enumerate(model.logits(documents)):
        torch.testing.assert_close(torch.cat(got[i]), whole, atol=1e-5, rtol=1e-5)
    assert cache.tokens == sum(map(len, documents))


def test_closing_a_row_frees_it_and_leaves_the_others_alone(make_model: Callable[..., Transformer]) -> None:
    model, rng = make_model("llama"), random.Random(1)
    documents = [[rng.randrange(model.config.vocab_size) for _ in range(30)] for _ in range(4)]
    cache = cache_of(model)
    rows = [cache.open(30) for _ in documents]
    read(model, cache, [(row, document[:20]) for row, document in zip(rows, documents, strict=True)])
    cache.close(rows[0])
    cache.close(rows[2])
    assert cache.tokens == 40
    parts = read(model, cache, [(rows[i], documents[i][20:]) for i in (3, 1)])
    for i, part in zip((3, 1), parts, strict=True):
        torch.testing.assert_close(part, model.logits([documents[i]])[0][20:], atol=1e-5, rtol=1e-5)
    for i in (1, 3):
        cache.close(rows[i])
    assert cache.tokens == 0 and cache.memory_bytes == 0


def test_what_overflowed_in_a_row_never_reaches_the_next(make_model: Callable[..., Transformer]) -> None:
    model = make_model("llama")
    cache = cache_of(model)
    broken, fine = cache.open(50), cache.open(5)
    read(model, cache, [(broken, [1] * 50), (fine, [2, 3])])
    for shelf in {broken.shelf, fine.shelf}:
        shelf.values[:, broken.slot, :, :50] = float("inf")
    cache.close(broken)
    later = cache.open(5)
    logits = read(model, cache, [(fine, [4]), (later, [5])])
    torch.testing.assert_close(logits[0], model.logits([[2, 3, 4]])[0][2:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[1], model.logits([[5]])[0], atol=1e-5, rtol=1e-5)


def test_shelves_are_powers_of_two() -> None:
    sizes = [1, SMALLEST, SMALLEST + 1, 128, 129, 8191, 8192]
    assert [room_for(size) for size in sizes] == [64, 64, 128, 128, 256, 8192, 8192]
