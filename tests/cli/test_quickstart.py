"""What quickstart's ending tells, from its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from ownlm.cli.quickstart import summary

RESULT: dict[str, Any] = {
    "base": "smollm2-135m-instruct",
    "model": "quickstart/model",
    "seconds": 125.0,
    "before": {"loss": 2.0},
    "after": {"loss": 1.2},
    "report": "quickstart/report.html",
}


@pytest.mark.parametrize(
    ("base", "next_command"),
    [("smollm2-135m-instruct", "ownlm chat quickstart/model"), ("scratch", "ownlm generate quickstart/model")],
)
def test_the_ending_says_what_happened_and_what_to_try(base: str, next_command: str):
    text = summary({**RESULT, "base": base})
    assert "Done in 2 min 5 s." in text
    assert "2.000 before, 1.200 after: 40% lower" in text
    assert "quickstart/report.html" in text
    commands = text[text.index("Try next:") :].strip().split("\n")[1:]
    assert len(commands) == 3
    assert commands[0].strip().startswith(next_command)
