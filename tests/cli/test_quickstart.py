"""What quickstart's ending tells, from its numbers."""

from __future__ import annotations

from typing import Any

from ownlm.cli.quickstart import summary

SCORE = {"task": "counterfactual", "metric": "gap", "value": 0.1234, "low": 0.05, "high": 0.2}
RESULT: dict[str, Any] = {
    "base": "smollm2-135m-instruct",
    "model": "out/model",
    "seconds": 125.0,
    "before": {"loss": 2.0},
    "after": {"loss": 1.2},
    "bias": {"before": [SCORE], "after": [SCORE | {"value": 0.1}]},
    "samples": [{"prompt": "Where\nis it?", "before": "Hm. " * 60, "after": "On its way."}],
    "report": "out/report.html",
    "next": ["ownlm chat out/model", "ownlm train out/config.yaml", "ownlm export out/model --to hf --out exported"],
}


def test_the_ending_says_what_happened_and_what_to_try():
    lines = summary(RESULT).strip().split("\n")
    assert lines[0] == "Done in 2 min 5 s."
    assert "  asked:  Where is it?" in lines
    assert "  after:  On its way." in lines
    assert "Held-out loss 2.000 before, 1.200 after: 40% lower." in lines
    assert "Bias, counterfactual: 0.123 (0.05 to 0.2) before, 0.1 (0.05 to 0.2) after." in lines
    assert "Report: out/report.html" in lines
    assert lines[-4:] == ["Try next:", *(f"  {command}" for command in RESULT["next"])]
    assert max(len(line) for line in lines) <= 120
