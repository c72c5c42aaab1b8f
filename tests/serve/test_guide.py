"""docs/serving.md says what the server does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from typer.main import get_command_from_info
from typer.models import CommandInfo

from ownlm.cli.bench import serve as bench
from ownlm.cli.keys import create
from ownlm.cli.serve import serve
from ownlm.engine.requests import TRANSITIONS

from .conftest import Running

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()


def test_the_life_of_a_request_is_the_engines():
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", GUIDE.partition("## The life of a request")[2], re.MULTILINE)
    told = {state: set(re.findall(r"`(\w+)`", following)) for state, following in rows}
    assert told == {state.value: {other.value for other in following} for state, following in TRANSITIONS.items()}


def test_every_metric_is_told_and_there(server: Running):
    server.chat()
    text = server.get("/metrics").text
    there = {name for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE) if not name.endswith("_created")}
    assert set(re.findall(r"`(ownlm_\w+)`", GUIDE)) == there


def test_every_option_told_is_one_of_the_command():
    def of(callback: Callable[..., object]) -> set[str]:
        info = CommandInfo(name="a", callback=callback)
        command = get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)
        return {name for parameter in command.params for name in parameter.opts}

    options = of(serve)
    told = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", GUIDE)) - {"--json"}
    assert told <= options | of(bench) | of(create)
    assert {name for name in options if name.startswith("--")} - told <= {
        "--port",
        "--name",
        "--adapter",
        "--dtype",
        "--device",
    }


def test_every_address_is_told(server: Running):
    for path in server.get("/openapi.json").json()["paths"]:
        assert path.replace("{model}", "NAME") in GUIDE
