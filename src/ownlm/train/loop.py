"""The one loop: Batch -> loss -> gradient -> update -> checkpoint, the same for every objective.

A step is a pure function of the weights, the optimizer's state, the seed and the step's number: its data comes from
``loader(step)``, its dropout from a generator seeded with (seed, step), its learning rate from the schedule. That is
what makes a resumed run the same run.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import Interrupted, OwnlmError, Terminated
from ..files import storage_errors, sync_file
from ..model.transformer import Transformer
from ..progress import Progress
from ..tokens.batch import Batch
from ..tokens.loader import Loader
from ..units import format_seconds, plural
from . import checkpoint
from .background import BackgroundWriter
from .best import check_measured, enter_best, in_words
from .checkpoint import Saved, TrainingState
from .config import TrainConfig
from .data import TrainingData
from .evaluation import TRIED, Evaluations, is_due, is_made, tracked
from .evaluation import in_words as told
from .gradient import Gradients
from .inspection import save_step
from .ledger import Ledger
from .objectives import Objective
from .optimizer import clip_gradients, set_rate
from .schedule import Plan, planned_rate, stable_until
from .signals import Signals
from .tracking import Trackers, finite, make_trackers
from .workers import ALONE, Workers

# Skipped steps in a row after which a run that skips them stops: it is not a bad batch then.
MOST_SKIPPED = 10
NOT_FINITE = "the step's loss was not a finite number"
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
        workers: who trains together.
        evaluations: measure tasks on the way; None for none.
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
        workers: Workers = ALONE,
        evaluations: Evaluations | None = None,
    ) -> None:
        self._evaluations = evaluations
        self.config, self.objective, self.run, self.saved, self.data = config, objective, run, saved, data
        self.loader, self.validation, self.ledger, self.state = data.loader, data.validation, ledger, state
        self.steps, self.say = steps, say
        self.workers = workers
        self.plan = Plan(**state.plan)
        # Of a run that decays at its end, the checkpoint before that is kept: from there it can go on for longer.
        wsd = config.schedule.kind == "wsd"
        self._stable = stable_until(config.schedule, self.plan) if wsd else 0
        self.model: Transformer = saved.model
        self.device = saved.model.device
        parameters = [parameter for _, parameter in saved.named]
        self.gradients = Gradients(
            objective, saved.model, parameters, data.loader, workers, micro_batch_tokens, steps, say
        )
        tenth = max(1, -(-steps // 10))
        self.validate_every = config.validate_.every or tenth
        self.checkpoint_every = config.checkpoint.every or tenth
        self.evaluate_every = (config.evaluate and config.evaluate.every) or max(1, -(-steps // 4))
        self.metrics = run / "metrics.jsonl"
        self._trackers = make_trackers(config, run, say) if workers.first else Trackers({}, say)
        self._asked_to_stop: str | None = None
        self._writer = BackgroundWriter() if self._writes_in_background() else None

    def train(self) -> None:
        """Runs to the last step, to early stopping, or to a signal.

        Raises:
            Interrupted: a signal came; the run is saved and resumes with the same command.
            OwnlmError: the loss is no number any more.
        """
        whole = False
        try:
            self._train()
            if self._writer is not None:
                self._writer.wait()
            whole = True
        finally:
            self.gradients.close()
            if self._writer is not None:
                self._writer.close()
            self._trackers.close(whole=whole)

    def _train(self) -> None:
        if self.workers.first:
            checkpoint.metrics_tail(self.metrics, self.state.metrics_bytes)
        if self.state.step == 0 and self.validation is not None:
            self._validate()
        self._evaluate_first()
        title = "Training"
        shown = self._progress(title)
        with Signals(quiet=not self.workers.first) as signals, shown as progress:
            while self.state.step < self.steps and self.state.stopped is None:
                loss = self._step(signals)
                progress.update(self.state.step, note=f"loss {loss:.3f}")
                improved = self._validate() if self._validates_now() else False
                last = self._at_its_end
                left = not self._evaluate(signals, last)
                if self.workers.count == 1:
                    # Several agree on it within the step.
                    self._asked_to_stop = signals.received
                due = self.state.step % self.checkpoint_every == 0 or self.state.step == self._stable
                if improved or last or self._asked_to_stop or due:
                    self._save()
                if self._asked_to_stop and (left or not last):
                    if self._writer is not None:
                        self._writer.wait()
                    raise _stopped_by(self._asked_to_stop, self.state.step, self.steps)

    @property
    def _at_its_end(self) -> bool:
        return self.state.step == self.steps or self.state.stopped is not None

    def _evaluate_first(self) -> None:
        """What is due where the run stands and was not made: before the first step, or by who was killed or left then.

        Raises:
            ModelError: the model cannot do a task; nothing is trained then.
        """
        if self._evaluations is None:
            return
        here = self.workers.first and is_made(checkpoint.last_metrics(self.metrics), self.state.step)
        if not self.workers.agreed(here) and is_due(self.evaluate_every, self.state.step, self._at_its_end):
            self._evaluate(None, last=True)
        else:
            # It may be another config than the one before.
            self._evaluations.scores(lambda: False, TRIED)

    def _evaluate(self, signals: Signals | None, last: bool) -> bool:
        """Measures the tasks where that is due; returns False where a signal ended it, which is then to end the run."""
        if self._evaluations is None or not is_due(self.evaluate_every, self.state.step, last):
            return True

        def stops() -> bool:
            return signals is not None and (signals.received or self._asked_to_stop) is not None

        began = time.perf_counter()
        scores = self._evaluations.scores(stops)
        if scores is None:
            assert signals is not None
            self._asked_to_stop = self.workers.agreed(signals.received or self._asked_to_stop)
            return False
        self._write(step=self.state.step, scores=scores)
        took = format_seconds(time.perf_counter() - began)
        for line in told(scores):
            self.say(f"step {self.state.step}: {line}")
        self.say(f"evaluated in {took}")
        return True

    def _writes_in_background(self) -> bool:
        chosen = self.config.checkpoint.background
        # On a CPU the copy would take the memory that training needs, and the disk's share of a run is small.
        return self.workers.count == 1 and (self.device.type == "cuda" if chosen == "auto" else chosen)

    def _progress(self, title: str) -> Progress:
        hidden = not self.workers.first
        return Progress(title, self.steps, unit="steps", start=self.state.step, hidden=hidden)

    @property
    def _draws(self) -> bool:
        """Whether a step is random."""
        adapter = self.config.adapter
        return self.config.dropout > 0 or (adapter is not None and adapter.dropout > 0)

    def _step(self, signals: Signals | None = None) -> float:
        """One update; returns its loss: the mean over the objective's units, for tokens in nats."""
        began, state, config = time.perf_counter(), self.state, self.config
        step = state.step
        # Of its own for every step and worker, so that a resumed run draws what it would have drawn.
        seed = (config.seed << 32) + step * self.workers.count + self.workers.rank if self._draws else None
        loss, batches = self.gradients.make(step, seed)
        state.micro_batch_tokens = self.gradients.micro_batch_tokens
        lr = config.optimizer.lr * planned_rate(config.schedule, self.plan, step)
        set_rate(self.saved.optimizer, lr)
        norm = clip_gradients([p for _, p in self.saved.named], config.optimizer.clip)
        # The one place in a step where the host waits for the device.
        told = self._told(loss.item(), batches, signals)
        norm_value = norm.item()
        if self._is_finite(told.loss, norm_value, batches):
            self.saved.optimizer.step()
            if self.saved.ema is not None:
                self.saved.ema.update(step + 1)
            self.data.enter(self.ledger, told.counts)
            state.trained_tokens += told.trained
        else:
            self.data.leave_out(self.ledger, told.counts, NOT_FINITE)
        self.saved.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.tokens += told.tokens
        seconds = time.perf_counter() - began
        state.seconds += seconds
        self._write(
            step=state.step,
            loss=told.loss if math.isfinite(told.loss) else None,
            lr=lr,
            grad_norm=norm_value if math.isfinite(norm_value) else None,
            tokens=state.tokens,
            trained_tokens=state.trained_tokens,
            tokens_per_second=round(told.tokens / seconds, 1),
        )
        return told.loss

    def _told(self, loss: float, batches: Sequence[Batch], signals: Signals | None) -> _Told:
        """What all workers know of a step, in one exchange."""
        pieces = [piece for batch in batches for piece in batch.documents]
        trained = [count for batch in batches for count in self.objective.trained_tokens(batch).tolist()]
        read = [piece for batch in batches if batch.source is not None for piece in batch.source.documents]
        counts = self.data.counts([*pieces, *read], [*trained, *[0] * len(read)])
        own = [loss, sum(batch.read_tokens for batch in batches)]
        received = signals.received if signals is not None else None
        own += [float(received == name) for name in ("SIGTERM", "SIGINT")]
        all_of = self.workers.total(own + [number for pair in counts for number in pair])
        if any(all_of[2:4]):
            self._asked_to_stop = "SIGTERM" if all_of[2] else "SIGINT"
        numbers = [round(number) for number in all_of[4:]]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        return _Told(all_of[0], round(all_of[1]), sum(pair[0] for pair in pairs), pairs)

    def _is_finite(self, loss: float, norm: float, batches: Sequence[Batch]) -> bool:
        """Whether the update may be made; if not, its batches are saved, and the run's policy decides.

        Raises:
            OwnlmError: the policy is to stop, or too many steps in a row were skipped.
        """
        state = self.state
        if math.isfinite(loss) and math.isfinite(norm):
            state.skipped_in_a_row = 0
            return True
        step, what = state.step + 1, "loss" if not math.isfinite(loss) else "gradient"
        place = ""
        # Whichever worker had it.
        all_of = self.workers.gathered(list(zip(batches, self.gradients.losses, strict=True)))
        if self.workers.first:
            folder = save_step(self.run, step, all_of, self.saved.tokenizer)
            place = f"; its batch is in {folder}"
        state.skipped += 1
        state.skipped_in_a_row += 1
        policy = self.config.non_finite
        if policy == "stop" or state.skipped_in_a_row > MOST_SKIPPED:
            many = f" for the {state.skipped_in_a_row}th time in a row" if policy == "skip" else ""
            raise OwnlmError(
                f"the {what} of step {step} is not a finite number{many}; the update was not made{place}",
                where=str(self.run),
                hint=LOWER_RATE,
            )
        self.say(f"step {step} is skipped: its {what} is not a finite number{place}")
        return False

    def _validates_now(self) -> bool:
        if self.validation is None:
            return False
        return self.state.step % self.validate_every == 0 or self.state.step == self.steps

    def _validate(self) -> bool:
        """Measures the held-out data; returns whether it is the best so far."""
        measured = self._held_out()
        loss, state = measured.pop("loss"), self.state
        if not math.isfinite(loss):
            raise OwnlmError(
                f"the held-out loss after step {state.step} is not a finite number",
                where=str(self.run),
                hint=LOWER_RATE if state.step else "the base's weights may be damaged",
            )
        self._write(step=state.step, val_loss=loss, **{f"val_{name}": value for name, value in measured.items()})
        besides = "".join(f", {name} {value:.{2 if abs(value) >= 10 else 4}f}" for name, value in measured.items())
        self.say(f"step {state.step}: held-out loss {loss:.4f}{besides}")
        best = self.config.validate_.best
        check_measured(best, measured)
        if state.step == 0:
            # Where the run comes from; the best is the best of what it made.
            return False
        improved = enter_best(state, best, self.objective, loss, measured)
        patience = self.config.validate_.patience
        if patience is not None and state.since_best >= patience:
            state.stopped = f"no better {in_words(best)} for {plural(patience, 'validation')}"
            self.say(f"stopping early at step {state.step}: {state.stopped}")
        return improved

    def _held_out(self) -> dict[str, float]:
        """What the objective measures on the held-out data, in micro-batches that fit into memory."""
        assert self.validation is not None
        limit, steps = self.config.validate_.tokens, range(self.validation.steps_in_epoch(0))
        while True:
            size = self.gradients.micro_batch_tokens
            try:
                with contextlib.nullcontext() if self.saved.ema is None else self.saved.ema.swapped():
                    return held_out(self.objective, self.model, self.validation, size, limit)
            except (RuntimeError, MemoryError) as error:
                if not self.gradients.may_halve(error, self.validation, steps):
                    raise
            self.gradients.halve("the held-out data", self.validation, steps)

    def _save(self) -> None:
        self.ledger.check()
        self.state.ledger = self.ledger.as_json()
        # A checkpoint that survives a power cut must find the lines that it counts.
        with storage_errors(self.metrics):
            if self.workers.first:
                sync_file(self.metrics)
            self.state.metrics_bytes = self.metrics.stat().st_size if self.metrics.is_file() else 0
        if self._writer is None:
            checkpoint.write_checkpoint(self.run, self.saved, self.state, self.workers)
            self._forget()
            return
        # Copied before the next update changes it, and written while that is computed.
        self._writer.wait()
        snapshot = checkpoint.take_snapshot(self.saved, self.state, copied=True)
        folder, best = checkpoint.step_folder(self.run, self.state.step), self.state.best_step

        def write() -> None:
            checkpoint.write_snapshot(folder, snapshot)
            checkpoint.forget_old(self.run, self.config.checkpoint.keep, best, self._stable)

        self._writer.submit(write)

    def _forget(self) -> None:
        if self.workers.first:
            best = self.state.best_step
            checkpoint.forget_old(self.run, self.config.checkpoint.keep, best, self._stable)

    def _write(self, **values: Any) -> None:
        if not self.workers.first:
            return
        with storage_errors(self.metrics), self.metrics.open("a") as file:
            file.write(json.dumps(values) + "\n")
        self._trackers.log(values["step"], finite(values | tracked(values.get("scores", ()))))


@dataclass(frozen=True)
class _Told:
    """What became of a step, over all workers.

    Attributes:
        loss: the mean over its units.
        tokens: read by the model.
        trained: with a share in the loss.
        counts: by source, the trained ones and those that were context only.
    """

    loss: float
    tokens: int
    trained: int
    counts: list[tuple[int, int]]


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
            read += batch.read_tokens
            if limit is not None and read >= limit:
                return


def _stopped_by(signal_name: str, step: int, steps: int) -> BaseException:
    """SIGTERM is how a scheduler asks for the machine: saved, the run ends well. Ctrl-C is the user's."""
    message, hint = f"stopped at step {step} of {steps}; all of it is saved", "the same command goes on"
    if signal_name == "SIGTERM":
        return Terminated(message, hint=hint)
    return Interrupted(message, hint=hint)
