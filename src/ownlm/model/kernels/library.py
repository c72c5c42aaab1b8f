"""The compiled library of kernels, where this processor has what they need."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import subprocess
from pathlib import Path

from ... import native
from ...devices import cpu_features

SOURCES = ("attention.cpp", "pointwise.cpp", "products.cpp", "tiles.h", "unit.h", "vectors.h")
FLAGS = (
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-mfma"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16"),
)
# Left out where native.SWITCH is "avx512".
MATRIX_UNIT = ("-mamx-tile", "-mamx-bf16")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where they do not run; why not is said once, in a line, unless it is the processor."""
    if not native.wanted() or "avx512_bf16" not in cpu_features():
        return None
    spared = os.environ.get(native.SWITCH, "").lower() == "avx512"
    flags = (*FLAGS, *MATRIX_UNIT) if has_matrix_unit() and not spared else FLAGS
    sources = [Path(__file__).parent / name for name in SOURCES]
    try:
        loaded = ctypes.CDLL(str(native.compiled("kernels", sources, flags)))
        loaded.prepare.restype, loaded.sum_of_squares.restype = ctypes.c_bool, ctypes.c_double
        if not loaded.prepare():
            raise OSError("the system does not grant the matrix unit")
    except (OSError, subprocess.SubprocessError) as error:
        logging.getLogger("ownlm").warning("Training without this processor's own kernels, more slowly: %s", error)
        return None
    return loaded


def has_matrix_unit() -> bool:
    """Whether the processor has AMX."""
    return "amx_bf16" in cpu_features()
