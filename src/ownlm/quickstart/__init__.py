"""The main job in one call: data in, a better model out, with the proof beside it."""

from __future__ import annotations

from .main import quickstart

__all__ = ["quickstart"]
