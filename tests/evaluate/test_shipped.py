"""Data that comes with ownlm: whole, as it was published, found by name, and not used where the user names another."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import DataError, UserError
from ownlm.evaluate import shipped
from ownlm.evaluate.run import run_tasks
from ownlm.evaluate.shipped import SHIPPED, comes_along
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.suites import find_data, read_task, tasks_of
from ownlm.evaluate.task import read_items
from ownlm.model.transformer import Transformer
from ownlm.tokens.train_bpe import train_tokenizer


@pytest.fixture(scope="module")
def subject(make_model: Callable[..., Transformer]) -> Subject:
    tokenizer = train_tokenizer(["the model reads a text, and what it says is a text as well"] * 20, 300)
    return Subject(make_model("llama", vocab_size=320, max_positions=512), tokenizer, "tiny", hidden=True)


def rows_of(name: str) -> list[dict[str, Any]]:
    task, folder = read_task(name)
    return [dict(item.values) for item in read_items(find_data(task.data, folder, None, name))]


def test_files_have_their_sums_and_stay_small() -> None:
    sums = dict(reversed(line.split()) for line in (SHIPPED / "SHA256SUMS").read_text().splitlines())
    files = {path.name.removesuffix(".gz"): path for path in SHIPPED.glob("*.jsonl*")}
    assert sums.keys() == files.keys()
    source = (SHIPPED / "SOURCE.md").read_text()
    for name, path in files.items():
        packed = path.read_bytes()
        content = gzip.decompress(packed) if path.suffix == ".gz" else packed
        assert hashlib.sha256(content).hexdigest() == sums[name]
        assert f"| {path.name} |" in source
        # No time and no name stands in it.
        assert path.suffix != ".gz" or packed[3:8] == bytes(5)
    assert sum(path.stat().st_size for path in files.values()) < 5e6


@pytest.mark.parametrize("name", ["arc_easy", "boolq", "copa", "lambada_openai", "winogrande"])
def test_whole_sets_are_as_published(shared_data: Path, name: str) -> None:
    lines = (shared_data / "llm_eval" / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    assert rows_of(name) == [json.loads(line) for line in lines if line]


def test_hellaswag_is_a_sample_as_the_harness_writes_it(shared_data: Path) -> None:
    lines = bz2.decompress((shared_data / "hellaswag" / "hellaswag_val_full.txt.bz2").read_bytes()).decode().split("\n")
    published = {(query.lower(), *rest) for query, *rest in (lines[at : at + 6] for at in range(0, len(lines) - 5, 6))}
    rows = rows_of("hellaswag")
    ours = {(row["query"].lower(), str(row["gold"]), *row["choices"]) for row in rows}
    assert len(rows) == 5000 and len(published) == 10042 and ours <= published
    # Captions of films, which break off in a sentence, and instructions, which do not: 32% of the whole set are the former.
    captions = [row["query"] for row in rows if row["query"][-1] not in ".!?"]
    assert len(captions) / len(rows) == pytest.approx(0.32, abs=0.02)
    # The sentence that breaks off begins with a capital, or with no letter at all: lm-eval's ctx_b.capitalize().
    for query in captions:
        last = re.split(r"(?<=[.!?]) ", query)[-1]
        assert last == last.capitalize()


def test_wikitext_is_every_page_of_the_test_set(shared_data: Path) -> None:
    text = (shared_data / "wikitext2" / "wiki.test.tokens").read_text(encoding="utf-8")
    rows = rows_of("wikitext")
    assert " ".join(" ".join(row["text"] for row in rows).split()) == " ".join(text.split()) and len(rows) == 62


def test_the_core_suite_runs_at_once(subject: Subject) -> None:
    names = [name for name in tasks_of([], ["core"]) if name != "wikitext"]
    found = run_tasks(subject, names, shots=[0, 1], limit=3)
    assert {one.task for one in found} == set(names) and all(one.data and comes_along(one.data) for one in found)
    assert all(one.measured.measurements for one in found)
    assert "wikitext" in tasks_of([], ["core"]) and rows_of("wikitext")


def test_items_that_are_all_too_long_are_counted(subject: Subject, tmp_path: Path) -> None:
    rows = [{"query": "word " * 600, "choices": ["no", "yes"], "gold": 1}] * 2
    (tmp_path / "boolq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (ran,) = run_tasks(subject, ["boolq"], data=tmp_path)
    assert ran.measured.long == 2 and not ran.measured.records
    assert all(len(one) == 0 and one.value != one.value for one in ran.measured.measurements)


def test_a_file_of_the_users_goes_first(subject: Subject, tmp_path: Path) -> None:
    task, folder = read_task("copa")
    along = find_data(task.data, folder, None, "copa")
    assert comes_along(along) and find_data(task.data, folder, tmp_path, "copa") == along
    rows = [{"query": f"It rained {n} days, so", "choices": ["it was wet.", "it was dry."], "gold": 0} for n in (1, 2)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "copa.jsonl").write_text(text)
    (ran,) = run_tasks(subject, ["copa"], data=tmp_path)
    assert ran.data == tmp_path / "sets" / "copa.jsonl" and len(ran.measured.records) == 2
    # Compressed as well.
    (tmp_path / "copa.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (ran,) = run_tasks(subject, ["copa"], data=tmp_path)
    assert ran.data == tmp_path / "copa.jsonl.gz" and len(ran.measured.records) == 2
    with pytest.raises(DataError, match="no such folder"):
        run_tasks(subject, ["copa"], data=tmp_path / "none")
    with pytest.raises(UserError, match="not here"):
        find_data("../data/copa.jsonl.gz", tmp_path, None, "mine")


@pytest.mark.parametrize("name", ["copa.jsonl.gz", "instructions.jsonl"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (name, "SHA256SUMS"):
        (tmp_path / file).write_bytes((SHIPPED / file).read_bytes())
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    assert read_items(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    changed = gzip.compress(gzip.decompress(content)[:-40]) if name.endswith(".gz") else content[:-1]
    (tmp_path / name).write_bytes(changed)
    with pytest.raises(DataError, match="damaged") as error:
        read_items(tmp_path / name)
    assert error.value.where == str(tmp_path / name) and "--data" in str(error.value.hint)


# As llm-foundry keeps these sets, and what a model is then shown.
BY_HAND = {
    "piqa": ("piqa", {"query": "Question: Dry a wet shoe.\n"}, "Question: Dry a wet shoe.\nAnswer:"),
    "openbookqa": ("openbook_qa", {"query": "Plants need"}, "Plants need"),
    "arc_challenge": ("arc_challenge", {"query": "Question: What is ice?"}, "Question: What is ice?\nAnswer:"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_sets_that_do_not_come_along(subject: Subject, tmp_path: Path, name: str) -> None:
    file, fields, prompt = BY_HAND[name]
    with pytest.raises(DataError, match=f"{file}.jsonl") as error:
        run_tasks(subject, [name])
    assert "--data" in str(error.value.hint)
    (tmp_path / f"{file}.jsonl").write_text(json.dumps({**fields, "choices": ["paper", "light"], "gold": 1}) + "\n")
    (ran,) = run_tasks(subject, [name], data=tmp_path)
    assert ran.measured.records[0]["prompt"] == prompt and ran.measured.records[0]["right"] == 1
    assert [one.metric.name for one in ran.measured.measurements] == ["accuracy", "accuracy_norm"]
    (tmp_path / f"{file}.jsonl").write_text(json.dumps({**fields, "choices": ["paper", "light"], "gold": 2}) + "\n")
    with pytest.raises(DataError, match="not among the choices") as error:
        run_tasks(subject, [name], data=tmp_path)
    assert error.value.where == f"{tmp_path / file}.jsonl:1"


def test_questions_in_squads_format(subject: Subject, tmp_path: Path) -> None:
    questions = [
        {"id": "1", "question": "What fell?", "answers": [{"text": "rain", "answer_start": 0}]},
        {"id": "2", "question": "Where?", "answers": [{"text": "Rome"}, {"text": "in Rome"}, {"text": "Rome"}]},
    ]
    paragraphs = [{"context": "rain fell in Rome", "qas": questions}]
    (tmp_path / "xquad.en.json").write_text(json.dumps({"data": [{"title": "Rain", "paragraphs": paragraphs}]}))
    (ran,) = run_tasks(subject, ["xquad_en"], data=tmp_path)
    assert [one["right_answers"] for one in ran.measured.records] == [["rain"], ["Rome", "in Rome"]]
    assert ran.measured.records[1]["prompt"] == "rain fell in Rome\n\nQ: Where?\n\nA:"
    assert {one.metric.name for one in ran.measured.measurements} == {"squad_exact", "squad_f1"}
    (tmp_path / "xquad.en.json").write_text(json.dumps(["text"]))
    with pytest.raises(DataError, match="an object was expected, not str"):
        run_tasks(subject, ["xquad_en"], data=tmp_path)


@pytest.mark.parametrize(("name", "choices", "shots"), [("sst2", 2, 2), ("banking77", 77, 0), ("xquad_en", 0, 0)])
def test_public_sets_fit_their_tasks(shared_data: Path, subject: Subject, name: str, choices: int, shots: int) -> None:
    (ran,) = run_tasks(subject, [name], data=shared_data, shots=[shots], limit=2)
    assert len(ran.measured.records) + ran.measured.long == 2
    for record in ran.measured.records:
        assert not choices or len(set(record["choices"])) == choices
    assert not choices or ran.measured.records
    if name == "banking77":
        task, folder = read_task(name)
        items = read_items(find_data(task.data, folder, shared_data, name))
        assert {item.values["category"].replace("_", " ") for item in items} == set(ran.measured.records[0]["choices"])
