"""Numbers that say what a document is like, for filters to decide by."""

from __future__ import annotations

from .measurement import SignalOptions, fingerprint, measure
from .table import SIGNALS, Signal, schema

__all__ = ["SIGNALS", "Signal", "SignalOptions", "fingerprint", "measure", "schema"]
