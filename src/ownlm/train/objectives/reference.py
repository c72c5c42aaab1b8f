"""What the starting model thinks of each answer: computed once, before the first step, and kept in the run's folder.

RUN/reference/NAME/log_probs.safetensors     the sum of each document's log-probabilities, in nats, by the loader's pieces
RUN/reference/NAME/reference.json            of which model and of which data
RUN/reference/NAME/checksums.json

So a run holds one model in memory, not two, and one that is resumed goes on with the very same numbers: ``begin`` comes
before a checkpoint is read, and what it finds here it does not compute again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from ...devices import on_device
from ...errors import DamagedError, DataError, UserError
from ...files import new_folder, read_json, remove_partial, verify_folder, write_json
from ...model.checkpoint import save_tensors
from ...model.log_probs import target_log_probs
from ...model.packed import rounded_rows
from ...model.transformer import Transformer
from ...progress import Progress
from ...tokens.batch import Batch
from ...tokens.loader import Loader
from ..memory import auto_micro_batch_tokens
from ..sharding import is_spread
from ..workers import ALONE, Workers

# Raised whenever the same model and data would give other numbers.
VERSION = 1
FOLDER, LOG_PROBS, ABOUT = "reference", "log_probs.safetensors", "reference.json"

# Weights of each tensor that tell one model from another.
_SAMPLE = 4096

Document = tuple[NDArray[np.int64], NDArray[np.bool_]]


def document_log_probs(model: Transformer, batch: Batch) -> Tensor:
    """The sum of the log-probabilities of each document's trained tokens, in nats: [documents] float32."""
    hidden = model.read(batch.tokens, batch.positions, batch.document_starts)
    rows, count = batch.rows, len(batch.rows)
    # Filled up with the last of them, so that the products' shapes are few (see packed.LENGTH_STEP).
    place = torch.arange(rounded_rows(count, hidden.device), device=hidden.device)
    filled = rows[place.clamp(max=max(0, count - 1))] if count else rows
    log_probs = target_log_probs(
        hidden[filled], model.head_weight, batch.targets[filled], softcap=model.config.logit_softcap
    )
    starts = on_device(batch.document_starts, hidden.device)
    document = torch.bucketize(rows, starts[1:], right=True)
    return log_probs.new_zeros(len(starts) - 1).index_add(0, document, log_probs[:count])


def trained_counts(batch: Batch) -> Tensor:
    """How many trained tokens each document has: [documents] float32, on the batch's device."""
    starts = on_device(batch.document_starts, batch.weights.device)
    document = torch.bucketize(torch.arange(len(batch), device=starts.device), starts[1:], right=True)
    return batch.weights.new_zeros(len(starts) - 1).index_add(0, document, (batch.weights != 0).float())


def packed(documents: Sequence[Document]) -> Batch:
    """Whole documents as a batch: of each the tokens, and which are trained."""
    starts = tuple(itertools.accumulate((len(ids) for ids, _ in documents), initial=0))
    tokens = np.concatenate([ids for ids, _ in documents])
    flags = np.concatenate([trained for _, trained in documents])
    # The last token of a document predicts nothing, and the first is no target.
    flags[list(starts[:-1])] = False
    positions = np.concatenate([np.arange(len(ids)) for ids, _ in documents])
    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(positions),
        document_starts=starts,
        targets=torch.from_numpy(np.roll(tokens, -1)),
        weights=torch.from_numpy(np.roll(flags, -1).astype(np.float32)),
    )


class Documents(Sequence[Document]):
    """Every document of a loader by its piece's number; of a group, its members one after another.

    Raises:
        DataError: a document is longer than the loader's length, so that it was split.
    """

    def __init__(self, loader: Loader) -> None:
        self.datasets = loader.datasets
        self._first = np.cumsum([0, *map(len, self.datasets)])
        for dataset in self.datasets:
            longest = int(dataset.lengths.max())
            if longest > loader.length:
                raise DataError(
                    f"an answer and what stands before it have {longest:,} tokens, more than the {loader.length:,} of "
                    "data.length",
                    where=str(dataset.folder),
                    hint="raise data.length",
                )

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, number: int) -> Document:  # type: ignore[override]
        dataset = int(np.searchsorted(self._first, number, side="right")) - 1
        return self.datasets[dataset].document(number - int(self._first[dataset]))


