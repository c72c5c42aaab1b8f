"""A process of its own in which grammars are tried before the engine compiles them.

A schema or a grammar comes from a stranger, and compiling it runs in a library that cannot be interrupted: references
nested by the thousand overflow its stack and end the process, and products of large numbers fill the memory. Here that
ends only this process, which is begun anew; and what has passed here passes again in the engine, where the stack is
larger.

    python -m ownlm.engine.grammar_trial          reads a grammar a line, answers each with a line
"""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import threading
import weakref
from typing import IO, Any

from ..errors import OwnlmError

# Of the thread that tries; engine threads have 8 MiB by default.
STACK_BYTES = 2 * 2**20
# Address space, of which an idle process takes a third.
MEMORY_BYTES = 384 * 2**20
# How long the process may take to begin; a busy machine is slow at that.
START_SECONDS = 60.0
# Tokens of the walk, on which it comes out that nothing fits a grammar, or that its first steps are too complex.
STEPS = 24

READY = "ready"


class TrialFailed(Exception):
    """A grammar did not come through its trial; the text says why, in the library's words or ours."""


class Trial:
    """The process, begun when it is first needed. To be used by one thread at a time.

    Args:
        seconds: how long a grammar may take.
        limits: of the parser, by their names in the library.
    """

    def __init__(self, seconds: float, limits: dict[str, Any]) -> None:
        self._seconds, self._limits = seconds, limits
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def check(self, grammar: str) -> None:
        """Tries a grammar.

        Raises:
            TrialFailed: it cannot be compiled, or nothing fits it, or it takes too much time, memory or stack.
            OwnlmError: the process cannot be begun.
        """
        process = self._process or self._begin()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"grammar": grammar, "limits": self._limits}) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=self._seconds)
        except queue.Empty:
            self.close()
            raise TrialFailed(f"it takes longer than {self._seconds:g} s to compile") from None
        except OSError:
            line = ""
        if not line:
            self.close()
            raise TrialFailed("it is nested too deeply, or takes too much memory")
        if error := json.loads(line)["error"]:
            raise TrialFailed(error)

    def close(self) -> None:
        """Ends the process; the next check begins another."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _begin(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", __name__]
        # Ctrl-C is for the engine's process, which ends this one.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        assert process.stdout is not None
        # Each process has a queue of its own: a late answer of one that was ended must not be read as another's.
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_read, args=(process.stdout, self._lines), daemon=True).start()
        weakref.finalize(self, _end, process)
        try:
            began = self._lines.get(timeout=START_SECONDS).strip() == READY
        except queue.Empty:
            began = False
        if not began:
            _end(process)
            raise OwnlmError("the process that tries grammars did not begin", hint="see 'ownlm doctor'")
        self._process = process
        return process


def _read(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    """Passes lines on; an empty one says that there are no more."""
    for line in stream:
        lines.put(line)
    lines.put("")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _try(grammar: str, limits: dict[str, Any]) -> str:
    """What is wrong with a grammar; empty where nothing is."""
    import llguidance

    # Tokens of one byte each show every step that longer ones take at once.
    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=llguidance.LLParserLimits(**limits))
    draw = random.Random(0)
    for step in range(STEPS):
        if matcher.is_error() or matcher.is_stopped():
            break
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        if not step and matcher.get_error().startswith("NoExtensionBias"):
            return NOTHING_FITS
        allowed = [token for token in range(tokenizer.vocab_size) if mask >> token & 1]
        if allowed and not matcher.is_error():
            matcher.consume_token(draw.choice(allowed))
    return matcher.get_error()


NOTHING_FITS = "no text fits it"


def _limit() -> None:
    try:
        import resource
    except ImportError:
        # Windows has no such limits; a process that takes too long is ended there as well.
        return
    for what, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        within = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (within, hard))


def _serve() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps({"error": _try(asked["grammar"], asked["limits"])}), flush=True)


def main() -> None:
    """Answers until its input ends."""
    import llguidance  # noqa: F401 - loaded before the first grammar's time runs

    _limit()
    print(READY, flush=True)
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=_serve)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
