"""Promise 6, seekable data: (seed, step, worker) -> Batch is a pure function."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ownlm.tokens.batch import Batch
from ownlm.tokens.loader import Loader
from ownlm.tokens.prepare import tokenize_files
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import load_tokenizer

# Enough for three epochs of the corpus.
STEPS = 48
PLACES = [(step, worker, workers) for step in range(STEPS) for workers in (1, 3) for worker in range(workers)]


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer, cache = load_tokenizer(corpus / "tokenizer"), tmp_path_factory.mktemp("cache")
    return tokenize_files([corpus / "train.jsonl"], tokenizer, kind="text", length=40, cache_folder=cache).folder


def make(dataset: Path, seed: int = 11) -> Loader:
    return Loader([TokenDataset(dataset)], batch_tokens=256, length=40, seed=seed)


def digest(batch: Batch) -> str:
    """Every bit of a batch."""
    content = hashlib.sha256(repr((batch.document_starts, batch.documents)).encode())
    for tensor in (batch.tokens, batch.positions, batch.targets, batch.weights):
        content.update(str(tensor.dtype).encode() + tensor.numpy().tobytes())
    return content.hexdigest()


def digests(loader: Loader) -> dict[tuple[int, int, int], str]:
    return {place: digest(loader.batch(*place)) for place in PLACES}


def test_it_does_not_matter_what_was_asked_for_before(dataset: Path) -> None:
    expected = digests(make(dataset))
    epoch = make(dataset).steps_in_epoch(0)
    assert len({expected[step, 0, 1] for step in range(epoch)}) == epoch > 9, "every step of an epoch is another batch"
    shuffled = PLACES * 2
    random.Random(3).shuffle(shuffled)
    loader = make(dataset)
    for place in shuffled:
        assert digest(loader.batch(*place)) == expected[place]
    for step in (47, 0, 20):
        assert digest(make(dataset).batch(step)) == expected[step, 0, 1], "a new loader, asked for this step first"


def test_it_neither_reads_nor_moves_any_generator(dataset: Path) -> None:
    expected = digests(make(dataset))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert digests(make(dataset)) == expected
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_another_process_gets_the_same_bits(dataset: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_seekable import digests, make
print(sorted(digests(make(Path({str(dataset)!r}))).items()))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(sorted(digests(make(dataset)).items()))


def test_the_seed_decides(dataset: Path) -> None:
    assert digest(make(dataset, 11).batch(0)) != digest(make(dataset, 12).batch(0))


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_workers_share_a_step_and_change_none_of_it(workers: int, dataset: Path) -> None:
    loader = make(dataset)
    for step in range(STEPS):
        whole = loader.batch(step)
        shares = [loader.batch(step, worker, workers) for worker in range(workers)]
        assert sorted(whole.documents) == sorted(piece for share in shares for piece in share.documents)
        assert sum(share.trained_tokens for share in shares) == whole.trained_tokens == loader.trained_tokens(step)


def test_an_epoch_reads_every_token_of_every_document_once(dataset: Path) -> None:
    loader, documents = make(dataset), TokenDataset(dataset)
    for epoch, first in ((0, 0), (1, loader.steps_in_epoch(0))):
        read = [np.zeros(length, int) for length in documents.lengths]
        for step in range(first, first + loader.steps_in_epoch(epoch)):
            for piece in loader.pieces(step):
                read[piece.document][piece.start : piece.end] += 1
        assert all((times == 1).all() for times in read)