def reference_log_probs(
    model: Transformer, documents: Sequence[Document], loader: Loader, run: Path, name: str
) -> Tensor:
    """``document_log_probs`` of the starting model for every document: [documents] float32, on the CPU.

    Args:
        model: the model before its first step.
        documents: which.
        loader: where they come from.
        run: the run's folder.
        name: of these documents in it.

    Raises:
        UserError: the run has been trained from another model than this.
    """
    workers = _workers()
    folder, about = run / FOLDER / name, {"version": VERSION, "model": _fingerprint(model), "data": _data(loader, name)}
    if workers.first:
        remove_partial(run / FOLDER)
    if (found := workers.agreed(_found(folder, about, run) if workers.first else None)) is not None:
        return found
    values = _computed(model, documents, loader, workers)
    if workers.first:
        with new_folder(folder) as new:
            save_tensors({"log_probs": values}, new / LOG_PROBS)
            write_json(new / ABOUT, about)
    workers.wait()
    return values


def _found(folder: Path, about: dict[str, object], run: Path) -> Tensor | None:
    """What an earlier start of the run left; None where there is nothing, or something damaged or of other data."""
    if not folder.is_dir():
        return None
    try:
        verify_folder(folder)
    except DamagedError:
        return None
    held = read_json(folder / ABOUT)
    if held == about:
        return load_file(folder / LOG_PROBS)["log_probs"]
    trained = any((run / "checkpoints").glob("step-*"))
    if trained and held["model"] != about["model"]:
        raise UserError(
            "the model that this run began from is not what it was",
            where=str(run),
            hint="put it back, or train into another out",
        )
    return None


@torch.no_grad()
def _computed(model: Transformer, documents: Sequence[Document], loader: Loader, workers: Workers) -> Tensor:
    most = auto_micro_batch_tokens(model.config, loader.batch_tokens, model.device)
    groups = list(_groups([len(documents[i][0]) for i in range(len(documents))], most))
    rounds = -(-len(groups) // workers.count)
    values: list[tuple[list[int], list[float]]] = []
    training = model.training
    model.eval()
    with Progress("Asking the starting model", rounds, unit="batches", hidden=not workers.first) as progress:
        for number in range(rounds):
            # One who has no batch left runs the last one again, since spread weights need everybody.
            group = groups[min(number * workers.count + workers.rank, len(groups) - 1)]
            batch = packed([documents[i] for i in group]).to(model.device)
            values.append((group, document_log_probs(model, batch).tolist()))
            progress.update(number + 1)
    model.train(training)
    _spread_again(model)
    result = torch.zeros(len(documents))
    for group, log_probs in workers.gathered(values):
        result[group] = torch.tensor(log_probs)
    return result


def _spread_again(model: Transformer) -> None:
    """Gives back weights that were gathered to be read, which otherwise a backward pass would do."""
    if not any(is_spread(parameter) for parameter in model.parameters()):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _groups(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Documents of about one length, at most ``most`` tokens at once; a longer one stands alone."""
    group: list[int] = []
    size = 0
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if group and size + lengths[number] > most:
            yield group
            group, size = [], 0
        group.append(number)
        size += lengths[number]
    yield group


def _data(loader: Loader, name: str) -> str:
    parts = [name, *(dataset.fingerprint for dataset in loader.datasets)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _fingerprint(model: Transformer) -> str:
    """A hash of the model's shape and of some weights of each tensor, which any training would change.

    Numbers are rounded to bfloat16 first, so that a frozen base is the same in any format that it computes in.
    """
    digest = hashlib.sha256(model.config.model_dump_json().encode())
    for name, tensor in model.state_dict().items():
        whole = tensor.full_tensor() if is_spread(tensor) else tensor
        flat = whole.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLE)].cpu()
        if sample.is_floating_point():
            sample = sample.to(torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(whole.shape)} ".encode() + sample.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _workers() -> Workers:
    """Who trains together: what the run has joined, if it has."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return Workers(distributed.get_rank(), distributed.get_world_size())
