"""The loader against brute force: every piece once, the same pieces however they are dealt, exact targets."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import ConfigError
from ownlm.tokens.batch import Batch
from ownlm.tokens.loader import Loader
from ownlm.tokens.packing import split_lengths
from ownlm.tokens.shards import ShardWriter, TokenDataset


def write(folder: Path, lengths: list[int], flags_seed: int | None = None) -> TokenDataset:
    """Documents of these lengths whose tokens are all different, and their flags random where a seed is given."""
    rng = np.random.default_rng(flags_seed)
    with ShardWriter(folder, 10**7) as writer:
        for number, length in enumerate(lengths):
            ids = np.arange(length) + 1000 * (number + 1)
            writer.add(ids, None if flags_seed is None else rng.random(length) < 0.5)
    return TokenDataset(folder)


@dataclass
class Case:
    lengths: list[int]
    flags_seed: int | None
    batch_tokens: int
    length: int
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    length = draw(st.integers(2, 24))
    return Case(
        lengths=draw(st.lists(st.integers(1, 60), min_size=1, max_size=40)),
        flags_seed=draw(st.none() | st.integers(0, 3)),
        batch_tokens=draw(st.integers(length, 3 * length)),
        length=length,
        seed=draw(st.integers(0, 5)),
    )


def check_batch(batch: Batch, loader: Loader, expected: list[int]) -> None:
    """Compares a batch with what its pieces' documents say, token by token."""
    assert sorted(batch.documents) == sorted(expected)
    assert len(batch.document_starts) == len(batch.documents) + 1
    assert batch.document_starts[-1] == len(batch) == len(batch.targets) == len(batch.weights) == len(batch.positions)
    everything = {p.index: p for step in range(loader.steps_in_epoch(0)) for p in loader.pieces(step)}
    lengths = [len(everything[index]) for index in batch.documents]
    assert lengths == sorted(lengths, reverse=True)
    for index, start, end in zip(batch.documents, batch.document_starts, batch.document_starts[1:], strict=False):
        piece = everything[index]
        ids, trained = loader.datasets[piece.dataset].document(piece.document)
        for offset in range(end - start):
            place = piece.start + offset
            assert batch.tokens[start + offset] == ids[place]
            assert batch.positions[start + offset] == offset
            if place + 1 < len(ids):
                assert batch.targets[start + offset] == ids[place + 1]
                assert batch.weights[start + offset] == float(trained[place + 1])
            else:
                assert batch.weights[start + offset] == 0


