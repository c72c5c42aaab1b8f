"""quickstart: prepare, measure, train, measure again, show."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import progress
from ..api import load_model
from ..errors import FetchError, UserError
from ..evaluate.counterfactual import likelihood_gap
from ..evaluate.run import score_of
from ..evaluate.score import Score
from ..evaluate.subject import Subject
from ..files import write_json
from ..model.registry import find_model, pull
from ..model.transformer import Transformer
from ..report.training import training_report
from ..tokens.tokenizer import Tokenizer, load_tokenizer
from ..train.config import read_train_config
from ..train.run import run_training
from .jobs import Job, scratch_job, support_job

DEFAULT_BASE = "smollm2-135m-instruct"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Look:
    """How a model does: its answers, and the counterfactual check."""

    answers: list[str]
    bias: list[Score]


def quickstart(
    base: str | None = None, out: str | Path = "ownlm-quickstart", say: Say = progress.say
) -> dict[str, Any]:
    """The main job on the bundled example; a second call on the same folder goes on where the first stopped.

    Args:
        base: a base model, or "scratch" for a new one; None is SmolLM2-135M-Instruct, and scratch where it cannot be
            fetched.
        out: the folder for data, run and report.
        say: tells the user what is being done.

    Returns:
        ``base, model, seconds, before{loss}, after{loss}, bias, samples[], report, next[]``.

    Raises:
        FetchError: a base that was asked for cannot be fetched.
        UserError: there is no such base.
    """
    began = time.monotonic()
    out = Path(out)
    job = _job(base, out, say)
    say("Looking at the model before training")
    before = _look(*_before(job), job)
    say("Training")
    run = run_training(read_train_config(job.config), say)
    say("Looking at the model after training")
    after = _look(load_model(run.model), load_tokenizer(run.model), job)
    samples = [
        {"prompt": question.strip(), "before": old, "after": new}
        for question, old, new in zip(job.questions, before.answers, after.answers, strict=True)
    ]
    write_json(out / "samples.json", samples)
    result = {
        "base": job.base,
        "model": str(run.model),
        "seconds": round(time.monotonic() - began, 1),
        "before": {"loss": run.summary["val_loss_before"]},
        "after": {"loss": run.summary["val_loss"]},
        "bias": {"before": [asdict(s) for s in before.bias], "after": [asdict(s) for s in after.bias]},
        "samples": samples,
        "report": str(out / "report.html"),
        "next": _next(job, run.model),
    }
    write_json(out / "quickstart.json", result)
    _report(job, out, before, after)
    return result


def _job(base: str | None, out: Path, say: Say) -> Job:
    """The job, with its base at hand; without a network and without having asked for one, the job from nothing."""
    if base == "scratch":
        return scratch_job(out)
    try:
        if base is None:
            pull(DEFAULT_BASE, say=say)
        else:
            find_model(base)
    except FetchError as error:
        if base is not None:
            raise
        say(f"{DEFAULT_BASE} cannot be fetched ({error.message}), so a small model is trained from nothing instead")
        return scratch_job(out)
    job = support_job(base or DEFAULT_BASE, out)
    if base is not None and load_tokenizer(find_model(base)).chat_template is None:
        raise UserError("this base is no chat model", where=base, hint="choose one with a chat template, or scratch")
    return job


def _before(job: Job) -> tuple[Transformer, Tokenizer]:
    if job.base != "scratch":
        folder = find_model(job.base)
        return load_model(folder), load_tokenizer(folder)
    from ..model.checkpoint import random_model
    from ..model.families import config_from_user

    return random_model(config_from_user(job.config["model"]), 0), load_tokenizer(Path(job.config["tokenizer"]))


def _look(model: Transformer, tokenizer: Tokenizer, job: Job) -> Look:
    subject = Subject(model, tokenizer, job.base, hidden=True)
    answers = subject.answers([job.prompt(tokenizer, question) for question in job.questions], job.sampling)
    bias = [score_of(likelihood_gap(subject, task, pairs)) for task, pairs in job.pairs(tokenizer).items()]
    return Look([answer.text.strip() for answer in answers], bias)


def _next(job: Job, model: Path) -> list[str]:
    if job.base == "scratch":
        talk = f"ownlm generate {model} --prompt 'ROMEO:'"
    else:
        talk = f"ownlm chat {model}"
    config = model.parent / "config.yaml"
    return [
        talk,
        f"ownlm train {config} out=my-run  # with data.train=YOUR.jsonl",
        f"ownlm export {model} --to hf --out exported",
    ]


def _report(job: Job, out: Path, before: Look, after: Look) -> None:
    """The run's own report, with the counterfactual check added."""
    report = training_report(out, job.title, job.about)
    report.section(
        "Does it treat people alike?",
        "The same answers were scored after the same questions with only a name or a word exchanged. A gap above 0 means "
        "the answer is likelier after the first of the pair; where the interval holds 0, no difference was found. This "
        "is a first look at one kind of bias, and finding none proves little.",
    )
    rows = [
        (when, score.task, f"{score.value:+.4f}", f"{score.low:+.4f} to {score.high:+.4f}", score.n, _reading(score))
        for when, look in (("before", before), ("after", after))
        for score in look.bias
    ]
    report.table(
        "Counterfactual check",
        ["when", "first / second", "gap (nats a token)", "95% interval", "items", "verdict"],
        rows,
    )
    report.write(out / "report.html")


def _reading(score: Score) -> str:
    """A gap in words."""
    if score.low <= 0 <= score.high:
        return "no difference found"
    return "likelier after the first" if score.value > 0 else "likelier after the second"
