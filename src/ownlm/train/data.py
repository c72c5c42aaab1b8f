"""The run's data: sources made into loaders, the number of steps, and the ledger's plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, DataError
from ..files import home
from ..progress import Progress
from ..tokens.batch import Batch
from ..tokens.loader import Loader
from ..tokens.prepare import PreparedData, tokenize_files
from ..tokens.shards import INDEX, TokenDataset
from ..tokens.tokenizer import Tokenizer
from .config import TrainConfig
from .ledger import Ledger, SourceCount


@dataclass(frozen=True)
class Source:
    """One entry of data.train or data.mix, tokenized."""

    name: str
    dataset: TokenDataset
    prepared: PreparedData


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and validates on.

    Attributes:
        sources: the training data by source, in the loader's order.
        loader: the training data.
        validation: the held-out data, or None.
        fingerprints: of every tokenized source, training first.
    """

    sources: list[Source]
    loader: Loader
    validation: Loader | None
    fingerprints: list[str]

    def steps(self, config: TrainConfig) -> int:
        """Updates in the whole run, from config.steps or config.epochs."""
        if config.steps is not None:
            return config.steps
        epochs = 1.0 if config.epochs is None else config.epochs
        whole = sum(self.loader.steps_in_epoch(epoch) for epoch in range(int(epochs)))
        part = epochs - int(epochs)
        if part:
            whole += round(part * self.loader.steps_in_epoch(int(epochs)))
        return max(1, whole)

    def ledger(self, steps: int) -> Ledger:
        """The plan before the first step: everything the run's epochs hold is yet unseen."""
        epochs = self.loader.locate(steps - 1)[0] + 1
        planned = [0] * len(self.sources)
        for epoch in range(epochs):
            for index, (trained, masked) in enumerate(self.loader.counts(self.loader.epoch_pieces(epoch))):
                planned[index] += trained + masked
        counts: dict[str, SourceCount] = {}
        for source, unseen in zip(self.sources, planned, strict=True):
            dropped = source.prepared.dropped
            documents = source.prepared.documents + sum(part["documents"] for part in dropped.values())
            tokens = unseen + sum(part["tokens"] for part in dropped.values())
            counts[source.name] = SourceCount(documents, tokens, dropped=dropped, unseen=unseen)
        return Ledger(counts)

    def replanned(self, saved: dict[str, Any], steps: int) -> Ledger:
        """A saved ledger under a plan of another length: what was seen stays seen."""
        plan, before = self.ledger(steps), Ledger.from_json(saved)
        for name, count in before.sources.items():
            plan.add(name, count.trained, count.masked)
        return plan

    def count(self, ledger: Ledger, batches: Sequence[Batch]) -> None:
        """Moves the batches' tokens from unseen to trained and masked."""
        pieces = [piece for batch in batches for piece in batch.documents]
        for source, (trained, masked) in zip(self.sources, self.loader.counts(pieces), strict=True):
            ledger.add(source.name, trained, masked)


def prepare_data(
    config: TrainConfig, tokenizer: Tokenizer, max_positions: int, say: Callable[[str], None]
) -> TrainingData:
    """Tokenizes what the config names, once, and plans it.

    Raises:
        DataError: a file is missing, empty or wrong; no source has a token to train on.
        ConfigError: a length beyond the model's positions, or more than a batch holds.
    """
    length = _length(config, max_positions)
    entries = config.data.mix or None
    names = [entry.dataset for entry in entries] if entries else config.data.train
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"'{min(twice)}' is named twice", where="data.train", hint="use data.mix with epochs")
    sources = [_source(name, config, tokenizer, length) for name in names]
    loader = Loader(
        [source.dataset for source in sources],
        batch_tokens=config.batch_tokens,
        length=length,
        seed=config.seed,
        weights=[entry.weight for entry in entries] if entries else None,
        epochs=[entry.epochs or 1.0 for entry in entries] if entries else None,
    )
    if not any(trained for trained, _ in loader.counts(loader.epoch_pieces(0))):
        raise DataError("no token of the training data is to be trained", where=", ".join(names))
    held = [_source(name, config, tokenizer, length) for name in config.data.validation]
    for source in held:
        # What is left out of the training stands in its ledger; validation has none.
        for reason, part in source.prepared.dropped.items():
            say(f"{source.name}: {part['documents']:,} documents are left out of the validation ({reason})")
    validation = None
    if held:
        validation = Loader([s.dataset for s in held], batch_tokens=config.batch_tokens, length=length, seed=0)
    fingerprints = [source.dataset.fingerprint for source in [*sources, *held]]
    return TrainingData(sources, loader, validation, fingerprints)


def _length(config: TrainConfig, max_positions: int) -> int:
    length = config.data.length
    if length is None:
        return min(max_positions, config.batch_tokens)
    if length > max_positions:
        hint = f"the model reads at most {max_positions:,} tokens"
        raise ConfigError(f"{length:,} is longer than the model's context", where="data.length", hint=hint)
    if length > config.batch_tokens:
        hint = "raise batch_tokens or lower data.length"
        raise ConfigError(f"{length:,} tokens do not fit into one batch", where="data.length", hint=hint)
    return length


def _source(name: str, config: TrainConfig, tokenizer: Tokenizer, length: int) -> Source:
    path = Path(name)
    kind: Literal["chat", "text"] = "chat" if config.objective.kind == "chat" else "text"
    if (path / INDEX).is_file():
        dataset = TokenDataset(path)
        if dataset.info.get("tokenizer") != tokenizer.fingerprint:
            hint = "tokenize the text again, or name the tokenizer the dataset was made with"
            raise DataError("this dataset was made with another tokenizer", where=name, hint=hint)
        held = dataset.info.get("kind", kind)
        if held != kind:
            hint = f"set objective.kind to {'chat' if held == 'chat' else 'causal'}, or name another dataset"
            raise DataError(
                f"this dataset was made for {held}s, and the objective learns {kind}s", where=name, hint=hint
            )
        documents, tokens = len(dataset), dataset.total_tokens
        dropped = dataset.info.get("dropped", {})
        return Source(name, dataset, PreparedData(path, documents, tokens, trained=0, dropped=dropped))
    too_long = config.data.too_long if kind == "chat" else "split"
    with Progress(f"Reading {name}", unit="documents") as progress:
        prepared = tokenize_files(
            [path],
            tokenizer,
            kind=kind,
            length=length,
            cache_folder=home() / "cache" / "tokens",
            too_long=too_long,
            progress=progress.update,
        )
    return Source(name, TokenDataset(prepared.folder), prepared)