@given(cases())
@settings(max_examples=40, deadline=None)
def test_against_brute_force(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = write(Path(folder) / "data", case.lengths, case.flags_seed)
        loader = Loader([dataset], batch_tokens=case.batch_tokens, length=case.length, seed=case.seed)
        steps = range(loader.steps_in_epoch(0))
        pieces = [piece for step in steps for piece in loader.pieces(step)]
        expected = []
        for document, length in enumerate(case.lengths):
            ends = np.cumsum(split_lengths(length, case.length)).tolist()
            expected += [(document, start, end) for start, end in zip([0, *ends], ends, strict=False)]
        assert sorted((p.document, p.start, p.end) for p in pieces) == expected
        assert sorted(p.index for p in pieces) == list(range(len(loader)))
        trained = sum(int(dataset.document(i)[1].sum()) for i in range(len(dataset)))
        assert sum(loader.trained_tokens(step) for step in steps) == trained
        for step in steps:
            batch = loader.batch(step)
            check_batch(batch, loader, [piece.index for piece in loader.pieces(step)])
            assert len(batch) == loader.tokens(step) <= case.batch_tokens
            assert batch.trained_tokens == loader.trained_tokens(step)


@given(cases(), st.integers(1, 5), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_neither_workers_nor_micro_batches_change_a_step(case: Case, workers: int, micro: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = write(Path(folder) / "data", case.lengths, case.flags_seed)
        loader = Loader([dataset], batch_tokens=case.batch_tokens, length=case.length, seed=case.seed)
        for step in range(min(4, loader.steps_in_epoch(0))):
            whole = [piece.index for piece in loader.pieces(step)]
            dealt = [loader.batch(step, worker, workers) for worker in range(workers)]
            assert sorted(d for batch in dealt for d in batch.documents) == sorted(whole)
            assert sum(batch.trained_tokens for batch in dealt) == loader.trained_tokens(step)
            assert max(map(len, dealt)) - min(map(len, dealt)) <= case.length
            for worker, share in enumerate(dealt):
                parts = loader.micro_batches(step, micro, worker, workers)
                assert sorted(d for part in parts for d in part.documents) == sorted(share.documents)
                assert all(len(part) <= micro or len(part.documents) == 1 for part in parts)
                for part in parts:
                    check_batch(part, loader, list(part.documents))


@given(cases(), st.lists(st.integers(1, 60), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_every_token_is_counted_once(case: Case, more: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        datasets = [
            write(Path(folder) / "a", case.lengths, case.flags_seed),
            write(Path(folder) / "b", more),
        ]
        loader = Loader(datasets, batch_tokens=case.batch_tokens, length=case.length, seed=case.seed)
        flags = [np.concatenate([d.document(i)[1] for i in range(len(d))]) for d in datasets]
        whole = [(int(f.sum()), int(len(f) - f.sum())) for f in flags]
        assert loader.counts(loader.epoch_pieces(0)) == whole
        steps = [loader.counts(loader.batch(step).documents) for step in range(loader.steps_in_epoch(0))]
        assert [tuple(map(sum, zip(*column, strict=True))) for column in zip(*steps, strict=True)] == whole
        for step, counts in enumerate(steps):
            assert sum(trained for trained, _ in counts) == loader.trained_tokens(step)


def same(a: Batch, b: Batch) -> bool:
    tensors = ("tokens", "positions", "targets", "weights")
    equal = all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)
    return equal and a.document_starts == b.document_starts and a.documents == b.documents


def test_any_step_can_be_asked_for_at_any_time(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 300).tolist()
    dataset = write(tmp_path / "data", lengths)

    def loader() -> Loader:
        return Loader([dataset], batch_tokens=64, length=32, seed=7)

    one = loader()
    forwards = [one.batch(step) for step in range(2 * one.steps_in_epoch(0))]
    for step in reversed(range(0, len(forwards), 17)):
        assert same(loader().batch(step), forwards[step])
    assert same(one.batch(3), forwards[3])
    epochs = [one.locate(step) for step in range(len(forwards))]
    assert epochs[0] == (0, 0)
    assert epochs[one.steps_in_epoch(0)] == (1, 0)
    assert epochs == sorted(epochs)


def test_two_threads_that_meet_a_new_epoch_at_once_count_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write(tmp_path / "data", np.random.default_rng(0).integers(1, 50, 30).tolist())
    alone, shared = (Loader([dataset], batch_tokens=64, length=32, seed=7) for _ in range(2))
    expected = [alone.steps_in_epoch(epoch) for epoch in range(4)]
    both = threading.Barrier(2)
    honest = Loader._epoch

    def together(loader: Loader, epoch: int) -> object:
        plan = honest(loader, epoch)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=1)
        return plan

    monkeypatch.setattr(Loader, "_epoch", together)
    threads = [threading.Thread(target=shared.steps_in_epoch, args=(3,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [shared.steps_in_epoch(epoch) for epoch in range(4)] == expected


def test_the_order_is_the_same_on_every_machine(tmp_path: Path) -> None:
    # Written down once; a change would break resuming runs that were started before it.
    dataset = write(tmp_path / "data", [3, 9, 4, 7, 2, 8, 5, 6])
    loader = Loader([dataset], batch_tokens=16, length=16, seed=1)
    steps = [[piece.index for piece in loader.pieces(step)] for step in range(loader.steps_in_epoch(0))]
    assert steps == [[1, 2, 0], [5, 3], [7, 6, 4]]


def test_epochs_and_seeds_differ_and_steps_are_full(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(2, 100, 3000).tolist()
    dataset = write(tmp_path / "data", lengths)
    loader = Loader([dataset], batch_tokens=256, length=100, seed=0)
    steps = loader.steps_in_epoch(0)
    sizes = [loader.tokens(step) for step in range(steps)]
    assert sum(sizes) == sum(lengths)
    assert min(sizes[:-1]) > 0.9 * 256  # only the last may be small
    assert np.mean(sizes[:-1]) > 0.985 * 256
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        other = Loader([dataset], batch_tokens=256, length=100, seed=seed)
        first = sum(other.steps_in_epoch(e) for e in range(epoch))
        orders.append([p.index for step in range(first, first + 20) for p in other.pieces(step)])
    assert len({tuple(order) for order in orders}) == 3
    # Packing must not sort the epoch: early steps hold documents of all lengths and from everywhere.
    early = [piece for step in range(steps // 8) for piece in loader.pieces(step)]
    assert abs(np.mean([len(p) for p in early]) - np.mean(lengths)) < 5
    assert abs(np.mean([p.document for p in early]) - 1500) < 150


def test_a_small_epoch_meets_anew_and_is_not_sorted_by_length(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(60, 450, 160)
    loader = Loader([write(tmp_path / "data", lengths.tolist())], batch_tokens=1536, length=450, seed=0)
    first, then = loader.steps_in_epoch(0), loader.steps_in_epoch(0) + loader.steps_in_epoch(1)
    together = []
    for steps in (range(first), range(first, then)):
        held = [sorted(piece.index for piece in loader.pieces(step)) for step in steps]
        together.append({pair for step in held for pair in itertools.combinations(step, 2)})
    # Of any two documents, about 5% share a step by chance; best fit over the whole epoch would keep 95% together.
    assert len(together[0] & together[1]) < 0.15 * len(together[0])
    means = [np.mean([len(piece) for piece in loader.pieces(step)]) for step in range(first - 1)]
    # Six documents of that spread scatter by 46 tokens by chance.
    assert np.std(means) < 2 * lengths.std() / np.sqrt(6)


def test_mix_without_weights_takes_everything(tmp_path: Path) -> None:
    datasets = [write(tmp_path / "a", [5] * 10), write(tmp_path / "b", [7] * 4)]
    loader = Loader(datasets, batch_tokens=32, length=8, seed=0, epochs=[1, 2.5])
    seen = Counter((p.dataset, p.document) for step in range(loader.steps_in_epoch(0)) for p in loader.pieces(step))
    assert {key: n for key, n in seen.items() if key[0] == 0} == {(0, i): 1 for i in range(10)}
    assert sorted(n for key, n in seen.items() if key[0] == 1) == [2, 2, 3, 3]
    assert {piece.dataset for step in range(3) for piece in loader.pieces(step)} == {0, 1}


def test_mix_keeps_the_shares_and_the_limits(tmp_path: Path) -> None:
    # 400 tokens against 4,000; shares of 1 to 4 would need 1.6 passes of the large one for 4 of the small.
    datasets = [write(tmp_path / "a", [10] * 40), write(tmp_path / "b", [10] * 400)]
    loader = Loader(datasets, batch_tokens=100, length=10, seed=0, weights=[1, 4], epochs=[2, 1])
    assert loader.repeats == [2, 0.8]
    per_epoch: list[Counter] = []
    step = 0
    for epoch in range(5):
        pieces = [p for s in range(loader.steps_in_epoch(epoch)) for p in loader.pieces(step + s)]
        step += loader.steps_in_epoch(epoch)
        tokens = [sum(len(p) for p in pieces if p.dataset == d) for d in (0, 1)]
        assert tokens == [800, 3200]
        counts = Counter(p.document for p in pieces if p.dataset == 1)
        assert max(counts.values()) == 1
        per_epoch.append(counts)
    # What one epoch leaves out comes in the next ones: five epochs of 0.8 are four passes.
    assert set(sum(per_epoch, Counter()).values()) == {4}


def test_more_workers_than_pieces(tmp_path: Path) -> None:
    loader = Loader([write(tmp_path / "data", [5])], batch_tokens=8, length=8, seed=0)
    empty = loader.batch(0, worker=1, workers=2)
    assert len(empty) == 0
    assert empty.document_starts == (0,)
    assert loader.micro_batches(0, 8, worker=1, workers=2) == []


def test_bad_numbers(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", [5, 20])
    with pytest.raises(ConfigError, match="document of 20 tokens does not fit into a batch of 16"):
        Loader([dataset], batch_tokens=16, length=32, seed=0)
    with pytest.raises(ConfigError, match=r"data\.length"):
        Loader([dataset], batch_tokens=16, length=1, seed=0)
    with pytest.raises(ConfigError, match="seed"):
        Loader([dataset], batch_tokens=16, length=8, seed=-1)
    for weights, epochs in (([-1.0], None), ([0.0], None), (None, [0.0])):
        with pytest.raises(ConfigError, match=r"data\.mix"):
            Loader([dataset], batch_tokens=16, length=8, seed=0, weights=weights, epochs=epochs)
    with pytest.raises(ConfigError, match="no document"):
        Loader([dataset], batch_tokens=16, length=8, seed=0, epochs=[0.01]).steps_in_epoch(0)
