"""The house: rooms in their order, small files, no pickle, and documents that agree with what CI does."""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Where a package's import name is not its own name.
PACKAGES = {
    "mlflow": "mlflow-skinny",
    "pydantic_core": "pydantic",
    "yaml": "pyyaml",
    "docx": "python-docx",
    "stdnum": "python-stdnum",
}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def imported(path: Path) -> set[str]:
    """The top-level names of what a file imports from outside its own package."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
    return names


def package(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_a_room_imports_only_from_the_rooms_above_it():
    linter = Path(sys.executable).with_name("lint-imports")
    command = str(linter) if linter.exists() else shutil.which("lint-imports")
    assert command, "import-linter is not installed: pip install -e '.[dev]'"
    result = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_file_is_small_and_runs_nobody_elses_code(path: Path):
    assert path.read_text().count("\n") <= 450
    assert not imported(path) & UNSAFE_MODULES
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, node.name
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "eval", "exec", "pickle.load", "pickle.loads", "yaml.load"), called
            assert not any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)


def test_everything_imported_is_declared():
    declared = [package(line) for line in PROJECT["project"]["dependencies"]]
    for extra, lines in PROJECT["project"]["optional-dependencies"].items():
        declared += [package(line) for line in lines if extra != "dev"]
    names = set().union(*(imported(path) for path in SOURCES)) - set(sys.stdlib_module_names) - {"ownlm"}
    # An export is compared with Transformers where that is installed, and torch for CUDA brings the Triton that it needs.
    optional = {"transformers", "triton"}
    assert not {PACKAGES.get(name, name).lower().replace("_", "-") for name in names} - set(declared) - optional


def test_the_constraints_pin_the_whole_tested_set():
    lines = [line for line in (ROOT / "constraints.txt").read_text().split("\n") if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {package(line) for line in lines}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + extras["data"] + extras["serve"] + extras["all"] + extras["dev"]
    assert {package(line) for line in wanted} - {"ownlm"} <= pinned
    assert "torch==2.13.0" in lines


def commands_with(document: str, word: str) -> list[str]:
    """The lines of the document's first shell block that has the word."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    blocks = [text for language, text in fenced if language in ("", "sh", "bash", "console")]
    block = next(block for block in blocks if word in block)
    lines = [line.split("  #")[0].removeprefix("$ ").strip() for line in block.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_ci_runs_the_very_commands_that_the_documents_tell(document: str):
    ci = (ROOT / ".ci" / "run").read_text().split("\n")
    commands = commands_with(document, "pytest")
    assert any("constraints.txt" in command for command in commands)
    places = [ci.index(command) for command in commands]
    assert places == sorted(places)


def test_the_licence_is_apache_2_word_for_word():
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
