"""What becomes of each document: which reason counts, what is cut, and who is kept of several."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.data.recipe import Recipe
from ownlm.tokens.build import build_dataset

WORDS = [
    a + b
    for a in ["bridge", "river", "stone", "letter", "garden", "window"]
    for b in ["ing", "er", "ly", "ness", "ful", "dom"]
]
MAIL = "zed.kovacs@hidden-corp.com"


def prose(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count)) + "."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of which each has a fate, or several of which one must come first."""
    folder = tmp_path_factory.mktemp("fates")
    draw = random.Random(0)
    question = f"Which office of the five must write to {MAIL} about {prose(draw, 12)}?"
    paragraph = prose(draw, 30)
    (folder / "items.json").write_text(json.dumps([{"question": question, "answer": "Berlin"}]))
    texts = folder / "texts"
    texts.mkdir()
    plain = prose(draw, 90)
    files = {
        "kept.txt": "مرحبا 😀 中文 " + prose(draw, 60) + f" Ask {MAIL} or {MAIL}, 😀.",
        "short.txt": f"Short, and {MAIL}.",
        "first-copy.txt": plain,
        "second-copy.txt": plain.replace(" ", "  "),
        "leak.txt": f"{prose(draw, 40)}\n\n{question} Berlin\n\n{prose(draw, 40)}",
        "only-leak.txt": f"{question} Berlin",
        "card.txt": f"{prose(draw, 40)} card 4111 1111 1111 1111 {prose(draw, 5)}",
        **{f"page-{n}.txt": f"{prose(draw, 40)}\n\n{paragraph}" for n in range(5)},
        "footer.txt": f"{paragraph}\n\n{paragraph}",
    }
    for name, text in files.items():
        (texts / name).write_text(text)
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": "Berlin, " + prose(draw, 20)}]
    boiler = [{"role": "user", "content": prose(draw, 20)}, {"role": "assistant", "content": paragraph}]
    mailed = [{"role": "user", "content": f"I am {MAIL}"}, {"role": "assistant", "content": f"Hello {MAIL}! 你好"}]
    with (texts / "chats.jsonl").open("w") as file:
        file.writelines(json.dumps({"messages": messages}) + "\n" for messages in (chat, boiler, mailed))
    return folder


def build(folder: Path, out: Path, action: str) -> None:
    recipe: dict[str, Any] = {
        "sources": [{"name": "all", "path": str(folder / "texts")}],
        "filters": {"preset": "none", "drop": {"short": "words < 5"}},
        "personal_data": {"policy": {"email": "replace", "card": "drop"}},
        "duplicates": {"near": 0.8, "paragraphs": {"min_words": 20, "max_documents": 3}, "keep": "first"},
        "decontaminate": {"sets": [{"name": "quiz", "path": str(folder / "items.json")}], "action": action},
        "split": {"validation": 0, "test": 0},
    }
    build_dataset(Recipe.model_validate(recipe), out)


@pytest.fixture(scope="module")
def dropped(folder: Path, tmp_path_factory: pytest.TempPathFactory, accounts: Callable[[Path], Any]) -> Any:
    out = tmp_path_factory.mktemp("dropped") / "out"
    build(folder, out, "drop")
    return accounts(out)


@pytest.fixture(scope="module")
def cut(folder: Path, tmp_path_factory: pytest.TempPathFactory, accounts: Callable[[Path], Any]) -> Any:
    out = tmp_path_factory.mktemp("cut") / "out"
    build(folder, out, "cut")
    return accounts(out)


def test_the_first_reason_counts(dropped: Any) -> None:
    reasons = {row["file"]: row["reason"] for row in dropped.rows if row["file"] != "chats.jsonl"}
    assert reasons.pop("footer.txt") in (None, "duplicate/paragraphs")
    expected: dict[str, str | None] = {f"page-{n}.txt": None for n in range(5)}
    expected |= {"kept.txt": None, "first-copy.txt": None, "second-copy.txt": "duplicate/exact"}
    expected |= {"short.txt": "filter/short", "card.txt": "personal-data/card"}
    expected |= {"leak.txt": "contaminated/quiz", "only-leak.txt": "contaminated/quiz"}
    assert reasons == expected


def test_a_cut_leaves_the_rest_of_a_text_and_nothing_of_one_that_was_only_that(cut: Any, folder: Path) -> None:
    before = (folder / "texts" / "leak.txt").read_text().split("\n\n")
    assert cut.of("leak.txt")["text"].split("\n\n")[0] == before[0]
    assert cut.of("leak.txt")["text"].split("\n\n")[-1] == before[2]
    assert "Which office" not in cut.of("leak.txt")["text"]
    assert cut.of("only-leak.txt")["reason"] == "contaminated/quiz"


def test_conversations_are_never_cut(cut: Any, dropped: Any) -> None:
    for built in (cut, dropped):
        leak, boiler, mailed = sorted((r for r in built.rows if r["file"] == "chats.jsonl"), key=lambda r: r["line"])
        assert leak["reason"] == "contaminated/quiz"
        assert boiler["reason"] is None and len(json.loads(boiler["messages"])[1]["content"].split()) == 30
        assert mailed["text"] == "I am email1@example.com\n\nHello email1@example.com! 你好"


def test_a_repeated_paragraph_is_left_once(cut: Any, folder: Path) -> None:
    paragraph = (folder / "texts" / "footer.txt").read_text().split("\n\n")[0]
    texts = [row["text"] for row in cut.rows if row["text"] and not row["messages"]]
    assert sum(text.count(paragraph) for text in texts) == 1
    # Nothing of the line ends around a paragraph is left at either end.
    assert all(text == text.strip("\n") for text in texts)
    assert cut.of("footer.txt")["reason"] in (None, "duplicate/paragraphs")


def test_offsets_of_edits_are_in_characters(dropped: Any, folder: Path) -> None:
    before = (folder / "texts" / "kept.txt").read_text()
    assert dropped.of("kept.txt")["text"] == before.replace(MAIL, "email1@example.com")


def test_what_is_personal_stands_in_no_number_and_no_example(cut: Any, dropped: Any) -> None:
    for built in (cut, dropped):
        assert built.manifest["contamination"]["hits"]
        assert MAIL not in json.dumps(built.manifest)
        assert "[EMAIL]" in built.manifest["contamination"]["hits"][0]["matched"]
        assert "[EMAIL]" in built.manifest["contamination"]["hits"][0]["item_text"]
