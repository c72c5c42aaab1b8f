"""What a training config stands for: the objective, the base, the tokenizer and the model's shape, with no weights yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..model.checkpoint import read_config
from ..model.config import ModelConfig
from ..model.families import config_from_user, family_of
from ..model.registry import find_model
from ..tokens.dataset import is_dataset, read_dataset
from ..tokens.tokenizer import Tokenizer, load_tokenizer
from .config import TrainConfig
from .objectives import Objective, make_objective


@dataclass(frozen=True)
class Setup:
    """The parts of a run.

    Attributes:
        objective: what is learned.
        base: the folder of the model it starts from, or None.
        tokenizer: text to tokens, as the result will carry it.
        shape: of the model that is trained, its head included.
    """

    objective: Objective[Any]
    base: Path | None
    tokenizer: Tokenizer
    shape: ModelConfig


def set_up(config: TrainConfig) -> Setup:
    """Finds a run's parts and holds them against each other.

    Raises:
        UserError: base, model, tokenizer and objective do not fit together.
    """
    base = find_model(config.base) if config.base else None
    objective = make_objective(config.objective, config.seed)
    tokenizer = objective.tokenizer(_find_tokenizer(config, base))
    named = read_config(base) if base is not None else config_from_user(config.model or {})
    shape = objective.shape(named, config.data.sources)
    if shape.head not in family_of(shape.family).architectures:
        what = f"a {shape.family} model cannot learn this: it has an encoder and a decoder"
        raise ConfigError(what, where="objective.kind", hint="set objective.kind to seq2seq, or choose another model")
    tokenizer.check_fits(shape.vocab_size, config.tokenizer or config.base)
    return Setup(objective, base, tokenizer, shape)


def _find_tokenizer(config: TrainConfig, base: Path | None) -> Tokenizer:
    """The config's own tokenizer, which may be a lone tokenizer.json; else the base's; else the built data set's."""
    if config.tokenizer is not None:
        lone = Path(config.tokenizer)
        return load_tokenizer(lone if lone.suffix == ".json" and lone.is_file() else find_model(config.tokenizer))
    if base is not None:
        return load_tokenizer(base)
    built = next(filter(is_dataset, config.data.sources), None)
    assert built is not None, "the config has a tokenizer, a base or a built data set"
    return load_tokenizer(read_dataset(built).tokenizer)
