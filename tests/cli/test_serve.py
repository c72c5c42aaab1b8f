"""``ownlm serve`` before it serves: what is missing or wrong is told at once."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "missing", ["fastapi", "starlette", "uvicorn", "h11", "prometheus_client", "sqlalchemy", "alembic"]
)
def test_without_the_extra_the_server_is_what_needs_it(missing: str):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from ownlm.cli.main import main; sys.exit(main(['serve', 'm']))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 2
    assert "the server needs the extra 'serve'" in child.stderr and "pip install 'ownlm[serve]'" in child.stderr
