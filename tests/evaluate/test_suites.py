"""Finding tasks, suites and data, and what is said where one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ownlm.errors import ConfigError, DataError, UserError
from ownlm.evaluate.kinds.choice import ChoiceTask
from ownlm.evaluate.suites import find_data, read_task, suite_names, task_names, tasks_of

GOOD = 'name: mine\nkind: choice\ndata: a.jsonl\nprompt: "{{ q }}"\nchoices: [a, b]\nanswer: "{{ gold }}"\n'


def test_every_task_and_suite_that_comes_along_can_be_read() -> None:
    for name in task_names():
        task, _ = read_task(name)
        assert task.name == name and task.about and task.source and task.licence
    for suite in suite_names():
        assert set(tasks_of([], [suite])) <= set(task_names())


def test_a_task_of_ones_own_is_one_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)
    task, folder = read_task(str(file))
    assert isinstance(task, ChoiceTask) and task.choices == ("a", "b") and folder == tmp_path


@pytest.mark.parametrize(
    ("text", "message", "where", "hint"),
    [
        ("", "empty", "", "name, kind, data"),
        (GOOD.replace("choice\n", "choise\n"), "unknown kind 'choise'", "kind in", "choice"),
        (GOOD.replace("kind: choice\n", ""), "'kind' is missing", "kind in", "choice"),
        (GOOD.replace("prompt:", "promt:"), "unknown key 'promt'", "promt in", "prompt"),
        (GOOD.replace("answer:", "#"), "'answer' is missing", "answer in", "right choice"),
        (GOOD + "metrics: [acuracy]\n", "'acuracy' is not one of the choices", "metrics", "accuracy"),
        (GOOD + "metrics: []\n", "at least 1", "metrics", ""),
        (GOOD + "name: other\n", "the key 'name' stands twice", ":7", "line 1"),
        (GOOD + "shots: {seeds: 3}\n", "unknown key 'seeds'", "shots.seeds", "seed"),
        ("name: [\n", "not valid YAML", ":2", ""),
        ("- a\n", "a mapping of keys", "", ""),
    ],
)
def test_a_wrong_task_file_is_told_with_key_or_line(
    tmp_path: Path, text: str, message: str, where: str, hint: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_task(str(file))
    assert where in str(error.value.where) and "mine.yaml" in str(error.value.where) and hint in str(error.value.hint)


def test_a_misspelt_name_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task 'arc_eazy'") as error:
        read_task("arc_eazy")
    assert "arc_easy" in str(error.value.hint)
    with pytest.raises(UserError, match="no suite 'cor'") as error:
        tasks_of([], ["cor"])
    assert "core" in str(error.value.hint)
    with pytest.raises(UserError, match="not there"):
        read_task(str(tmp_path / "none.yaml"))


def test_data_stands_beside_the_task_or_in_the_folder_of_data(tmp_path: Path) -> None:
    beside, data = tmp_path / "tasks", tmp_path / "data"
    for folder in (beside, data / "one", data / "two"):
        folder.mkdir(parents=True)
    with pytest.raises(DataError, match="not here") as error:
        find_data("a.jsonl", beside, None, "mine")
    assert "--data" in str(error.value.hint)
    with pytest.raises(DataError, match="not in this folder"):
        find_data("a.jsonl", beside, data, "mine")
    (data / "one" / "a.jsonl").touch()
    assert find_data("a.jsonl", beside, data, "mine") == data / "one" / "a.jsonl"
    (data / "two" / "a.jsonl").touch()
    with pytest.raises(DataError, match="there 2 times"):
        find_data("a.jsonl", beside, data, "mine")
    (data / "a.jsonl").touch()
    assert find_data("a.jsonl", beside, data, "mine") == data / "a.jsonl"
    (beside / "a.jsonl").touch()
    assert find_data("a.jsonl", beside, data, "mine") == beside / "a.jsonl"
    assert find_data(str(data / "a.jsonl"), beside, None, "mine") == data / "a.jsonl"
