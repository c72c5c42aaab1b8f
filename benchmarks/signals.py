"""Signals: MB/s a core of all and of each group, and of a quality model's scores; datatrove's filters beside them.

    python benchmarks/signals.py                                    ours alone
    python benchmarks/signals.py --peer PYTHON --turns 3            in turn with the peer, A B A B

The text is the PEPs, plain English prose with code and tables. The peer is datatrove with spaCy's English words, its own
default: the filters of Gopher (repetition and quality), FineWeb and C4, which stop at a document's first fault, where ours
measure every signal of every document. Languages are left out of the comparison. Times are CPU times of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WITHOUT_LANGUAGE = "all but the language"


def ours(texts: list[str], repeats: int) -> dict[str, float]:
    """MB/s of everything, and of each group by itself, the best of several."""
    import pyarrow as pa

    from ownlm.data.quality import train_quality
    from ownlm.data.signals import SignalOptions, measure

    column = pa.array(texts, pa.large_string())
    halves = [text[: len(text) // 2] for text in texts[:100]], [text[::-1] for text in texts[100:200]]
    model = train_quality(*halves)
    measure(column)  # the language model is loaded once a process
    without = SignalOptions(language=False)
    whole: dict[str, Callable[[], Any]] = {
        "all": lambda: measure(column),
        WITHOUT_LANGUAGE: lambda: measure(column, without),
        "quality score": lambda: model.score(column),
    }
    seconds: dict[str, float] = defaultdict(lambda: float("inf"))
    for _ in range(repeats):
        for name, run in whole.items():
            began = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - began)
        for name, spent in groups(column):
            seconds[name] = min(seconds[name], spent)
    size = sum(len(text.encode()) for text in texts)
    return {name: round(size / 1e6 / spent, 1) for name, spent in seconds.items()}


def groups(column: Any) -> Iterator[tuple[str, float]]:
    """The CPU time of each step on its own; what several share is counted where it is first used."""
    from ownlm.data.signals import SignalOptions, c4, code, language, lines, measurement, phrases, repetition, shape
    from ownlm.data.signals.block import read_block

    spent: dict[str, float] = defaultdict(float)

    def clock(name: str, run: Callable[..., Any], *arguments: Any) -> Any:
        began = time.process_time()
        result = run(*arguments)
        spent[name] += time.process_time() - began
        return result

    lists = measurement._lists(SignalOptions())
    snippets = []
    for part in measurement.split_blocks(column):
        block = clock("words", read_block, part)
        clock("sizes, lines and paragraphs", shape.sizes, block)
        words = clock("words grouped", repetition.group_words, block)
        clock("repeated n-grams", repetition.repeated_ngrams, block, *words)
        clock("repeated lines", repetition.repeated_runs, block)
        clock("vocabulary", repetition.vocabulary, block, *words)
        clock("shares of words", shape.word_shares, block)
        clock("shares of characters", shape.character_shares, block)
        clock("shares of lines", lines.line_shares, block)
        found = clock("listed words and phrases", phrases.find_phrases, block, lists)
        clock("C4's marks", c4.page_marks, block, found)
        clock("code", code.code_share, block)
        snippets.append(clock("language", language.cut_snippets, block))
    clock("language", language.identify, language.join_snippets(snippets))
    yield from spent.items()


def peer(texts: list[str]) -> dict[str, float]:
    """datatrove's filters, each on fresh documents, as one pass would run them."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = {
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "fineweb": FineWebQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
    }
    for each in filters.values():
        each.filter(Document(text="A first text loads what is loaded once. It is short.", id="0"))
    seconds: dict[str, float] = defaultdict(float)
    for number, text in enumerate(texts):
        for name, each in filters.items():
            began = time.process_time()
            each.filter(Document(text=text, id=str(number)))
            seconds[name] += time.process_time() - began
    size = sum(len(text.encode()) for text in texts)
    rates = {name: round(size / 1e6 / spent, 3) for name, spent in seconds.items()}
    return rates | {"all": round(size / 1e6 / sum(seconds.values()), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--peer-megabytes", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--peer", help="the Python of an environment with datatrove and spacy")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        texts = json.loads(Path(arguments.once[1]).read_text(encoding="utf-8"))
        print(json.dumps(peer(texts) if arguments.once[0] == "peer" else ours(texts, arguments.repeats)))
        return

    from corpus import documents
    from measure import machine_line, ratios

    runs: dict[str, list[dict[str, float]]] = {"ours": []} | ({"peer": []} if arguments.peer else {})
    with tempfile.TemporaryDirectory() as temporary:
        for name in runs:
            size = arguments.peer_megabytes if name == "peer" else arguments.megabytes
            (Path(temporary) / name).write_text(json.dumps(list(documents(size))), encoding="utf-8")
        for _ in range(arguments.turns):
            for name, results in runs.items():
                python = arguments.peer if name == "peer" else sys.executable
                command = [python, __file__, "--once", name, str(Path(temporary) / name)]
                command += ["--repeats", str(arguments.repeats)]
                one_core = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=one_core)
                results.append(json.loads(done.stdout.strip().split("\n")[-1]))
    result: dict[str, Any] = {"benchmark": "signals", "machine": machine_line(), "megabytes_per_cpu_second": runs}
    if arguments.peer:
        pairs = ([run[WITHOUT_LANGUAGE] for run in runs["ours"]], [run["all"] for run in runs["peer"]])
        result["speed_ratio"] = ratios(*pairs)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
