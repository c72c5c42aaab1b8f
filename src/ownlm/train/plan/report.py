"""The plan of a run: what it will take, whether it fits, and what to change where it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...devices import choose_device, choose_dtype, resident_bytes, usable_memory_bytes
from ...errors import ConfigError
from ...model.adapters import adapter_parameters
from ...tokens.batch import Batch
from ...units import format_bytes
from ..config import TrainConfig
from ..data import TrainingData, prepare_data
from ..memory import auto_micro_batch_tokens
from ..setup import Setup, has_tokenizer, set_up
from .cluster import Cluster, Gpu, Held, find_gpu, gpus_of, size_cluster
from .memory import Memory, optimizer_bytes, step_bytes, step_bytes_by_arithmetic, weight_bytes, with_slack
from .probe import Probe, probe

# Of the machine's memory, what a run may take: the system and other programs need the rest.
USABLE = 0.9
# Of a CPU's measured step, what loading, counting and validation add.
OVERHEAD = 1.05


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        parameters, trained: exact counts.
        memory: the most at once, by part, on each worker.
        available: the memory there is, or the run's memory_budget where that is less.
        limited: whether it is the budget.
        steps, tokens: of the whole run.
        tokens_per_second: predicted; None where no layer could be measured.
        seconds: of the whole run.
        cost: at the given price an hour.
        micro_batch_tokens: tokens in memory at once.
        advice: what to change where it does not fit.
        cluster: what it would need on other machines.
        elsewhere: whether it is planned for those, and not for this one.
    """

    parameters: int
    trained: int
    memory: Memory
    available: int
    steps: int
    tokens: int
    tokens_per_second: float | None
    seconds: float | None
    cost: float | None
    micro_batch_tokens: int
    advice: list[str] = field(default_factory=list)
    cluster: Cluster | None = None
    elsewhere: bool = False
    limited: bool = False

    @property
    def fits(self) -> bool:
        """Whether it fits into the memory of the machines that it is planned for."""
        if self.elsewhere and self.cluster is not None:
            return self.cluster.fits
        return self.memory.total <= self.usable

    @property
    def usable(self) -> float:
        """Bytes that the run may take."""
        return self.available if self.limited else USABLE * self.available

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        parts = {name: getattr(self.memory, name) for name in ("process", "weights", "optimizer", "step", "slack")}
        result: dict[str, Any] = {
            "parameters": self.parameters,
            "trained_parameters": self.trained,
            "memory_bytes": self.memory.total,
            "memory": parts,
            "available_bytes": self.available,
            "limited": self.limited,
            "steps": self.steps,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens_per_second,
            "hours": None if self.seconds is None else self.seconds / 3600,
            "cost": self.cost,
            "fits": self.fits,
            "micro_batch_tokens": self.micro_batch_tokens,
            "advice": self.advice,
        }
        if self.elsewhere and self.cluster is not None:
            result["memory_bytes"] = self.cluster.bytes_per_gpu
            del result["memory"], result["available_bytes"], result["limited"]
        if self.cluster is not None:
            result |= {"gpus": self.cluster.gpus, "arithmetic": list(self.cluster.arithmetic)}
        return result


def make_plan(
    config: TrainConfig,
    say: Callable[[str], None],
    *,
    gpu: str | None = None,
    gpus: int | None = None,
    price: float | None = None,
) -> Plan:
    """Plans a run without beginning it.

    Args:
        config: the run's.
        say: tells the user something.
        gpu: plan for so many of this kind of GPU in place of this machine.
        gpus: how many; None is the fewest that hold it.
        price: of an hour of the machine, or of one GPU, in any currency.

    Raises:
        UserError: what the run itself would refuse.
    """
    device = choose_device(config.device)
    kind = find_gpu(gpu) if gpu is not None else None
    setup = set_up(config, stand_in=config.steps is not None)
    # Without its data, or a tokenizer to read it with, a run whose steps are given can be planned all the same.
    missing = [*_not_there(config), *([] if has_tokenizer(config) else ["the tokenizer"])]
    if missing and config.steps is not None:
        say(f"{missing[0]} is not here: planned with full batches of {config.batch_tokens:,} tokens")
    data = None if config.steps is not None and missing else prepare_data(config, setup, say)
    return _planned(config, setup, data, device, kind, gpus, price)


