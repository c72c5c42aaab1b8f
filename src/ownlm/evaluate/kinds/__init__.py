"""The kinds of tasks by name."""

from __future__ import annotations

from ..bias.bbq import BBQTask
from ..bias.crows_pairs import CrowSPairsTask
from ..bias.stereoset import StereoSetTask
from ..bias.winobias import WinoBiasTask
from ..task import TaskConfig
from .choice import ChoiceTask
from .classify import ClassifyTask
from .continuations import ContinuationsTask
from .counterfactual import CounterfactualTask
from .generate import GenerateTask
from .text import ContinuationTask, PerplexityTask

KINDS: dict[str, type[TaskConfig]] = {
    "bbq": BBQTask,
    "choice": ChoiceTask,
    "classify": ClassifyTask,
    "continuation": ContinuationTask,
    "continuations": ContinuationsTask,
    "counterfactual": CounterfactualTask,
    "crows_pairs": CrowSPairsTask,
    "generate": GenerateTask,
    "perplexity": PerplexityTask,
    "stereoset": StereoSetTask,
    "winobias": WinoBiasTask,
}
