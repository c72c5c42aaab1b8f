"""Batch -> loss -> update -> checkpoint; and, called, the function: ``ownlm.train("config.yaml")``."""

from __future__ import annotations

from ..callable_package import make_callable

make_callable(__name__)
