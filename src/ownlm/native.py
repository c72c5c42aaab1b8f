"""C++ of our own: compiled once for each version of its source, kept in ownlm's cache folder, and never needed.

Whatever it does exists in plain torch too, so a machine without a compiler only runs more slowly, or in more memory.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from .files import home

# Set to "off", nothing is compiled and nothing that was compiled is loaded.
SWITCH = "OWNLM_KERNELS"
# Named one by one where it uses more than any processor has, not "native": the cache may be shared between machines.
FLAGS = ("-std=c++20", "-O3", "-fPIC", "-shared")
SECONDS = 300


def wanted() -> bool:
    """Whether anything may be compiled here."""
    return os.environ.get(SWITCH, "").lower() != "off" and platform.system() == "Linux"


def compiled(
    name: str, sources: Sequence[Path], flags: Sequence[str], after: Sequence[str] = (), includes: Sequence[Path] = ()
) -> Path:
    """A shared library; compiled if these sources never were with these flags, by one process while others wait.

    Args:
        name: of the file, without its ending.
        sources: what is compiled, and the headers that it includes.
        flags: of the compiler, besides ``FLAGS``.
        after: what it links with.
        includes: folders whose headers are included besides; which of them, ``sources`` says.

    Raises:
        OSError: there is no compiler, or it fails; with its first complaint.
        subprocess.SubprocessError: it takes too long.
    """
    flags = (*FLAGS, *flags)
    digest = hashlib.sha256(" ".join((*flags, *after, *platform.libc_ver())).encode())
    for source in sources:
        digest.update(source.read_bytes())
    path = home() / "cache" / "kernels" / digest.hexdigest()[:16] / f"{name}.so"
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
                files = [str(source) for source in sources if source.suffix == ".cpp"]
                command = [compiler, *flags, *(f"-I{folder}" for folder in includes), *files, "-o", str(made), *after]
                done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
                if done.returncode:
                    # Its first complaint, if it made any.
                    complaint = next((line for line in done.stderr.split("\n") if "error" in line), "")
                    raise OSError(f"{compiler} failed: {complaint or f'exit code {done.returncode}'}")
                made.replace(path)
    return path
