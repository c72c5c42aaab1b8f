"""The kinds of tasks by name."""

from __future__ import annotations

from ..task import TaskConfig
from .choice import ChoiceTask
from .generate import GenerateTask
from .text import ContinuationTask, PerplexityTask

KINDS: dict[str, type[TaskConfig]] = {
    "choice": ChoiceTask,
    "continuation": ContinuationTask,
    "generate": GenerateTask,
    "perplexity": PerplexityTask,
}
