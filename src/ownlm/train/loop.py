"""The one loop: Batch -> loss -> gradient -> update -> checkpoint, the same for every objective.

A step is a pure function of the weights, the optimizer's state, the seed and the step's number: its data comes from
``loader(step)``, its dropout from a generator seeded with (seed, step), its learning rate from the schedule. That is
what makes a resumed run the same run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..errors import Interrupted, OwnlmError
from ..files import storage_errors
from ..model.transformer import Transformer
from ..progress import Progress
from ..tokens.batch import Batch
from ..tokens.loader import Loader
from . import checkpoint
from .checkpoint import Saved, TrainingState
from .config import TrainConfig
from .data import TrainingData
from .ledger import Ledger
from .objectives import Objective
from .optimizer import clip_gradients, set_rate
from .schedule import rate
from .signals import Signals

LOWER_RATE = "set another out, with a lower optimizer.lr or a longer schedule.warmup"


class Loop:
    """One run's steps, from where ``state`` stands to the end.

    Args:
        config: the run's settings.
        objective: what is learned.
        run: the run's folder.
        saved: model, optimizer and what else a checkpoint is made of.
        data: what is trained and validated on.
        ledger: the counts so far.
        state: where the run stands.
        steps: updates in the whole run.
        micro_batch_tokens: tokens in memory at once.
        say: tells the user something.
    """

    def __init__(
        self,
        config: TrainConfig,
        objective: Objective[Any],
        run: Path,
        saved: Saved,
        data: TrainingData,
        ledger: Ledger,
        state: TrainingState,
        steps: int,
        micro_batch_tokens: int,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.objective, self.run, self.saved, self.data = config, objective, run, saved, data
        self.loader, self.validation, self.ledger, self.state = data.loader, data.validation, ledger, state
        self.steps, self.micro_batch_tokens, self.say = steps, micro_batch_tokens, say
        self.model: Transformer = saved.model
        self.device = saved.model.device
        tenth = max(1, -(-steps // 10))
        self.validate_every = config.validate_.every or tenth
        self.checkpoint_every = config.checkpoint.every or tenth
        self.metrics = run / "metrics.jsonl"
        self._tracker = _tensorboard(config, run)

    def train(self) -> None:
        """Runs to the last step, to early stopping, or to a signal.

        Raises:
            Interrupted: a signal came; the run is saved and resumes with the same command.
            OwnlmError: the loss is no number any more.
        """
        checkpoint.metrics_tail(self.metrics, self.state.metrics_bytes)
        if self.state.step == 0 and self.validation is not None:
            self._validate()
        title = "Training"
        with Signals() as signals, Progress(title, self.steps, unit="steps", start=self.state.step) as progress:
            while self.state.step < self.steps and self.state.stopped is None:
                loss = self._step()
                progress.update(self.state.step, note=f"loss {loss:.3f}")
                improved = self._validate() if self._validates_now() else False
                last = self.state.step == self.steps or self.state.stopped is not None
                if improved or last or signals.received or self.state.step % self.checkpoint_every == 0:
                    self._save()
                if signals.received and not last:
                    raise _stopped_by(signals.received, self.state.step, self.steps)
        if self._tracker is not None:
            self._tracker.close()

    def _step(self) -> float:
        """One update; returns its loss: the mean over the objective's units, for tokens in nats."""
        began, state, config = time.perf_counter(), self.state, self.config
        step = state.step
        loaded = self.loader.micro_batches(step, self.micro_batch_tokens)
        batches = [self.objective.batch(batch, step) for batch in loaded]
        units = sum(self.objective.units(batch) for batch in batches)
        if not units:
            what = f"step {step + 1} has no {self.objective.unit} to train on"
            raise OwnlmError(what, hint="check the data with 'ownlm data show'")
        if config.dropout:
            # A generator of its own for every step, so that a resumed run draws what it would have drawn.
            torch.manual_seed((config.seed << 32) + step)
        self.model.train()
        total = torch.zeros((), device=self.device)
        for batch in batches:
            loss = self.objective.loss(self.model, batch.to(self.device), 1.0 / units)
            loss.backward()
            total += loss.detach()
        lr = config.optimizer.lr * rate(config.schedule, step, self.steps)
        set_rate(self.saved.optimizer, lr)
        norm = clip_gradients([p for _, p in self.saved.named], config.optimizer.clip)
        loss_value, norm_value = total.item(), norm.item()
        self._check_finite(loss_value, norm_value, step)
        self.saved.optimizer.step()
        self.saved.optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(batch) for batch in batches)
        trained = self._count(batches)
        state.step += 1
        state.tokens += tokens
        state.trained_tokens += trained
        seconds = time.perf_counter() - began
        state.seconds += seconds
        self._write(
            step=state.step,
            loss=loss_value,
            lr=lr,
            grad_norm=norm_value,
            tokens=state.tokens,
            trained_tokens=state.trained_tokens,
            tokens_per_second=round(tokens / seconds, 1),
        )
        return loss_value

    def _count(self, batches: Sequence[Batch]) -> int:
        """Enters a step's batches into the ledger; returns how many tokens had a share in the loss."""
        trained = [count for batch in batches for count in self.objective.trained_tokens(batch).tolist()]
        self.data.count(self.ledger, [piece for batch in batches for piece in batch.documents], trained)
        return sum(trained)

    def _check_finite(self, loss: float, norm: float, step: int) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise OwnlmError(
            f"the {what} of step {step + 1} is not a finite number; the update was not made",
            where=str(self.run),
            hint=LOWER_RATE,
        )

    def _validates_now(self) -> bool:
        if self.validation is None:
            return False
        return self.state.step % self.validate_every == 0 or self.state.step == self.steps

    def _validate(self) -> bool:
        """Measures the held-out loss; returns whether it is the best so far."""
        assert self.validation is not None
        measured = held_out(
            self.objective, self.model, self.validation, self.micro_batch_tokens, self.config.validate_.tokens
        )
        loss, state = measured.pop("loss"), self.state
        if not math.isfinite(loss):
            raise OwnlmError(
                f"the held-out loss after step {state.step} is not a finite number",
                where=str(self.run),
                hint=LOWER_RATE if state.step else "the base's weights may be damaged",
            )
        self._write(step=state.step, val_loss=loss, **{f"val_{name}": value for name, value in measured.items()})
        besides = "".join(f", {name} {value:.4f}" for name, value in measured.items())
        self.say(f"step {state.step}: held-out loss {loss:.4f}{besides}")
        if state.step == 0:
            # Where the run comes from; the best is the best of what it made.
            return False
        improved = state.best_loss is None or loss < state.best_loss
        if improved:
            state.best_loss, state.best_step, state.since_best = loss, state.step, 0
        else:
            state.since_best += 1
        patience = self.config.validate_.patience
        if patience is not None and state.since_best >= patience:
            state.stopped = f"no better held-out loss for {patience} validations"
            self.say(f"stopping early at step {state.step}: {state.stopped}")
        return improved

    def _save(self) -> None:
        self.ledger.check()
        self.state.ledger = self.ledger.as_json()
        self.state.metrics_bytes = self.metrics.stat().st_size if self.metrics.is_file() else 0
        checkpoint.write_checkpoint(self.run, self.saved, self.state)
        checkpoint.forget_old(self.run, self.config.checkpoint.keep, self.state.best_step)

    def _write(self, **values: Any) -> None:
        with storage_errors(self.metrics), self.metrics.open("a") as file:
            file.write(json.dumps(values) + "\n")
        if self._tracker is not None:
            for key, value in values.items():
                if key != "step":
                    self._tracker.add_scalar(key, value, values["step"])


