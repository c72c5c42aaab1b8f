"""``ownlm doctor``: what this machine has, what is missing, and what each command would use."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Annotated

import typer

from ..units import format_bytes
from .answer import Answer

# Below these, even the quickstart may fail.
LEAST_MEMORY = 4e9
LEAST_DISK = 3e9


@dataclass(frozen=True)
class Check:
    """One thing looked at: ``ok`` is whether nothing is missing, ``detail`` what was found and what to do."""

    name: str
    ok: bool
    detail: str


def doctor(
    online: Annotated[bool, typer.Option("--online", help="Also try whether the model hub can be reached.")] = False,
) -> Answer:
    """Show what this machine has, what is missing, and what each command would use.

    Nothing is sent anywhere unless --online is given.
    """
    checks = run_checks(online)
    width = max(len(check.name) for check in checks)
    lines = [f"{'ok  ' if check.ok else '  – '} {check.name.ljust(width)}  {check.detail}" for check in checks]
    return Answer({"checks": [asdict(check) for check in checks]}, "\n".join(lines))


def run_checks(online: bool = False) -> list[Check]:
    """Every check, in the order in which they matter; one that breaks says so, and the others go on."""
    named: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("torch", _torch),
        ("cpu", _cpu),
        ("memory", _memory),
        ("gpu", _gpu),
        ("precision", _precision),
        ("compiler", _compiler),
        ("disk", _disk),
        ("models", _models),
        *((f"extra {extra}", lambda extra=extra: _extra(extra)) for extra in _extras()),
    ]
    if online:
        named.append(("hub", _hub))
    return [_tried(name, check) for name, check in named]


def _tried(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        return Check(name, False, f"could not be checked: {type(error).__name__}: {error}")


def _python() -> Check:
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", fine, platform.python_version() + ("" if fine else "; ownlm needs 3.11, 3.12 or 3.13"))


def _torch() -> Check:
    import torch

    return Check("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")


def _cpu() -> Check:
    from ..devices import machine

    here = machine()
    features = ", ".join(here.cpu_features) or "no notable instructions"
    return Check("cpu", True, f"{here.cpu}, {here.cores} cores, {features}")


def _memory() -> Check:
    from ..devices import usable_memory_bytes

    size = usable_memory_bytes()
    advice = "" if size >= LEAST_MEMORY else "; little: choose small models and a small micro_batch_tokens"
    return Check("memory", size >= LEAST_MEMORY, format_bytes(size) + advice)


def _gpu() -> Check:
    from ..devices import machine

    gpus = [f"{gpu.name} ({format_bytes(gpu.memory_bytes)})" for gpu in machine().gpus]
    return Check("gpu", True, ", ".join(gpus) or "none; everything runs on the CPU")


def _precision() -> Check:
    from ..devices import choose_device, choose_dtype

    device = choose_device()
    dtype = str(choose_dtype("auto", device)).removeprefix("torch.")
    why = "multiplied natively here" if dtype == "bfloat16" else "bfloat16 would be emulated, and slower"
    return Check("precision", True, f"training and generation use {dtype} on {device.type} ({why})")


def _compiler() -> Check:
    wanted = os.environ.get("CXX") or ("cl" if os.name == "nt" else "c++")
    found = shutil.which(wanted) or shutil.which("g++") or shutil.which("clang++")
    return Check("compiler", bool(found), found or "no C++ compiler: compile: true will not work, all else does")


def _disk() -> Check:
    from ..files import home

    folder = home()
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    advice = "" if free >= LEAST_DISK else "; little: fetched models and checkpoints go there"
    advice += "" if writable else "; it may not be written to: set OWNLM_HOME to another folder"
    return Check("disk", free >= LEAST_DISK and writable, f"{format_bytes(free)} free for {folder}{advice}")


def _models() -> Check:
    from ..model.registry import known_models

    here = [model.name for model in known_models() if model.path]
    return Check("models", True, ", ".join(here) if here else "none fetched yet: ownlm pull NAME, see ownlm models")


def _extras() -> list[str]:
    try:
        return [
            extra for extra in metadata.metadata("ownlm").get_all("Provides-Extra") or [] if extra not in ("all", "dev")
        ]
    except metadata.PackageNotFoundError:
        return []


def _extra(extra: str) -> Check:
    pattern = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    needed = [line for line in metadata.requires("ownlm") or [] if pattern.search(line)]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed]
    missing = [name for name in names if not _installed(name)]
    detail = ", ".join(names) if not missing else f"{', '.join(missing)} not installed: pip install 'ownlm[{extra}]'"
    return Check(f"extra {extra}", not missing, detail)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _hub() -> Check:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception as error:
        return Check("hub", False, f"{constants.ENDPOINT} is out of reach: {type(error).__name__}")
    return Check("hub", True, f"{constants.ENDPOINT} answers")
