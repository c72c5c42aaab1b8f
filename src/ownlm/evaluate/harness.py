"""Any task of EleutherAI's lm-evaluation-harness (the package ``lm-eval``), with our scorer under it.

A task is named with ``lm-eval:`` before it, such as ``lm-eval:arc_challenge``; task files of the harness's own format in a folder
are found too. What the harness measures of each item becomes rows, so that its scores have intervals and can be compared as
our own tasks' can. Its data comes from the hub, or from local files where the task says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.requests import SamplingOptions
from ..errors import DataError, MissingExtra, UserError, nearest
from .measurement import Floats, Measurement, Metric, exponent_of_mean, mean, of_values, quotient
from .subject import Subject

PREFIX = "lm-eval:"
# Tokens of an answer where a task gives no number, as the harness's own backend has it.
MOST_TOKENS = 256


def run_harness(
    subject: Subject,
    tasks: Sequence[str],
    *,
    folder: Path | None = None,
    shots: int = 0,
    limit: int | None = None,
) -> list[Measurement]:
    """Runs tasks of the harness.

    Args:
        subject: the model.
        tasks: their names, without the prefix.
        folder: that holds further task files of the harness's.
        shots: worked examples, whatever number a task's own file has.
        limit: the most items of a task.

    Raises:
        MissingExtra: lm-eval is not installed.
        UserError: it has no such task.
        DataError: a task's data cannot be had here.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise MissingExtra("tasks of the lm-evaluation-harness", "eval") from None
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # The folder's own tasks alone are found at once; all of the harness's thousands take several seconds to list.
    manager = None if folder is None else TaskManager(include_path=str(folder), include_defaults=False)
    if manager is None or not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=None if folder is None else str(folder))
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise UserError(
            f"the harness has no task '{unknown[0]}'", where="task", hint=nearest(unknown[0], manager.all_tasks)
        )
    try:
        found = simple_evaluate(
            model=_adapted(subject),
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=True,
        )
    except (ConnectionError, FileNotFoundError) as error:
        raise DataError(
            f"the data of {', '.join(tasks)} cannot be had: {error}", hint="the harness fetches it from the hub"
        ) from None
    assert found is not None
    return [
        one
        for task, samples in sorted(found["samples"].items())
        for one in _measurements(subject, task, samples, shots)
    ]


def _measurements(subject: Subject, task: str, samples: Sequence[Mapping[str, Any]], shots: int) -> list[Measurement]:
    """One measurement for each metric that is a number, or a pair of numbers, of each item."""
    # Several filters of one answer are samples of their own.
    first = [sample for sample in samples if sample.get("filter") == samples[0].get("filter")]
    keys = [_key(sample["doc"]) for sample in first]
    found = []
    for name in first[0]["metrics"]:
        made = _rows(name, [sample[name] for sample in first])
        if made is not None:
            found.append(Measurement(task, *made, keys, None, shots, subject.name))
    return found


def _rows(name: str, values: Sequence[Any]) -> tuple[Metric, Floats] | None:
    if all(isinstance(value, bool | int | float | np.number) for value in values):
        if name == "perplexity":
            return exponent_of_mean(name), of_values([-float(value) for value in values])
        return mean(name), of_values([float(value) for value in values])
    if all(isinstance(value, list | tuple) and len(value) == 2 for value in values):
        # A logarithm and a count, as perplexities have them.
        pairs = np.array([[-float(nats), float(count)] for nats, count in values])
        if name == "bits_per_byte":
            return quotient(name, higher_is_better=False, unit="bits"), pairs * [1 / np.log(2), 1]
        if name.endswith("perplexity"):
            return exponent_of_mean(name), pairs
    # What needs all items at once, such as a correlation of labels, is the harness's own.
    return None


def _key(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _adapted(subject: Subject) -> Any:
    """The subject as the harness's kind of model; made here, so that the package is imported only where it is used."""
    from lm_eval.api.model import LM

    class Adapted(LM):
        tokenizer_name = subject.name

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            scored = subject.likelihoods([request.args for request in requests], "cut", "Scoring")
            return [(one.logprob, one.greedy) for one in scored.likelihoods if one is not None]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            return subject.rolling([request.args[0] for request in requests])

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            # Requests of one kind of options are answered together.
            groups: dict[str, list[int]] = {}
            for place, request in enumerate(requests):
                groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
            texts = [""] * len(requests)
            for options, places in groups.items():
                answers = subject.answers([requests[place].args[0] for place in places], _options(json.loads(options)))
                for place, answer in zip(places, answers, strict=True):
                    texts[place] = answer.text
            return texts

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            ids = subject.tokenizer.render(chat_history, add_generation_prompt=add_generation_prompt)
            return subject.tokenizer.decode(ids)

    return Adapted()


def _options(given: Mapping[str, Any]) -> SamplingOptions:
    until = given.get("until") or []
    drawn = bool(given.get("do_sample", False)) and given.get("temperature", 0) > 0
    values: dict[str, Any] = {
        "temperature": given["temperature"] if drawn else 0,
        "max_tokens": given.get("max_gen_toks") or given.get("max_tokens") or MOST_TOKENS,
    }
    stop = [until] if isinstance(until, str) else list(until)
    if stop:
        values["stop"] = stop
    if drawn and "top_p" in given:
        values["top_p"] = given["top_p"]
    return SamplingOptions(**values)
