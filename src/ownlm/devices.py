"""What this machine has, and what a run on it should use."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError, nearest

if TYPE_CHECKING:
    import torch

# Instructions that decide which precision and which kernels are fast on a CPU.
NOTABLE_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
FAST_BF16_FEATURES = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Gpu:
    """One CUDA device."""

    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    """The hardware a run gets; inside a container, what the container is allowed.

    Attributes:
        system: operating system and architecture.
        cpu: the processor's name.
        cores: CPU cores this process may use.
        memory_bytes: memory this process may use.
        cpu_features: those of the notable CPU instructions that are there.
        gpus: the CUDA devices.
        torch: torch's version.
    """

    system: str
    cpu: str
    cores: int
    memory_bytes: int
    cpu_features: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    torch: str


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on: ``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        UserError: the name is no device, or this machine has no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        hint = nearest(kind, ["auto", "cpu", "cuda", "mps"])
        raise UserError(f"'{name}' is not a device", where="device", hint=hint)
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise UserError(f"'{name}' was asked for, but there is {found}", where="device", hint="use device=auto or cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("'mps' was asked for, but this machine has none", where="device", hint="use device=auto or cpu")
    return torch.device(name)


def on_device(
    numbers: Sequence[int] | torch.Tensor, device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Numbers of the host as a tensor on a device; whole ones in a list become int64 unless told otherwise: [numbers].

    A GPU takes them from page-locked memory; from any other, the host would wait for all that it is still computing.
    """
    import torch

    tensor = numbers if isinstance(numbers, torch.Tensor) else torch.tensor(numbers, dtype=dtype or torch.int64)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def choose_dtype(precision: str, device: torch.device | str) -> torch.dtype:
    """The number format to compute in.

    ``auto`` is bfloat16 where the hardware multiplies it natively: GPUs from Ampere on, CPUs with AVX-512 BF16 or AMX.
    Elsewhere bfloat16 is emulated, slower than float32.

    Raises:
        UserError: the precision is none of auto, fp32, bf16.
    """
    import torch

    if precision not in ("auto", "fp32", "bf16"):
        hint = nearest(precision, ["auto", "fp32", "bf16"])
        raise UserError(f"'{precision}' is not a precision", where="precision", hint=hint)
    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def has_fast_bf16(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 matrices natively."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(feature in FAST_BF16_FEATURES for feature in cpu_features())


def machine() -> Machine:
    """What this machine has."""
    import torch

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_field("model name") or platform.processor() or platform.machine(),
        cores=usable_cores(),
        memory_bytes=usable_memory_bytes(),
        cpu_features=cpu_features(),
        gpus=tuple(Gpu(gpu.name, gpu.total_memory) for gpu in gpus),
        torch=torch.__version__,
    )


def cpu_features() -> tuple[str, ...]:
    """Those of the notable instructions that the processor has; empty where the system does not tell."""
    flags = set((_cpu_field("flags") or _cpu_field("Features")).split())
    return tuple(feature for feature in NOTABLE_FEATURES if feature in flags)


def usable_cores() -> int:
    """CPU cores this process may use: by affinity, and by a container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def usable_memory_bytes() -> int:
    """Memory this process may use: the machine's, or a container's limit; 0 where the system does not tell."""
    limits = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(Path("/sys/fs/cgroup") / name).strip()
        if text.isdigit():
            limits.append(int(text))
    return min(limits, default=0)


def available_memory_bytes() -> int:
    """Memory that this process may still take: what the machine has left, and what a container's limit leaves it."""
    limits = [max(0, usable_memory_bytes() - resident_bytes())]
    for line in _read(Path("/proc/meminfo")).split("\n"):
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    return min(limits)


def resident_bytes() -> int:
    """What this process holds in memory now; 0 where the system does not tell."""
    for line in _read(Path("/proc/self/status")).split("\n"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def peak_memory_bytes(device: torch.device | str = "cpu") -> int:
    """The most memory this process has held so far: the GPU's where ``device`` is one, else the resident set's peak."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    # On Linux getrusage also counts what a parent held before exec; the status file counts this process alone.
    for line in _read(Path("/proc/self/status")).split("\n"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu_field(name: str) -> str:
    for line in _read(Path("/proc/cpuinfo")).split("\n"):
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
