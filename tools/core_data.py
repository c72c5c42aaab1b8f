"""Makes the files of src/ownlm/evaluate/data for the core suite from the public benchmarks' files.

    python tools/core_data.py FOLDER                what comes along: whole sets, and a sample of HellaSwag
    python tools/core_data.py FOLDER --full OUT     all of them whole, as plain JSON Lines, for --data OUT

FOLDER holds llm_eval/, hellaswag/ and wikitext2/, with the files that SOURCE.md in src/ownlm/evaluate/data names. The same
files give the same bytes.
"""

from __future__ import annotations

import argparse
import bz2
import json
import random
import re
from pathlib import Path
from typing import Any

from shipped import json_lines, write

AS_PUBLISHED = ("arc_easy", "boolq", "copa", "lambada_openai", "winogrande")
# All of HellaSwag would be more than half of everything that comes along.
HELLASWAG, SEED = 5000, 0


def as_published(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / "llm_eval" / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


def hellaswag(folder: Path) -> list[dict[str, Any]]:
    """Six lines an item: what happens so far, the right ending's number, four endings."""
    packed = (folder / "hellaswag" / "hellaswag_val_full.txt.bz2").read_bytes()
    lines = bz2.decompress(packed).decode().split("\n")
    found = []
    for start in range(0, len(lines) - 5, 6):
        query, gold, *choices = lines[start : start + 6]
        found.append({"query": begun(query), "choices": choices, "gold": int(gold)})
    return found


def begun(query: str) -> str:
    """A description that breaks off in a sentence, that sentence with a capital, as the lm-evaluation-harness writes it.

    The published items hold that sentence apart and in small letters; the text file has joined both as they are.
    """
    if query[-1] in ".!?":
        return query
    end = max(query.rfind(mark) for mark in (". ", "! ", "? ")) + 2
    return query[:end] + query[end:].capitalize()


def wikitext(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "wikitext2" / "wiki.test.tokens").read_text(encoding="utf-8")
    pages = re.split(r"(?m)^(?= = [^=].*[^=] = $)", text)
    return [{"text": page.strip()} for page in pages if page.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", type=Path, metavar="OUT")
    arguments = parser.parse_args()
    made = {name: as_published(arguments.folder, name) for name in AS_PUBLISHED}
    made |= {"hellaswag": hellaswag(arguments.folder), "wikitext": wikitext(arguments.folder)}
    if arguments.full:
        arguments.full.mkdir(parents=True, exist_ok=True)
        for name, rows in made.items():
            (arguments.full / f"{name}.jsonl").write_bytes(json_lines(rows))
        return
    # In the order drawn, so that the first ones are some of everything.
    made["hellaswag"] = random.Random(SEED).sample(made["hellaswag"], HELLASWAG)
    write(made)


if __name__ == "__main__":
    main()
