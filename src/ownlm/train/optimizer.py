"""The optimizer over named parameters, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DamagedError
from .config import OptimizerConfig

Named = list[tuple[str, nn.Parameter]]


def trained_parameters(model: nn.Module) -> Named:
    """The parameters that training changes, by name, in the model's order."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def make_optimizer(named: Named, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW with decay on matrices and embeddings alone; biases, norms and adapters have none."""

    def decays(name: str, parameter: Tensor) -> bool:
        return parameter.ndim >= 2 and not name.endswith((".a", ".b"))

    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": config.weight_decay},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    for _, parameter in named:
        # What the first update would make, but before any activation: taken between two steps, it would scatter them.
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """The norm of the whole gradient before clipping it to ``limit``."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
    if limit is not None and norm > limit:
        scale = limit / (norm + 1e-6)
        for gradient in gradients:
            gradient.mul_(scale.to(gradient.dtype))
    return norm


def optimizer_state(optimizer: torch.optim.Optimizer, named: Named) -> dict[str, Tensor]:
    """Every tensor of the optimizer's state as ``parameter:key``, such as ``layers.0...weight:exp_avg``."""
    return {
        f"{name}:{key}": value.detach().cpu()
        for name, parameter in named
        for key, value in optimizer.state[parameter].items()
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, named: Named, tensors: Mapping[str, Tensor], where: str
) -> None:
    """Puts a saved state back.

    Raises:
        DamagedError: a parameter's state, or a part of it, is missing.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for place, value in tensors.items():
        name, _, key = place.rpartition(":")
        states.setdefault(name, {})[key] = value
    keys: set[str] = set().union(*states.values())
    for name, parameter in named:
        found = states.get(name, {})
        if set(found) != keys:
            raise DamagedError(f"the optimizer's state of '{name}' is missing", where=where)
        # The step count stays where AdamW's fused kernel wants it, beside its parameter. Copied, since what is read is
        # a mapped file, whose space on the disk stays taken after it is deleted.
        optimizer.state[parameter] = {key: value.to(parameter.device, copy=True) for key, value in found.items()}