def _planned(
    config: TrainConfig,
    setup: Setup,
    data: TrainingData | None,
    device: torch.device,
    gpu: Gpu | None,
    gpus: int | None,
    price: float | None,
) -> Plan:
    shape = setup.shape
    steps, tokens = _extent(config, data)
    size = config.micro_batch_tokens
    micro = auto_micro_batch_tokens(shape, config.batch_tokens, device) if size == "auto" else size
    parameters = shape.parameters()
    trained = parameters if config.adapter is None else adapter_parameters(shape, config.adapter)
    length = min(config.data.length or shape.max_positions, shape.max_positions, config.batch_tokens)
    # Before the probe, which leaves freed memory behind.
    process = resident_bytes()
    probed = None
    if gpu is None:
        probed = probe(config, shape, setup.objective, _batch(config, setup, data, micro, length), device)
    recomputed = 0 if config.recompute == "auto" else config.recompute
    budget = None if config.memory_budget is None else round(config.memory_budget * 1e9)
    memory = predict_memory(config, setup, probed, micro, trained, device, process, recomputed)
    while budget is not None and config.recompute == "auto" and memory.total > budget and recomputed < shape.layers:
        # As the run itself will.
        recomputed += 1
        memory = predict_memory(config, setup, probed, micro, trained, device, process, recomputed)
    speed = None if probed is None else predicted_speed(config, probed, shape.layers, trained, recomputed)
    seconds = None if speed is None else tokens / speed
    available = _available(device)
    limited = budget is not None and budget < USABLE * available
    cluster = None
    if gpu is not None or memory.total > USABLE * available:
        kind = gpu or find_gpu("h100")
        # GPUs multiply bfloat16.
        weights = weight_bytes(config, shape, trained, torch.bfloat16)
        held = Held(weights, 4 * trained, optimizer_bytes(config, trained), trained)
        cluster = size_cluster(shape, tokens, min(micro, 8192), length, kind, gpus, held)
        if gpu is not None:
            seconds, speed = cluster.seconds, tokens / cluster.seconds if cluster.seconds else None
    cost = None
    if price is not None and seconds is not None:
        cost = price * seconds / 3600 * (cluster.gpus if gpu is not None and cluster else 1)
    plan = Plan(
        parameters,
        trained,
        memory,
        budget if limited and budget is not None else available,
        steps,
        tokens,
        speed,
        seconds,
        cost,
        micro,
        cluster=cluster,
        elsewhere=gpu is not None,
        limited=limited,
    )
    plan.advice.extend(_advice(config, setup, plan, probed, device))
    return plan


