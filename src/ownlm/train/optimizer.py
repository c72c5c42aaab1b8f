"""The optimizer over a model's parameters: which rule updates which, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..errors import ConfigError, DamagedError
from ..model.adapters import LoraLinear
from ..model.kernels import calls
from ..model.layers import Linear
from .config import OptimizerConfig
from .optimizers.adamw import AdamW, EightBitAdamW
from .optimizers.eight_bit import block_length
from .optimizers.muon import Muon
from .optimizers.rule import Rule, RuleOptimizer
from .sharding import fill, own_part

Named = list[tuple[str, nn.Parameter]]

# Smaller ones stay in float32, as in the public eight-bit optimizers: they cost next to nothing.
SMALLEST_EIGHT_BIT = 4096


@dataclass(frozen=True)
class Role:
    """What a parameter is to its model.

    Attributes:
        kind: matrix: inside the stack; head: a matrix that leads out of it; embedding; adapter; other: biases, norms.
        segments: the rows of each of a matrix's joined projections.
    """

    kind: Literal["matrix", "head", "embedding", "adapter", "other"]
    segments: tuple[int, ...] = ()


def trained_parameters(model: nn.Module) -> Named:
    """The parameters that training changes, by name, in the model's order."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter by its name; a tied head is the embedding that it is tied to."""
    roles: dict[str, Role] = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        roles[name] = _role(parts, parameter, model.get_submodule(".".join(parts[:-1])))
    return roles


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> RuleOptimizer:
    """AdamW for everything, or Muon for the matrices inside the stack and AdamW for the rest.

    Matrices and embeddings decay; biases, norms and adapters do not.

    Raises:
        ConfigError: Muon is asked for, and no matrix of its kind is trained.
    """
    roles = parameter_roles(model)
    groups: dict[tuple[Rule, float], list[nn.Parameter]] = {}
    for name, parameter in trained_parameters(model):
        rule = _rule(roles[name], parameter, config)
        decay = config.weight_decay if _decays(roles[name], config) else 0.0
        groups.setdefault((rule, decay), []).append(parameter)
    if config.kind == "muon" and not any(isinstance(rule, Muon) for rule, _ in groups):
        raise ConfigError(
            "muon is for a model's own matrices, and none is trained",
            where="optimizer.kind",
            hint="an adapter is trained with adamw",
        )
    return RuleOptimizer(
        [{"params": group, "rule": rule, "weight_decay": decay} for (rule, decay), group in groups.items()], config.lr
    )


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """The norm of the whole gradient before clipping it to ``limit``; the CPU does not wait for it."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = _total_norm(gradients)
    if isinstance(norm, DTensor):
        norm, gradients = norm.full_tensor(), [own_part(gradient) for gradient in gradients]
    # On a CPU the norm is there already, and to look at it saves a pass over the gradient.
    if limit is None or (norm.device.type == "cpu" and not norm > limit):
        return norm
    # A norm that is no number stays one in the gradient, and the run stops.
    torch._foreach_mul_(gradients, torch.where(norm > limit, limit / (norm + 1e-6), 1.0))
    return norm


def _total_norm(gradients: list[Tensor]) -> Tensor:
    # A kernel reads memory, of which a spread gradient's own object has none.
    own = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    squares = [calls.sum_of_squares(g) for g in own] if len(own) == len(gradients) else [None]
    if any(square is None for square in squares):
        return torch.nn.utils.get_total_norm(gradients, foreach=True)
    return torch.tensor(math.sqrt(math.fsum(square for square in squares if square is not None)), dtype=torch.float32)


def named_states(optimizer: torch.optim.Optimizer, named: Named) -> dict[str, Tensor]:
    """Every tensor of the optimizer's state itself as ``parameter:key``, such as ``layers.0...weight:exp_avg``."""
    return {f"{name}:{key}": value for name, parameter in named for key, value in optimizer.state[parameter].items()}


@torch.no_grad()
def load_optimizer_state(
    optimizer: torch.optim.Optimizer, named: Named, tensors: Mapping[str, Tensor], where: str
) -> None:
    """Puts a saved state back, bit for bit.

    Raises:
        DamagedError: a parameter's state, or a part of it, is missing or of another shape.
    """
    for name, parameter in named:
        for key, value in optimizer.state[parameter].items():
            found = tensors.get(f"{name}:{key}")
            if found is None:
                raise DamagedError(f"the optimizer's state of '{name}' is missing", where=where)
            if (found.shape, found.dtype) != (value.shape, value.dtype):
                raise DamagedError(f"the optimizer's state of '{name}' does not fit it", where=where)
            fill(value, found)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """What this worker holds of the optimizer's state, in bytes."""
    return sum(own_part(value).nbytes for state in optimizer.state.values() for value in state.values())


def _role(parts: list[str], parameter: Tensor, owner: nn.Module) -> Role:
    if isinstance(owner, LoraLinear):
        return Role("adapter")
    if isinstance(owner, nn.Embedding):
        return Role("embedding")
    if parameter.ndim < 2:
        return Role("other")
    # Whatever leads out of the stack is called a head. A matrix that is no projection counts as one too: Muon is for
    # linear maps of the stream.
    if "head" in parts or not isinstance(owner, Linear):
        return Role("head")
    return Role("matrix", owner.segments)


def _rule(role: Role, parameter: Tensor, config: OptimizerConfig) -> Rule:
    eight_bit = (
        config.states == "eight_bit"
        and parameter.numel() >= SMALLEST_EIGHT_BIT
        and block_length(parameter) is not None
        and (role.kind != "embedding" or config.eight_bit_embeddings)
    )
    if config.kind == "muon" and role.kind == "matrix":
        dtype = torch.bfloat16 if config.newton_schulz == "bf16" else torch.float32
        return Muon(config.momentum, dtype, role.segments if len(role.segments) > 1 else None, eight_bit)
    kind = EightBitAdamW if eight_bit else AdamW
    return kind(config.betas, config.eps)


def _decays(role: Role, config: OptimizerConfig) -> bool:
    return role.kind in ("matrix", "head") or (role.kind == "embedding" and config.decay_embeddings)
