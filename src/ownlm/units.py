"""Numbers as people read them: durations, rates, sizes, counts."""

from __future__ import annotations


def format_seconds(seconds: float) -> str:
    """A duration in its two largest units: ``0.4 s``, ``42 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_rate(rate: float, unit: str) -> str:
    """A rate with three figures: ``2.41 steps/s``, ``1,240 tokens/s``."""
    return f"{format_number(rate)} {unit}/s"


def format_number(value: float) -> str:
    """A number with at least three figures, thousands parted: ``2.41``, ``1,240``, ``3.00e-04``; integers exactly."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-3 else f"{value:.2e}"


def format_bytes(count: float) -> str:
    """A size with three figures, in powers of 1000: ``1.24 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def format_count(count: float) -> str:
    """A large count in short: ``134.5M``, ``12.3k``, ``87``."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{count / size:.1f}{letter}"
    return f"{count:,.0f}"


def plural(count: int, noun: str) -> str:
    """A count with its noun: ``1 document``, ``2,310 documents``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
