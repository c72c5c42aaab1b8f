"""Batch -> loss -> update -> checkpoint; and, called, the function: ``ownlm.train("config.yaml")``."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


class _Train(types.ModuleType):
    """This package has the name of the function that users call, and importing any file of it would hide the function.

    So the package itself can be called.
    """

    def __call__(self, *arguments: Any, **overrides: Any) -> Any:
        return importlib.import_module("ownlm.api").train(*arguments, **overrides)


sys.modules[__name__].__class__ = _Train
