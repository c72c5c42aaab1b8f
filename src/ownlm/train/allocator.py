"""The process's tensors in memory of our own (allocator.cpp), on a CPU, where there is a compiler.

A run then holds a few percent more than its tensors, instead of a third; and a step that does not fit into the machine's
memory is an error that can be lived with, where the system would have ended the process.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import subprocess
from pathlib import Path

from .. import native
from ..devices import available_memory_bytes

# Of the memory that nobody uses yet, what tensors may take; the rest is for what the libraries hold.
SHARE = 0.95


class Allocator:
    """The compiled library, in use from its making on; see ``allocator``."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name in ("held", "most", "length"):
            getattr(library, name).restype = ctypes.c_size_t

    @property
    def held(self) -> int:
        """Bytes of the large tensors that there are now."""
        return self._library.held()

    @property
    def most(self) -> int:
        """The most of them at once so far."""
        return self._library.most()

    @property
    def length(self) -> int:
        """Bytes of the row that they and the holes between them take up."""
        return self._library.length()

    def release(self) -> None:
        """Gives the pages of all holes back to the system."""
        self._library.release()


@functools.cache
def allocator() -> Allocator | None:
    """Puts the tensors that are made from now on into memory of our own; None where that cannot be."""
    library = allocator_library()
    if library is None:
        return None
    limit = int(SHARE * available_memory_bytes()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    library.install.argtypes, library.install.restype = (ctypes.c_size_t, ctypes.c_size_t), ctypes.c_bool
    # Places cost nothing, but a process may be forbidden to have so many (ulimit -v): holes need some more than is in use.
    reserved = 2 * limit
    while not library.install(reserved, limit):
        reserved //= 2
        if reserved < 2**28:
            return None
    return Allocator(library)


@functools.cache
def allocator_library() -> ctypes.CDLL | None:
    """The compiled library, not yet in use; None where there is none, and why is said once, in a line."""
    if not native.wanted():
        return None
    import torch

    home = Path(torch.__file__).parent
    flags = (f"-I{home / 'include'}", f"-DMADE_FOR_TORCH={torch.__version__}")
    after = (f"-L{home / 'lib'}", "-lc10", f"-Wl,-rpath,{home / 'lib'}")
    try:
        library = ctypes.CDLL(
            str(native.compiled("allocator", [Path(__file__).with_name("allocator.cpp")], flags, after))
        )
    except (OSError, subprocess.SubprocessError) as error:
        logging.getLogger("ownlm").warning("Training in the system's own memory, which takes more of it: %s", error)
        return None
    return library
