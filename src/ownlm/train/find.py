"""``ownlm train CONFIG --find-lr``: a learning rate from a short trial on throwaway weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from ..devices import choose_device
from .config import TrainConfig
from .data import prepare_data
from .gradient import Gradients
from .memory import auto_micro_batch_tokens
from .optimizer import clip_gradients, make_optimizer, set_rate, trained_parameters
from .rate_finder import RateTrial, find_rate
from .run import make_model
from .setup import set_up
from .workers import ALONE


def find_learning_rate(
    config: TrainConfig, say: Callable[[str], None], *, low: float = 1e-7, high: float = 1.0, steps: int = 100
) -> RateTrial:
    """Trains a run's first steps at rising rates, and suggests one; nothing is written.

    Raises:
        UserError: what the run itself would refuse.
        OwnlmError: the loss never falls.
    """
    setup = set_up(config)
    data = prepare_data(config, setup, say)
    device = choose_device(config.device)
    model = make_model(config, setup, device, ALONE)
    optimizer = make_optimizer(model, config.optimizer)
    parameters = [parameter for _, parameter in trained_parameters(model)]
    size = config.micro_batch_tokens
    if size == "auto":
        size = auto_micro_batch_tokens(setup.shape, config.batch_tokens, device)
    gradients = Gradients(setup.objective, model, parameters, data.loader, ALONE, size, steps, say)
    made = 0

    def step(lr: float) -> float:
        nonlocal made
        loss, _ = gradients.make(made, None)
        set_rate(optimizer, lr)
        clip_gradients(parameters, config.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        made += 1
        return loss.item()

    try:
        with tempfile.TemporaryDirectory() as folder:
            # What an objective keeps in its run's folder, such as the base's opinion of every answer.
            setup.objective.begin(model, data, Path(folder))
            return find_rate(step, low, high, steps)
    finally:
        gradients.close()
