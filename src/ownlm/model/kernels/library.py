"""The compiled library: made once for each version of its source, kept in ownlm's cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from ...devices import cpu_features
from ...files import home

SOURCES = ("attention.cpp", "pointwise.cpp", "products.cpp", "tiles.h", "unit.h", "vectors.h")
# Set to "off", nothing is compiled and plain torch computes everything; to "avx512", the matrix unit (AMX) is let be.
SWITCH = "OWNLM_KERNELS"
# Named one by one, not "native": the cache folder may be shared between machines.
FLAGS = (
    *("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-fopenmp"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16", "-mfma"),
)
MATRIX_UNIT = ("-mamx-tile", "-mamx-bf16")
SECONDS = 300


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where they do not run; why not is said once, in a line, unless it is the processor."""
    wanted = os.environ.get(SWITCH, "").lower()
    if wanted == "off" or platform.system() != "Linux" or "avx512_bf16" not in cpu_features():
        return None
    flags = (*FLAGS, *MATRIX_UNIT) if has_matrix_unit() and wanted != "avx512" else FLAGS
    try:
        loaded = ctypes.CDLL(str(_compiled(flags)))
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


def _compiled(flags: Sequence[str]) -> Path:
    """The library's file; compiled if this source never was with these flags, by one process while others wait."""
    folder = Path(__file__).parent
    digest = hashlib.sha256(" ".join((*flags, *platform.libc_ver())).encode())
    for name in SOURCES:
        digest.update((folder / name).read_bytes())
    path = home() / "cache" / "kernels" / digest.hexdigest()[:16] / "kernels.so"
    if path.is_file():
        return path
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        raise OSError("no C++ compiler (g++) is installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
                made = Path(temporary) / path.name
                sources = [str(folder / name) for name in SOURCES if name.endswith(".cpp")]
                command = [compiler, *flags, *sources, "-o", str(made)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
                if done.returncode:
                    # Its first complaint, if it made any.
                    complaint = next((line for line in done.stderr.split("\n") if "error" in line), "")
                    raise OSError(f"{compiler} failed: {complaint or f'exit code {done.returncode}'}")
                made.replace(path)
    return path