@torch.no_grad()
def held_out(
    objective: Objective[Any], model: Transformer, data: Loader, micro_batch_tokens: int, limit: int | None = None
) -> dict[str, float]:
    """What the objective measures on ``data``, in its own order and on at most about ``limit`` tokens; "loss" first."""
    model.eval()
    batches = validation_batches(data, micro_batch_tokens, limit)
    measured = objective.validate(model, (objective.batch(batch, None) for batch in batches))
    if not measured:
        what = f"the validation data has no {objective.unit} to measure"
        raise OwnlmError(what, hint="check the data with 'ownlm data show'")
    return measured


def validation_batches(data: Loader, micro_batch_tokens: int, limit: int | None = None) -> Iterator[Batch]:
    """One pass over the data, always in the same order; it ends once ``limit`` tokens are read."""
    read = 0
    for step in range(data.steps_in_epoch(0)):
        for batch in data.micro_batches(step, micro_batch_tokens):
            yield batch
            read += len(batch)
            if limit is not None and read >= limit:
                return


def _stopped_by(signal_name: str, step: int, steps: int) -> BaseException:
    """SIGTERM is how a scheduler asks for the machine: saved, the run ends well. Ctrl-C is the user's."""
    if signal_name == "SIGTERM":
        return SystemExit(0)
    return Interrupted(f"stopped at step {step} of {steps}; all of it is saved", hint="the same command goes on")


def _tensorboard(config: TrainConfig, run: Path) -> Any:
    if "tensorboard" not in config.track:
        return None
    with suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(run / "tensorboard"))
    from ..errors import MissingExtra

    raise MissingExtra("track: [tensorboard]", "track")
