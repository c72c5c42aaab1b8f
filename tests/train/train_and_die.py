"""Trains a config in a process of its own that kills itself, as a power cut would, where the arguments say.

python train_and_die.py CONFIG.json step N          right after step N's update
python train_and_die.py CONFIG.json checkpoint N    in the middle of writing the first checkpoint at or after N
python train_and_die.py CONFIG.json evaluation N    in the middle of the evaluation after step N
python train_and_die.py CONFIG.json never
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ownlm.evaluate.during import prepare
from ownlm.train import checkpoint
from ownlm.train.config import read_train_config
from ownlm.train.evaluation import Evaluations
from ownlm.train.loop import Loop
from ownlm.train.run import run_training


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_step(number: int) -> None:
    step = Loop._step

    def stepped(self: Loop, *arguments: Any) -> float:
        loss = step(self, *arguments)
        if self.state.step == number:
            die()
        return loss

    Loop._step = stepped  # type: ignore[method-assign]


def die_in_checkpoint(number: int) -> None:
    save = checkpoint.save_tensors

    def saved(tensors: dict[str, Any], path: Path) -> None:
        if path.name == checkpoint.OPTIMIZER and int(path.parent.name.split("-")[1].split(".")[0]) >= number:
            path.write_bytes(b"half of it")
            die()
        save(tensors, path)

    checkpoint.save_tensors = saved  # type: ignore[attr-defined]


def die_in_evaluation(number: int) -> None:
    evaluate, scores = Loop._evaluate, Evaluations.scores

    def evaluated(self: Loop, *arguments: Any, **more: Any) -> bool:
        if self.state.step == number:
            Evaluations.scores = lambda self, stops, most=None: scores(self, die, most)  # type: ignore
        return evaluate(self, *arguments, **more)

    Loop._evaluate = evaluated  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[2] != "never":
        ways = {"step": die_after_step, "checkpoint": die_in_checkpoint, "evaluation": die_in_evaluation}
        ways[sys.argv[2]](int(sys.argv[3]))
    run_training(read_train_config(json.loads(Path(sys.argv[1]).read_text())), lambda message: None, prepare)
