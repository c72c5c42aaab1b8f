"""What scorers learn from: public tables read, cleaned, and divided by text."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import DataError
from ownlm.evaluate.scorer_data import Parts, clean_tweet, read_parts


def write_toxicity(folder: Path, tweets: list[tuple[str, str]], comments: list[tuple[str, str]]) -> None:
    with (folder / "labeled_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["", "count", "class", "tweet"], *([n, 3, k, t] for n, (t, k) in enumerate(tweets))]
        )
    with (folder / "surge_toxicity_en.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "is_toxic"], *comments])


def parts_apart(parts: Parts) -> bool:
    keys = [{one.key for one in part} for part in (parts.train, parts.validation, parts.test)]
    return not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])


def test_tweets_become_texts() -> None:
    assert (
        clean_tweet("!!! RT @mayasolovely: As a woman &amp; as a man http://t.co/abc you")
        == "As a woman & as a man you"
    )
    assert clean_tweet("RT @a: &#8220;hi&#8221; @b") == "hi”"
    assert clean_tweet("start here") == "start here"


@given(st.text(max_size=60))
@settings(max_examples=30, deadline=None)
def test_cleaning_leaves_no_link_and_no_name(text: str) -> None:
    cleaned = clean_tweet(f"RT @who: {text} https://t.co/x")
    assert "https://" not in cleaned and "@who" not in cleaned and cleaned == " ".join(cleaned.split())


def test_what_is_hateful_or_offensive_is_toxic(tmp_path: Path) -> None:
    tweets = [(f"tweet number {n} of {'abc'[n % 3]}", str(n % 3)) for n in range(300)]
    # A retweet of a text, in other case and with other marks, is the same text; of two classes it is none.
    tweets += [("!!! RT @x: TWEET number 2 of c!", "2"), ("@y tweet number 4 of b", "2")]
    write_toxicity(tmp_path, tweets, [(f"comment {n}", "Toxic" if n % 2 else "Not Toxic") for n in range(100)])
    parts = read_parts("toxicity", tmp_path)
    found = {one.text: one.label for part in (parts.train, parts.validation, parts.test) for one in part}
    assert len(found) == 300 - 1 + 100 and "tweet number 4 of b" not in found
    assert parts_apart(parts)
    for text, label in found.items():
        number = int(text.split()[2 if text.startswith("tweet") else 1])
        toxic = number % 3 != 2 if text.startswith("tweet") else number % 2 == 1
        assert label == ("toxic" if toxic else "harmless")
    assert [one.file for one in parts.sources] == ["labeled_data.csv", "surge_toxicity_en.csv"]
    assert all(one.licence == "MIT" and len(one.sha256) == 64 for one in parts.sources)
    assert len(read_parts("toxicity", tmp_path, 10).train) == 10
    assert read_parts("toxicity", tmp_path, 10).test == parts.test


def test_reviews_are_tested_on_their_own_file(tmp_path: Path) -> None:
    for name, rows in (("train", range(200)), ("dev", range(190, 220)), ("test", range(195, 230))):
        lines = [f"film {n} was seen \t{n % 2}" for n in rows]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    parts = read_parts("sentiment", tmp_path)
    assert parts_apart(parts)
    assert [one.text for one in parts.test] == [f"film {n} was seen" for n in range(195, 230)]
    assert {one.label for one in parts.train} == {"positive", "negative"}
    # As GLUE hands it out, the test file has no labels: the development file then is what is tested on.
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tfilm\n")
    parts = read_parts("sentiment", tmp_path)
    assert parts_apart(parts) and len(parts.test) == 30 and parts.validation
    (tmp_path / "dev.tsv").unlink()
    parts = read_parts("sentiment", tmp_path)
    assert parts_apart(parts) and len(parts.test) > 10


@pytest.mark.parametrize(
    ("rows", "message", "line"),
    [
        ([["class", "tweet"], ["3", "a"]], "must be one of 0, 1, 2, not '3'", 2),
        ([["class", "text"], ["1", "a"]], "no column 'tweet'", 2),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, rows: list[list[str]], message: str, line: int) -> None:
    with (tmp_path / "labeled_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataError, match=message) as error:
        read_parts("toxicity", tmp_path)
    assert error.value.where == f"{tmp_path / 'labeled_data.csv'}:{line}"


@pytest.mark.parametrize("name", ["toxicity", "sentiment"])
def test_data_that_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="not in this folder"):
        read_parts(name, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_parts(name, tmp_path / "none")


def test_the_public_files_are_read(shared_data: Path) -> None:
    parts = read_parts("toxicity", shared_data / "toxicity")
    assert parts_apart(parts) and len(parts.train) > 7000 and len(parts.test) > 1000
    share = sum(one.label == "toxic" for one in parts.test) / len(parts.test)
    assert 0.4 < share < 0.6