def predict_memory(
    config: TrainConfig,
    setup: Setup,
    probed: Probe | None,
    micro: int,
    trained: int,
    device: torch.device,
    process: int,
    recomputed: int = 0,
) -> Memory:
    """The most memory at once, with micro-batches of ``micro`` tokens and so many layers computed again.

    process: bytes that the process holds before there is a model.
    """
    shape = setup.shape
    compute = choose_dtype(config.precision, device)
    gradients = 4 * trained
    several = -(-config.batch_tokens // micro)
    if probed is None:
        step = step_bytes_by_arithmetic(shape, micro, gradients, several)
    else:
        block_input = probed.tokens * shape.width * compute.itemsize
        step = step_bytes(probed, shape.layers, gradients, several, recomputed, block_input)
    weights = weight_bytes(config, shape, trained, compute)
    return with_slack(process, weights, optimizer_bytes(config, trained), step, device)


def fitting_recompute(
    config: TrainConfig, setup: Setup, data: TrainingData, micro: int, device: torch.device, budget: float
) -> tuple[int, Memory]:
    """The fewest layers that must be computed again for a run to stay within ``budget`` bytes, and its memory then.

    Raises:
        ConfigError: not even all of them are enough.
    """
    shape = setup.shape
    trained = shape.parameters() if config.adapter is None else adapter_parameters(shape, config.adapter)
    length = min(config.data.length or shape.max_positions, shape.max_positions, config.batch_tokens)
    process = resident_bytes()
    probed = probe(config, shape, setup.objective, _batch(config, setup, data, micro, length), device)
    for recomputed in range(shape.layers + 1):
        memory = predict_memory(config, setup, probed, micro, trained, device, process, recomputed)
        if memory.total <= budget:
            return recomputed, memory
    raise ConfigError(
        f"the run needs {format_bytes(memory.total)} even with every block computed again",
        where="memory_budget",
        hint="ask 'ownlm plan' what to change",
    )


def predicted_speed(config: TrainConfig, probed: Probe, layers: int, trained: int, recomputed: int) -> float:
    """Tokens a second of the whole run, in which so many layers are computed again."""
    rounds = max(1.0, config.batch_tokens / max(1, probed.tokens))
    per_parameter = probed.two.update_seconds / max(1, probed.trained[1])
    seconds = rounds * probed.seconds(layers, recomputed) + per_parameter * trained
    return config.batch_tokens / (seconds * OVERHEAD)


def _not_there(config: TrainConfig) -> list[str]:
    return [name for name in [*config.data.sources, *config.data.validation] if not Path(name).exists()]


def _extent(config: TrainConfig, data: TrainingData | None) -> tuple[int, int]:
    """Steps and tokens of the run."""
    if data is None:
        assert config.steps is not None
        return config.steps, config.steps * config.batch_tokens
    steps = data.steps(config)
    # The mean of a few steps: they are filled alike.
    some = [data.loader.tokens(step) for step in range(min(steps, 8))]
    return steps, round(steps * sum(some) / len(some))


def _batch(config: TrainConfig, setup: Setup, data: TrainingData | None, micro: int, length: int) -> Batch:
    """The largest micro-batch of the first step; without data, full documents of arbitrary tokens."""
    if data is not None:
        batches = data.loader.micro_batches(0, micro)
        return setup.objective.batch(max(batches, key=len), 0)
    count = max(1, min(micro, config.batch_tokens) // length)
    tokens = torch.arange(count * length) % setup.shape.vocab_size
    starts = tuple(range(0, count * length + 1, length))
    weights = torch.ones(len(tokens))
    positions = torch.arange(len(tokens)) % length
    return Batch(tokens, positions, starts, tokens.roll(-1), weights, tuple(range(count)))


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return usable_memory_bytes()


def _advice(config: TrainConfig, setup: Setup, plan: Plan, probed: Probe | None, device: torch.device) -> list[str]:
    """What to change: where it does not fit, the first change that makes it fit, smallest first."""
    if plan.fits:
        return []
    if plan.elsewhere and plan.cluster is not None:
        # What this machine measured says nothing of others.
        lighter = _lighter(config)
        return [*lighter, _hold_it(plan.cluster)] if plan.cluster.fewest else lighter
    room = plan.usable
    advice = []
    shape, over = setup.shape, plan.memory.total - plan.usable
    micro = plan.micro_batch_tokens
    length = min(config.data.length or shape.max_positions, micro)
    if micro > length:
        share = plan.memory.step * (1 - length / micro)
        if over < share:
            advice.append(f"micro_batch_tokens={length} keeps {format_bytes(round(share))} less in memory")
    if shape.layers > 1 and probed is not None and over < probed.layer_kept * (shape.layers - 1):
        layers = min(shape.layers - 1, -(-int(over) // max(1, probed.layer_kept)))
        advice.append(f"recompute={layers} computes so many layers again in place of keeping them")
    if config.optimizer.states == "float32":
        saved = plan.memory.optimizer - optimizer_bytes(
            config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"states": "eight_bit"})}),
            plan.trained,
        )
        if over < saved:
            advice.append(f"optimizer.states=eight_bit takes {format_bytes(saved)} less")
    advice += _lighter(config)
    states = plan.memory.weights + plan.memory.optimizer + 4 * plan.trained
    rest = room - plan.memory.process - plan.memory.step
    if device.type == "cuda" and rest > 0:
        advice.append(f"{-(-states // int(rest))} workers (--workers) hold it between them")
    if plan.cluster is not None and plan.cluster.gpus:
        advice.append(_hold_it(plan.cluster))
    return advice


def _lighter(config: TrainConfig) -> list[str]:
    """How less of the base is trained, or kept."""
    if config.adapter is None and config.base is not None:
        return ["adapter.kind=lora trains a small adapter beside the frozen base"]
    if config.adapter is not None and config.adapter.quantize_base == "none":
        return ["adapter.quantize_base=nf4 keeps the frozen base in 4 bits"]
    return []


def _hold_it(cluster: Cluster) -> str:
    return f"{gpus_of(cluster.fewest)} of the kind below {'holds' if cluster.fewest == 1 else 'hold'} it"
