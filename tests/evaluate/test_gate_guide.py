"""The guide's gates are gates, and look at what there is."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ownlm.config import validate
from ownlm.evaluate import gate_config
from ownlm.evaluate.gate_config import GatesConfig
from ownlm.evaluate.suites import task_names

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "gates.md"


def test_the_guides_gates() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    inline = "\n".join(line for line in str(gate_config.__doc__).splitlines() if line.startswith("    "))
    for text in (shown, inline):
        gates = validate(GatesConfig, yaml.safe_load(text))
        own = {Path(name).stem for name in gates.tasks}
        assert gates.measured and gates.machine and gates.never_again
        assert {one.task.split("/")[0] for one in gates.measured} - own <= set(task_names())
