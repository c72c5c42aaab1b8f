"""What a training config stands for: the objective, the base, the tokenizer and the model's shape, with no weights yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..model.checkpoint import read_config
from ..model.config import ModelConfig
from ..model.families import config_from_user, family_of
from ..model.registry import find_named_model
from ..tokens.dataset import is_dataset, read_dataset
from ..tokens.tokenizer import Tokenizer, load_tokenizer
from ..tokens.train_bpe import train_tokenizer
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


def has_tokenizer(config: TrainConfig) -> bool:
    """Whether a run's tokenizer is named, or comes with its base or its built data set."""
    return bool(config.tokenizer or config.base) or any(map(is_dataset, config.data.sources))


def set_up(config: TrainConfig, *, stand_in: bool = False) -> Setup:
    """Finds a run's parts and holds them against each other.

    Args:
        config: the run's.
        stand_in: for what never reads a text, a new model needs no tokenizer.

    Raises:
        UserError: base, model, tokenizer and objective do not fit together.
    """
    base = find_named_model(config.base, "base") if config.base else None
    begun = read_config(base) if base else config_from_user(config.model or {})
    objective = make_objective(config.objective, config.seed)
    lacking = stand_in and not has_tokenizer(config)
    tokenizer = objective.tokenizer(_stand_in(begun) if lacking else _find_tokenizer(config, base))
    named = _counted_from(tokenizer, config, begun)
    shape = objective.shape(named, config.data.sources)
    if shape.head not in family_of(shape.family).architectures:
        what = f"a {shape.family} model cannot learn this: it has an encoder and a decoder"
        raise ConfigError(what, where="objective.kind", hint="set objective.kind to seq2seq, or choose another model")
    tokenizer.check_fits(shape.vocab_size, config.tokenizer or config.base)
    return Setup(objective, base, tokenizer, shape)


def _counted_from(tokenizer: Tokenizer, config: TrainConfig, shape: ModelConfig) -> ModelConfig:
    """A shape whose positions begin after the padding token's id begins after this tokenizer's.

    The public class gives every token of that id the padding's position, so with another tokenizer's it would read some
    of our tokens as padding.

    Raises:
        ConfigError: the tokenizer has no padding token, or another than the positions are counted from.
    """
    # A base goes with its own tokenizer.
    if not shape.position_offset or (config.model is None and config.tokenizer is None):
        return shape
    # Padding that a text may hold, such as its end, would be read as none of its tokens.
    if tokenizer.pad_id in (None, tokenizer.eos_id, tokenizer.bos_id):
        what = f"this tokenizer has no padding token of its own, from which a {shape.family} model counts its positions"
        raise ConfigError(what, where="tokenizer", hint="train one of the kind wordpiece, or name it a pad_token")
    offset = tokenizer.pad_id + 1
    if config.model is not None and "position_offset" not in config.model:
        return shape.model_copy(update={"position_offset": offset})
    if shape.position_offset != offset:
        what = (
            f"the model counts its positions from {shape.position_offset}, and the tokenizer's padding token asks for"
        )
        where, hint = ("tokenizer", "use the base's own")
        if config.model is not None:
            where, hint = "model.position_offset", "leave it out"
        raise ConfigError(f"{what} {offset}", where=where, hint=hint)
    return shape


def _find_tokenizer(config: TrainConfig, base: Path | None) -> Tokenizer:
    """The config's own tokenizer, which may be a lone tokenizer.json; else the base's; else the built data set's."""
    if config.tokenizer is not None:
        lone = Path(config.tokenizer)
        is_lone = lone.suffix == ".json" and lone.is_file()
        return load_tokenizer(lone if is_lone else find_named_model(config.tokenizer, "tokenizer"))
    if base is not None:
        return load_tokenizer(base)
    built = next(filter(is_dataset, config.data.sources), None)
    if built is None:
        hint = "make one with 'ownlm tokenizer train'"
        raise ConfigError("a new model needs a tokenizer", where="tokenizer", hint=hint)
    return load_tokenizer(read_dataset(built).tokenizer)


def _stand_in(shape: ModelConfig) -> Tokenizer:
    """Some tokenizer of the kind that such a model has."""
    return train_tokenizer(["a text"], 512, "bpe" if shape.causal else "wordpiece")
