"""The run's data: sources made into loaders, the number of steps, and the ledger's plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..progress import Progress
from ..report.memorisation import SOURCE as CANARIES
from ..tokens.dataset import is_dataset, read_dataset, repeats_of_parts
from ..tokens.epochs import mix_repeats
from ..tokens.loader import Loader
from ..tokens.prepare import PreparedData
from ..tokens.shards import INDEX, TokenDataset
from ..units import plural
from .canaries import check_canaries, write_canaries
from .config import TrainConfig
from .ledger import Ledger, SourceCount
from .objectives import Objective, Reading
from .setup import Setup


@dataclass(frozen=True)
class Source:
    """One entry of data.train or data.mix, tokenized; or one part of an entry that is a built data set."""

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
        fingerprints: of every tokenized source, training first; and of how built data sets weigh their parts, if any.
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
            dropped = {reason: dict(part) for reason, part in source.prepared.dropped.items()}
            documents = source.prepared.documents + sum(part["documents"] for part in dropped.values())
            cut = source.dataset.info.get("truncated", {}).get("tokens", 0)
            tokens = unseen + cut + sum(part["tokens"] for part in dropped.values())
            counts[source.name] = SourceCount(documents, tokens, truncated=cut, dropped=dropped, unseen=unseen)
        return Ledger(counts)

    def replanned(self, saved: dict[str, Any], steps: int) -> Ledger:
        """A saved ledger under a plan of another length: what was seen stays seen."""
        plan, before = self.ledger(steps), Ledger.from_json(saved)
        for name, count in before.sources.items():
            plan.add(name, count.trained, count.masked)
            for reason, part in count.dropped.items():
                if reason not in plan.sources[name].dropped:
                    # Dropped while training, and not while the data was prepared.
                    plan.drop(name, part["tokens"], reason)
        return plan

    def counts(self, pieces: Sequence[int], trained: Sequence[int]) -> list[tuple[int, int]]:
        """Of what was read, how many tokens of each source were trained and how many were context only.

        Args:
            pieces: the piece of each document that was read.
            trained: how many tokens of each had a share in the loss.
        """
        return self.loader.counts(np.asarray(pieces, np.int64), np.asarray(trained, np.int64))

    def enter(self, ledger: Ledger, counts: Sequence[tuple[int, int]]) -> None:
        """Moves such tokens from unseen to trained and masked."""
        for source, (learned, masked) in zip(self.sources, counts, strict=True):
            ledger.add(source.name, learned, masked)

    def leave_out(self, ledger: Ledger, counts: Sequence[tuple[int, int]], reason: str) -> None:
        """Moves such tokens from unseen to dropped."""
        for source, (learned, masked) in zip(self.sources, counts, strict=True):
            ledger.drop(source.name, learned + masked, reason)


def prepare_data(config: TrainConfig, setup: Setup, say: Callable[[str], None]) -> TrainingData:
    """Tokenizes what the config names, once, and plans it.

    Raises:
        DataError: a file is missing, empty or wrong; no source has a token to train on.
        ConfigError: a length beyond the model's positions, or more than a batch holds.
    """
    objective, length = setup.objective, _length(config, setup.shape.max_positions)
    names = config.data.sources
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"'{min(twice)}' is named twice", where="data.train", hint="use data.mix with epochs")
    reading = Reading(setup.tokenizer, length, config.data.too_long)
    entries = [_entry(name, objective, reading) for name in names]
    sources = [source for entry in entries for source in entry.sources]
    repeats = _repeats(config, entries)
    if config.canaries is not None:
        file = write_canaries(config.canaries, config.seed, objective.kind)
        check_canaries(config.canaries, config.seed, setup.tokenizer, objective.kind, length)
        sources.append(_source(CANARIES, str(file), objective, reading))
        repeats.append(config.canaries.repeats)
    loader = Loader(
        [source.dataset for source in sources],
        batch_tokens=config.batch_tokens,
        length=length,
        seed=config.seed,
        repeats=repeats,
    )
    _check_learned(objective, loader, sources, "no token of the training data is to be trained")
    held = _held_out(config, objective, reading, sources, say)
    validation = None
    if held:
        validation = Loader([s.dataset for s in held], batch_tokens=config.batch_tokens, length=length, seed=0)
        _check_learned(objective, validation, held, "the validation data has no token to measure")
    fingerprints = [source.dataset.fingerprint for source in [*sources, *held]] + _mix_fingerprint(entries)
    return TrainingData(sources, loader, validation, fingerprints)


def _check_learned(objective: Objective[Any], loader: Loader, sources: Sequence[Source], message: str) -> None:
    """Checks that there is something to learn; what has a label is learned whole, even where no token predicts another."""
    if objective.unit == "token" and not any(trained for trained, _ in loader.counts(loader.epoch_pieces(0))):
        hint = "a text of one token has nothing to predict; see the texts with 'ownlm data show'"
        raise DataError(message, where=", ".join(source.name for source in sources), hint=hint)


@dataclass(frozen=True)
class _Entry:
    """What one name in data.train, data.mix or data.validation stands for.

    Attributes:
        sources: one; of a built data set, one for each part.
        repeats: how often each source is passed in one epoch of the entry.
    """

    sources: list[Source]
    repeats: list[float]

    @property
    def tokens(self) -> float:
        """Tokens in one epoch of the entry."""
        return sum(r * s.dataset.total_tokens for r, s in zip(self.repeats, self.sources, strict=True))


def _entry(name: str, objective: Objective[Any], reading: Reading, split: str = "train") -> _Entry:
    if not is_dataset(name):
        return _Entry([_source(name, name, objective, reading)], [1.0])
    parts = read_dataset(name).parts(split)
    sources = [_source(str(Path(name) / part.name), str(part.folder), objective, reading) for part in parts]
    return _Entry(sources, repeats_of_parts(parts, [source.dataset.total_tokens for source in sources]))


def _repeats(config: TrainConfig, entries: Sequence[_Entry]) -> list[float]:
    """How often each source is passed in one epoch of the run: data.mix weighs the entries, an entry its own parts."""
    mix = config.data.mix
    weights = [entry.weight for entry in mix] if mix else None
    epochs = [entry.epochs or 1.0 for entry in mix] if mix else None
    outer = mix_repeats([entry.tokens for entry in entries], weights, epochs)
    return [passes * repeat for passes, entry in zip(outer, entries, strict=True) for repeat in entry.repeats]


def _mix_fingerprint(entries: Sequence[_Entry]) -> list[str]:
    """A run goes on only on the mix it began with; what is not in its config must be in its fingerprints."""
    repeats = [entry.repeats for entry in entries]
    if all(repeat == 1.0 for inner in repeats for repeat in inner):
        return []
    return [hashlib.sha256(json.dumps(repeats).encode()).hexdigest()]


def _held_out(
    config: TrainConfig,
    objective: Objective[Any],
    reading: Reading,
    sources: Sequence[Source],
    say: Callable[[str], None],
) -> list[Source]:
    """What data.validation names; where it is empty, the validation splits of the built data sets trained on."""
    names = config.data.validation
    if not names:
        built = [name for name in config.data.sources if is_dataset(name)]
        names = [name for name in built if "validation" in read_dataset(name).splits]
    entries = [_entry(name, objective, reading, "validation") for name in names]
    for name, entry in zip(names, entries, strict=True):
        if is_dataset(name):
            documents = sum(len(source.dataset) for source in entry.sources)
            say(f"{name}: its validation split is held out ({plural(documents, 'document')})")
    held = [source for entry in entries for source in entry.sources]
    trained = {source.dataset.fingerprint for source in sources}
    for source in held:
        if source.dataset.fingerprint in trained:
            say(f"{source.name} is trained on and held out: its loss does not say how the model does on unseen text")
        # What is left out of the training stands in its ledger; validation has none.
        for reason, part in source.prepared.dropped.items():
            say(f"{source.name}: {part['documents']:,} documents are left out of the validation ({reason})")
    return held


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


def _source(name: str, place: str, objective: Objective[Any], reading: Reading) -> Source:
    """One source, called ``name`` in the ledger, from a file or folder."""
    path = Path(place)
    if (path / INDEX).is_file():
        dataset = TokenDataset(path)
        dataset.check_trainable(reading.tokenizer.fingerprint)
        prepared = objective.take(dataset, place, reading)
    else:
        with Progress(f"Reading {place}", unit="documents") as progress:
            prepared = objective.read(path, replace(reading, progress=progress.update))
    return Source(name, TokenDataset(prepared.folder), prepared)
