"""Doctor: what it finds is what is there."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.cli import doctor


def test_doctor_tells_what_is_there(ownlm: Callable[..., Any], tmp_path: Path):
    outcome = ownlm("doctor", "--json")
    assert outcome.code == 0
    checks = {check["name"]: check for check in outcome.object["checks"]}
    assert {"python", "torch", "cpu", "memory", "gpu", "precision", "compiler", "disk", "models"} <= set(checks)
    assert checks["python"]["detail"] == platform.python_version()
    assert torch.__version__ in checks["torch"]["detail"]
    assert str(tmp_path / "home") in checks["disk"]["detail"]
    assert "hub" not in checks
    for check in checks.values():
        assert set(check) == {"name", "ok", "detail"}
        assert "could not be checked" not in check["detail"]


def test_doctor_shows_each_check_to_people(ownlm: Callable[..., Any]):
    outcome = ownlm("doctor")
    assert (outcome.code, outcome.out) == (0, "")
    assert "python" in outcome.err
    assert "precision" in outcome.err


def test_a_check_that_breaks_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch):
    def broken() -> doctor.Check:
        raise OSError("no such device")

    monkeypatch.setattr(doctor, "_disk", broken)
    checks = {check.name: check for check in doctor.run_checks()}
    assert checks["disk"] == doctor.Check("disk", False, "could not be checked: OSError: no such device")
    assert checks["python"].ok


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: False)
    check = next(check for check in doctor.run_checks() if check.name == "extra track")
    assert not check.ok
    assert "pip install 'ownlm[track]'" in check.detail
