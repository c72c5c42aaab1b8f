"""Compiling the kernels: once, whole, by one process at a time, and never at the cost of a run."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ownlm import native
from ownlm.model.kernels import calls, library

COMPILES = library.library() is not None
needs_kernels = pytest.mark.skipif(
    not COMPILES, reason="this processor has no AVX-512 BF16, or no compiler is installed"
)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path))
    library.library.cache_clear()
    yield tmp_path
    library.library.cache_clear()


@pytest.mark.usefixtures("empty_cache")
def test_switched_off_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(native.SWITCH, "off")
    assert library.library() is None
    assert not calls.usable(torch.zeros(2, 2, dtype=torch.bfloat16))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("empty_cache")
def test_another_processor_is_no_matter_for_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "cpu_features", lambda: ("avx2",))
    assert library.library() is None
    assert not caplog.records


@needs_kernels
@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    ("compiler", "says"), [("/nowhere/g++", "no C++ compiler"), ("false", "exit code 1")], ids=["none", "failing"]
)
def test_without_a_compiler_that_works_one_line_says_so(
    compiler: str, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with caplog.at_level(logging.WARNING):
        assert library.library() is None
        assert library.library() is None
    (line,) = caplog.messages
    assert says in line and "\n" not in line


@needs_kernels
def test_two_processes_at_once_make_one_library_and_say_nothing(empty_cache: Path) -> None:
    program = "from ownlm.model.kernels import library; print(library.library() is not None)"
    runs = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for run in runs:
        assert run.communicate(timeout=300) == ("True\n", "")
    (folder,) = (empty_cache / "cache" / "kernels").iterdir()
    assert sorted(path.name for path in folder.iterdir()) in (["kernels.lock", "kernels.so"], ["kernels.so"])


@needs_kernels
def test_a_library_that_does_not_load_is_no_error(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = empty_cache / "kernels.so"
    damaged.write_bytes(b"no library")
    monkeypatch.setattr(native, "compiled", lambda *arguments: damaged)
    assert library.library() is None


def test_other_numbers_and_other_devices_never_meet_a_kernel() -> None:
    assert not calls.usable(torch.zeros(2, 2))
    assert not calls.usable(torch.zeros(2, 2, dtype=torch.bfloat16, device="meta"))
    assert calls.usable(torch.zeros(2, 2, dtype=torch.bfloat16)) == COMPILES
