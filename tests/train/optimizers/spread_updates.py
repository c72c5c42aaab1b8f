"""Run by two processes: updates of weights that are spread over both, against the same updates of whole ones.

python spread_updates.py RANK FILE      FILE is where the two meet

Prints one JSON object: what was compared, and the largest difference.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.train.config import EmaConfig, OptimizerConfig
from ownlm.train.ema import Ema
from ownlm.train.optimizer import (
    clip_gradients,
    load_optimizer_state,
    make_optimizer,
    named_states,
    trained_parameters,
)
from ownlm.train.sharding import gathered, shard_model
from ownlm.train.workers import Workers

# An odd vocabulary does not divide; the joined projections are cut inside and between their parts.
SHAPE = {"layers": 1, "width": 64, "heads": 2, "kv_heads": 1, "vocab_size": 81, "max_positions": 8, "tied_head": False}


def model() -> Transformer:
    return random_model(config_from_user({"family": "llama", **SHAPE}), 0)


def like(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor):
        return whole
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements)


def trained(network: Transformer, config: OptimizerConfig) -> dict[str, Tensor]:
    """Three updates, a save and a load between them; weights, states, averages and the last norm, all of them whole."""
    named = trained_parameters(network)
    optimizer, ema = make_optimizer(network, config), Ema(named, EmaConfig())
    norm = torch.zeros(())
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for _, parameter in named:
            whole = torch.randn(parameter.shape, generator=generator) * 10.0 ** (step - 2)
            parameter.grad = like(parameter, whole)
        # Before the clipping of the last, which rounds by how the norm is summed.
        norm = clip_gradients(parameters(network), 1e6 if step < 2 else None)
        optimizer.step()
        ema.update(step + 1)
        saved = {name: gathered(tensor).clone() for name, tensor in named_states(optimizer, named).items()}
        load_optimizer_state(optimizer, named, saved, "memory")
        ema.load({name: gathered(tensor).clone() for name, tensor in ema.state().items()}, "memory")
        with ema.swapped():
            pass
    result = {f"weight {name}": gathered(parameter) for name, parameter in named}
    result |= {f"state {name}": gathered(tensor) for name, tensor in named_states(optimizer, named).items()}
    result |= {f"average {name}": gathered(tensor) for name, tensor in ema.state().items()}
    return result | {"norm": norm}


def parameters(network: nn.Module) -> list[nn.Parameter]:
    return list(network.parameters())


def clipped(network: Transformer) -> list[Tensor]:
    for number, parameter in enumerate(parameters(network)):
        generator = torch.Generator().manual_seed(number)
        parameter.grad = like(parameter, torch.randn(parameter.shape, generator=generator))
    clip_gradients(parameters(network), 0.5)
    return [gathered(p.grad) for p in parameters(network) if p.grad is not None]


def main(rank: int, file: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    differences = {}
    for kind in ("adamw", "muon"):
        for states in ("float32", "eight_bit"):
            config = OptimizerConfig(kind=kind, states=states, lr=1e-2)
            spread = model()
            shard_model(spread, Workers(rank, 2), 2)
            assert all(isinstance(parameter, DTensor) for parameter in spread.parameters())
            whole, found = trained(model(), config), trained(spread, config)
            assert set(whole) == set(found)
            for name, tensor in whole.items():
                key = f"{kind} {states} {name.split()[0]}"
                difference = (tensor.double() - found[name].double()).abs().max().item()
                differences[key] = max(differences.get(key, 0.0), difference)
    spread = model()
    shard_model(spread, Workers(rank, 2), 2)
    differences["clipped"] = max(
        (a - b).abs().max().item() for a, b in zip(clipped(model()), clipped(spread), strict=True)
    )
    if rank == 0:
        print(json.dumps(differences))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
