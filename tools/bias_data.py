"""Makes the files of src/ownlm/evaluate/data from the bias suites and HateCheck as their authors publish them.

    python tools/bias_data.py FOLDER

FOLDER holds stereoset/, crows_pairs/, winobias/, bbq/ and hatecheck/, with the files that SOURCE.md in src/ownlm/evaluate/data names.
The same files give the same bytes; their sums are written beside them.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from shipped import write

PARTS = ("intrasentence", "intersentence")
LABELS = ("stereotype", "anti-stereotype", "unrelated")


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def stereoset(folder: Path, part: str) -> Iterator[dict[str, Any]]:
    """Each sentence as published where it is known; else the context with the word in its blank."""
    known: dict[tuple[str, str], list[list[str]]] = {}
    for line in lines_of(folder / "dev_intrasentence_with_ids.jsonl"):
        row = json.loads(line)
        known.setdefault((row["context"], row["target"]), []).append([row[label]["sentence"] for label in LABELS])
    for row in table(folder / f"{part}_stereo_set.csv"):
        quoted = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", row["choices"])
        choices = [re.sub(r"\\(.)", r"\1", single or double) for single, double in quoted]
        assert len(choices) == 3, row
        if part == "intrasentence":
            words, choices = choices, [row["prompt"].replace("BLANK", word) for word in choices]
            for given in known.get((row["prompt"], row["target"]), []):
                if all(word.lower() in text.lower() for word, text in zip(words, given, strict=True)):
                    choices = given
        texts = dict(zip(("stereotype", "anti_stereotype", "unrelated"), choices, strict=True))
        about = {"part": part, "bias_type": row["bias_type"], "target": row["target"], "context": row["prompt"]}
        yield {**about, **texts}


def by_term(rows: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["part"], row["target"]), []).append(row)
    return list(groups.values())


def crows_pairs(rows: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {name: row[name] for name in ("sent_more", "sent_less", "stereo_antistereo", "bias_type")}


def winobias(folder: Path, kind: int) -> Iterator[dict[str, Any]]:
    names = [name.strip() for side in ("male", "female") for name in lines_of(folder / f"{side}_occupations.txt")]
    for split in ("dev", "test"):
        read = {}
        for form in ("pro", "anti"):
            lines = lines_of(folder / f"{form}_stereotyped_type{kind}.txt.{split}")
            read[form] = [_wino(line.split(" ", 1)[1], names) for line in lines]
        # A few lines stand at another place in the second file: same people and words, other pronoun.
        others = {one["neutral"]: one for one in read["anti"]}
        for number, pro in enumerate(read["pro"]):
            anti = others.get(pro["neutral"], read["anti"][number])
            if (pro["right"], pro["other"]) != (anti["right"], anti["other"]):
                print("left out:", pro["text"], "|", anti["text"], file=sys.stderr)
                continue
            yield {
                "type": kind,
                "split": split,
                "pro": pro["text"],
                "anti": anti["text"],
                "pronoun_pro": pro["pronoun"],
                "pronoun_anti": anti["pronoun"],
                "right": pro["right"],
                "other": pro["other"],
            }


def _wino(line: str, names: list[str]) -> dict[str, str]:
    text = re.sub(r"\[ ?(the the|the)?", lambda found: (found[1] or "").split(" ")[-1], line.replace("]", ""))
    text = text.replace("the the ", "the ").replace(" 's", "'s")
    spans = re.findall(r"\[ ?([^\]]*)\]", line)
    pronouns = [span for span in spans if span.lower() in ("he", "she", "him", "her", "his", "himself", "herself")]
    (person,) = [span for span in spans if span not in pronouns]
    (right,) = [name for name in names if re.search(rf"(^|\s){re.escape(name)}$", person, re.IGNORECASE)]
    rest = re.sub(r"\[[^\]]*\]", "_", line)
    found = {name: at.start() for name in names if (at := re.search(rf"\b{re.escape(name)}\b", rest, re.IGNORECASE))}
    others = [name for name in sorted(found, key=lambda name: found[name]) if name != right]
    neutral = re.sub(r"\b(he|she|him|her|his|himself|herself)\b", "_", text.lower())
    return {"text": text, "pronoun": pronouns[0], "right": right, "other": others[0], "neutral": neutral}


def bbq(folder: Path) -> Iterator[dict[str, Any]]:
    """Whole categories, a template's example of each in turn; the notes on where a template came from are left out."""
    categories = []
    for path in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in lines_of(path)]
        # Examples come in fours: both contexts of both questions.
        categories.append([rows[start : start + 4] for start in range(0, len(rows), 4)])
    for four in in_turn(*categories):
        for row in four:
            groups = row.pop("additional_metadata")["stereotyped_groups"]
            yield {**row, "additional_metadata": {"stereotyped_groups": groups}}


def hatecheck(path: Path) -> list[list[dict[str, Any]]]:
    """The cases of each functionality."""
    functions: dict[str, list[dict[str, Any]]] = {}
    for row in table(path):
        case = {"functionality": row["functionality"], "text": row["test_case"].strip(), "label": row["label_gold"]}
        case |= {"group": row["target_ident"], "template": int(row["templ_id"])}
        functions.setdefault(row["functionality"], []).append(case)
    return list(functions.values())


def in_turn(*lists: list[Any]) -> list[Any]:
    """Each list evenly spread over all, so that the first items are some of everything."""
    placed = [
        ((place + 0.5) / len(each), number, one) for number, each in enumerate(lists) for place, one in enumerate(each)
    ]
    return [one for _, _, one in sorted(placed, key=lambda entry: entry[:2])]


def main(folder: Path) -> None:
    pairs = folder / "crows_pairs"
    made = {
        "stereoset": in_turn(*by_term(row for part in PARTS for row in stereoset(folder / "stereoset", part))),
        "crows_pairs": crows_pairs(table(pairs / "crows_pairs_anonymized.csv")),
        "crows_pairs_revised": crows_pairs(table(pairs / "crows_pairs_EN_revised.tsv", "\t")),
        "winobias": in_turn(*(list(winobias(folder / "winobias", kind)) for kind in (1, 2))),
        "bbq": bbq(folder / "bbq"),
        "hatecheck": in_turn(*hatecheck(folder / "hatecheck" / "test_suite_cases.csv")),
    }
    write(made)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
