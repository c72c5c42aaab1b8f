"""Devices: what is there, and what a run should use."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ownlm import devices
from ownlm.errors import UserError


def test_auto_is_the_gpu_where_there_is_one():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert devices.choose_device("auto").type == expected
    assert devices.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cdua", "cuda:x", "tpu", ""])
def test_what_is_no_device_is_an_error(name: str):
    with pytest.raises(UserError, match="is not a device"):
        devices.choose_device(name)


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(UserError, match="was asked for") as caught:
        devices.choose_device("cuda:99")
    assert "device=auto" in str(caught.value.hint)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_named_precision_is_taken(precision: str, dtype: torch.dtype):
    assert devices.choose_dtype(precision, "cpu") == dtype


def test_auto_is_bfloat16_where_the_cpu_has_the_instructions():
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or platform.machine() != "x86_64":
        pytest.skip("the CPU's flags are read here from Linux on x86-64 only")
    has = any(name in flags.read_text().split() for name in ("avx512_bf16", "amx_bf16"))
    assert devices.choose_dtype("auto", "cpu") == (torch.bfloat16 if has else torch.float32)


def test_what_is_no_precision_is_an_error():
    with pytest.raises(UserError, match="is not a precision") as caught:
        devices.choose_dtype("fp23", "cpu")
    assert caught.value.hint == "did you mean 'fp32'?"


def test_the_machine_is_described():
    here = devices.machine()
    assert here.cores >= 1
    assert here.torch == torch.__version__
    assert here.memory_bytes > 1e8
    assert len(here.gpus) == torch.cuda.device_count()


def test_peak_memory_counts_what_was_held_and_let_go():
    before = devices.peak_memory_bytes()
    held = bytearray(b"x" * 200_000_000)
    del held
    assert devices.peak_memory_bytes() >= max(before, 200_000_000)


def test_peak_memory_is_of_this_process_alone():
    code = "from ownlm.devices import peak_memory_bytes; print(peak_memory_bytes())"
    held = bytearray(b"x" * 300_000_000)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(held) > int(child.stdout) > 1_000_000
