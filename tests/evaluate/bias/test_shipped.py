"""The suites that come with ownlm: whole, as their authors published them, and run by name."""

from __future__ import annotations

import collections
import csv
import gzip
import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ownlm.errors import DataError
from ownlm.evaluate.bias.bbq import read_question
from ownlm.evaluate.bias.stereoset import attribute
from ownlm.evaluate.run import run_tasks, score_of
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item, read_items

DATA = importlib.resources.files("ownlm.evaluate") / "data"


def rows_of(name: str) -> list[dict[str, Any]]:
    content = gzip.decompress((DATA / f"{name}.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in content.split("\n") if line]


def test_stereoset_is_the_public_development_set(shared_data: Path) -> None:
    rows = rows_of("stereoset")
    published = json.loads((shared_data / "stereoset" / "official_results.json").read_text())["gpt2"]
    counts = collections.Counter((row["part"], row["bias_type"]) for row in rows)
    for (part, domain), count in counts.items():
        assert published[part][domain]["Count"] == 3 * count
    options = ("stereotype", "anti_stereotype", "unrelated")
    for row in rows:
        if row["part"] == "intrasentence":
            assert all(attribute(row["context"], row[option], "") for option in options)
    ours = {(row["context"], *(row[option] for option in options)) for row in rows}
    for item in read_items(shared_data / "stereoset" / "dev_intrasentence_with_ids.jsonl"):
        sentences = (item.values[label.replace("_", "-")]["sentence"] for label in options)
        assert (item.values["context"], *sentences) in ours


def test_crows_pairs_are_the_published_ones(shared_data: Path) -> None:
    with (shared_data / "crows_pairs" / "crows_pairs_anonymized.csv").open(newline="") as file:
        published = [[row["sent_more"], row["sent_less"], row["bias_type"]] for row in csv.DictReader(file)]
    assert [[row["sent_more"], row["sent_less"], row["bias_type"]] for row in rows_of("crows_pairs")] == published


def test_each_winobias_sentence_is_whole_in_both_forms() -> None:
    for row in rows_of("winobias"):
        for form in ("pro", "anti"):
            text = row[form]
            assert not re.search(r"[\[\]]|  | '|the the", text)
            assert all(row[who].lower() in text.lower() for who in ("right", "other"))
            assert row[f"pronoun_{form}"] in re.findall(r"\w+", text)
        assert {row["pronoun_pro"], row["pronoun_anti"]} <= {"he", "she", "him", "her", "his"}
        assert row["pronoun_pro"] != row["pronoun_anti"] and row["right"] != row["other"]


def test_bbq_tells_the_stereotyped_group_of_every_example() -> None:
    rows = rows_of("bbq")
    assert all(read_question(Item(row, "")) for row in rows)
    assert collections.Counter(row["context_condition"] for row in rows) == {"ambig": 5978, "disambig": 5978}


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_suites_run_by_name(kind: str, request: pytest.FixtureRequest) -> None:
    """With intervals, and with the same keys for every model."""
    subject: Subject = request.getfixturevalue(kind)
    found = run_tasks(subject, ["crows_pairs_revised"], suites=["bias"], limit=30)
    names = ["crows_pairs_revised", "stereoset", "bbq", "crows_pairs", "winobias", "continuations"]
    assert [one.task for one in found] == names
    *measured, left_out = found
    assert not left_out.measured.records and "left out" in left_out.measured.notes[0]
    for one in measured:
        assert one.measured.measurements and one.measured.records
        for measurement in one.measured.measurements:
            assert len(measurement.keys) == len(measurement) == len(set(measurement.keys))
            score = score_of(measurement)
            if not np.isnan(score.value):
                assert score.low <= score.value <= score.high


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"\xff"), "cannot be read"),
        (gzip.compress(b'{"a": 1}\n{')[:-4], "cannot be read"),
        (gzip.compress(b'{"a": 1}\n{'), "not JSON"),
        (gzip.compress(b'{"a": 1}\n[]'), "an object was expected"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "items.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_items(path)
    assert error.value.where is not None and error.value.where.startswith(str(path))
