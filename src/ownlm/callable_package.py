"""Packages that have the name of a function users call: ``ownlm.train``, ``ownlm.evaluate``.

Importing any file of such a package would hide the function, so the package itself can be called.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        function = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module("ownlm.api"), function)(*arguments, **options)


def make_callable(package: str) -> None:
    """Makes a package of ownlm do, when it is called, what the function of its name in ``api.py`` does."""
    sys.modules[package].__class__ = _Callable
