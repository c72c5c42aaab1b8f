"""Weights spread over workers (FSDP2, Zhao et al. 2023), and how such tensors meet whole ones.

The model files know nothing of it: ``fully_shard`` gathers a block's weights before it runs and spreads its gradients
afterwards. A spread tensor is cut along its first axis, so a worker's part is a run of rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..errors import ConfigError
from ..model.transformer import Transformer
from .workers import Workers


def shard_model(model: Transformer, workers: Workers, size: int) -> None:
    """Spreads a model's weights over groups of ``size`` workers, each group holding all of them once.

    Gradients are summed over all workers, in float32.

    Raises:
        ConfigError: the workers do not divide into such groups.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if workers.count % size:
        raise ConfigError(
            f"{workers.count} workers do not divide into groups of {size}",
            where="distributed.shard",
            hint=f"choose a divisor of {workers.count}",
        )
    shape, names = (workers.count // size, size), ("replicate", "shard")
    mesh = init_device_mesh(model.device.type, shape, mesh_dim_names=names)
    narrow = None if model.compute_dtype == torch.float32 else model.compute_dtype
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in (*model.blocks, model):
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Summed, not averaged: the loss is divided by the units of all workers already.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def is_spread(tensor: Tensor) -> bool:
    """Whether each worker holds a part of it."""
    return isinstance(tensor, DTensor)


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor, on the CPU; of a spread one, every worker must ask at the same time."""
    whole = tensor.detach()
    return (whole.full_tensor() if isinstance(whole, DTensor) else whole).cpu()


def gathered_all(tensors: Mapping[str, Tensor], workers: Workers) -> dict[str, Tensor]:
    """The whole of every tensor, one after another; only the first worker keeps them."""
    result = {}
    for name, tensor in tensors.items():
        whole = gathered(tensor)
        if workers.first:
            result[name] = whole
    return result


def own_part(tensor: Tensor) -> Tensor:
    """What this worker holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: Tensor) -> tuple[int, int] | None:
    """Which rows of a spread tensor this worker holds; None where it holds all of it."""
    if not isinstance(tensor, DTensor):
        return None
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return (offset[0], offset[0] + shape[0]) if shape[0] else (0, 0)


@torch.no_grad()
def fill(target: Tensor, whole: Tensor) -> None:
    """Copies a whole tensor's values into one that may be spread."""
    rows = own_rows(target)
    own_part(target).copy_(whole if rows is None else whole[slice(*rows)])
