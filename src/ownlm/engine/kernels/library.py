"""The compiled library of the engine's kernels, where this processor has what they need."""

from __future__ import annotations

import ctypes
import functools
import logging
import subprocess
from pathlib import Path

from ... import native
from ...devices import cpu_features
from ...model import kernels as shared

SOURCES = ("forward.cpp", "adapters.h", "codes.h", "matrix.h", "pages.h", "team.h")
# Vectors of exponentials and the like, which training's kernels have too.
SHARED = ("vectors.h", "tiles.h", "unit.h")
FEATURES = ("avx512_bf16", "avx512_vnni")
FLAGS = (
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-mfma"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16", "-mavx512vnni"),
)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where they do not run; why not is said once, in a line, unless it is the processor."""
    if not native.wanted() or not set(FEATURES).issubset(cpu_features()):
        return None
    here, beside = Path(__file__).parent, Path(shared.__file__).parent
    sources = [*(here / name for name in SOURCES), *(beside / name for name in SHARED)]
    try:
        return ctypes.CDLL(str(native.compiled("engine", sources, FLAGS, includes=(beside,))))
    except (OSError, subprocess.SubprocessError) as error:
        logging.getLogger("ownlm").warning("Answering without this processor's own kernels, more slowly: %s", error)
        return None
