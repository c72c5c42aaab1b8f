"""``ownlm serve`` before it serves: what is missing or wrong is told at once."""

from __future__ import annotations

import json
import os
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


@pytest.mark.parametrize("key", ["schlüssel", "a\tb", "ключ"])
def test_a_key_that_no_header_carries_is_refused(key: str):
    command = [sys.executable, "-m", "ownlm", "serve", "m", "--json"]
    for arguments, environment in ((["--api-key", key], {}), ([], {"OWNLM_API_KEY": key})):
        child = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
        )
        error = json.loads(child.stdout)["error"]
        assert child.returncode == 2 and "visible ASCII" in error["message"] and key not in child.stdout
