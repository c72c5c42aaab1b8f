"""Near-duplicate removal: MB/s of CPU time, recall, precision and memory, beside datasketch and datatrove.

    python benchmarks/dedup.py                              ours alone, 40 MB
    python benchmarks/dedup.py --peer PYTHON --turns 2      in turn with the peers, A B A B

The PEPs are cut into documents of many lengths and copied with seeded edits, so that Jaccard indices lie everywhere
between one half and one. Every program takes word 5-grams and 25 bands of 5 rows. Ours goes on to compute the true index
and to choose who is kept; the peers stop at their candidate pairs, and get a part of the text, as they take longer.
Recall and precision are of pairs with an index of 0.8 or more, over the first documents, against comparing all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

THRESHOLD, NGRAM, PERMUTATIONS, BANDS, ROWS = 0.8, 5, 128, 25, 5
BATCH_BYTES = 4 * 2**20
Pairs = set[tuple[int, int]]


def documents(megabytes: float, seed: int = 0) -> Iterator[str]:
    """Pieces of PEPs of 50 to 2,000 words; after each, none to five copies of it with some words replaced."""
    from corpus import PEPS

    texts = [path.read_text(encoding="utf-8") for path in sorted(PEPS.glob("*.rst"))]
    draw = random.Random(seed)
    vocabulary = sorted({word for text in texts[::10] for word in text.split() if word.isalpha()})
    left = megabytes * 1e6
    while left > 0:
        words = re.findall(r"\s*\S+", draw.choice(texts))
        size = int(50 * 40 ** draw.random())
        start = draw.randrange(max(1, len(words) - size))
        piece = words[start : start + size]
        for copy in range(1 + draw.choice([0, 0, 0, 1, 2, 5])):
            rate = draw.choice([0.0, 0.005, 0.01, 0.02, 0.04, 0.08]) if copy else 0.0
            text = "".join(f" {draw.choice(vocabulary)}" if draw.random() < rate else word for word in piece)
            yield text
            left -= len(text.encode())


def read(path: Path, megabytes: float) -> list[str]:
    """The first documents of the file, of that size."""
    texts, left = [], megabytes * 1e6
    with path.open(encoding="utf-8") as file:
        for line in file:
            if left <= 0:
                break
            texts.append(json.loads(line))
            left -= len(texts[-1].encode())
    return texts


def size_of(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def ngrams_of(text: str) -> set[str]:
    words = re.findall(r"[^\W_]+", text.lower())
    return {" ".join(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))} if words else set()


class Clock:
    """CPU and wall seconds since the last look, as megabytes a second."""

    def __init__(self, megabytes: float) -> None:
        self._megabytes = megabytes
        self.total = 0.0
        self._began = time.process_time(), time.perf_counter()

    def look(self) -> dict[str, float]:
        now = time.process_time(), time.perf_counter()
        cpu, wall = now[0] - self._began[0], now[1] - self._began[1]
        self.total += cpu
        self._began = now
        return {"cpu": round(self._megabytes / cpu, 2), "wall": round(self._megabytes / wall, 2)}

    def overall(self) -> float:
        return round(self._megabytes / self.total, 2)


def ours(path: Path, megabytes: float, judged: int) -> dict[str, Any]:
    """Fingerprints to disk, pairs, clusters and choice."""
    import numpy as np
    import pyarrow as pa

    from ownlm.data.duplicates import DuplicateOptions, choose, find_clusters, find_pairs, fingerprint, schema

    texts = read(path, megabytes)
    options = DuplicateOptions(near=THRESHOLD, ngram=NGRAM, permutations=PERMUTATIONS)
    columns = list(_columns(texts))
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(size_of(texts))
        shards = [Path(folder) / f"{number:05}.arrow" for number in range(len(columns))]
        for column, shard in zip(columns, shards, strict=True):
            with pa.OSFile(str(shard), "wb") as sink, pa.ipc.new_file(sink, schema(options)) as writer:
                writer.write_batch(fingerprint(column, options))
        rates = {"fingerprint": clock.look()}
        found = find_pairs(shards, options)
        rates["find_pairs"] = clock.look()
        ranks = np.arange(len(texts))
        find_clusters(found, ranks)
        choice = choose(found, ranks)
        rates["clusters_and_choice"] = clock.look()
        disk = sum(shard.stat().st_size for shard in shards)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    groups: dict[int, list[int]] = {}
    for document, first in enumerate(found.same.tolist()):
        groups.setdefault(first, []).append(document)
    spread = {(min(x, y), max(x, y)) for a, b in pairs for x in groups[a] for y in groups[b]}
    spread |= {(x, y) for group in groups.values() for x in group for y in group if x < y}
    return {
        "megabytes": round(size_of(texts), 1),
        "documents": len(texts),
        "kept": int(choice.kept.sum()),
        "megabytes_per_second": rates,
        "megabytes_per_cpu_second": clock.overall(),
        "peak_bytes": peak,
        "disk_bytes": {
            "per_document": round(disk / len(texts)),
            "per_text_byte": round(disk / (size_of(texts) * 1e6), 2),
        },
        "pairs": [pair for pair in sorted(spread) if pair[1] < judged],
    }


def index_memory(counts: tuple[int, int]) -> dict[str, Any]:
    """What ``find_pairs`` holds at its peak, for two numbers of short documents: a fixed part, and bytes a document."""
    import pyarrow as pa

    from ownlm.data.duplicates import DuplicateOptions, find_pairs, fingerprint, schema

    options = DuplicateOptions(near=THRESHOLD, ngram=NGRAM, permutations=PERMUTATIONS)
    draw = random.Random(0)
    peaks, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        shards: list[Path] = []
        for count in counts:
            while len(shards) * 10_000 < count:
                # One in four copies the one before, with a word put to its end.
                texts: list[str] = []
                while len(texts) < 10_000:
                    copied = texts and draw.random() < 0.25
                    texts.append(
                        f"{texts[-1]} and" if copied else " ".join(f"w{draw.randrange(10**5)}" for _ in range(30))
                    )
                shards.append(Path(folder) / f"{len(shards):05}.arrow")
                with pa.OSFile(str(shards[-1]), "wb") as sink, pa.ipc.new_file(sink, schema(options)) as writer:
                    writer.write_batch(fingerprint(pa.array(texts, pa.large_string()), options))
            began = time.process_time()
            find_pairs(shards, options)
            seconds.append(time.process_time() - began)
            tracemalloc.start()
            find_pairs(shards, options)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    return {
        "documents": counts,
        "peak_bytes": peaks,
        "bytes_per_document": round((peaks[1] - peaks[0]) / (counts[1] - counts[0])),
        "cpu_seconds": [round(second, 1) for second in seconds],
    }


def _columns(texts: list[str]) -> Iterator[Any]:
    """The texts in batches of some megabytes, as the pipeline has them."""
    import pyarrow as pa

    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield pa.array(batch, pa.large_string())
            batch, size = [], 0
    if batch:
        yield pa.array(batch, pa.large_string())


def datasketch(path: Path, megabytes: float, judged: int) -> dict[str, Any]:
    """MinHashLSH: every document is asked for, then put in."""
    from datasketch import MinHash, MinHashLSH

    texts = read(path, megabytes)
    clock = Clock(size_of(texts))
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    pairs = []
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([ngram.encode() for ngram in ngrams_of(text)])
        pairs += [(other, number) for other in index.query(sketch)]
        index.insert(number, sketch)
    return _peer_result(texts, clock, [pair for pair in pairs if pair[1] < judged])


def datatrove(path: Path, megabytes: float, judged: int) -> dict[str, Any]:
    """The signature and bucket blocks, with words split at white space, as its own tokenizer takes longer still."""
    import struct

    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash

    minhash.load_word_tokenizer = lambda language: _AtWhiteSpace()
    texts = read(path, megabytes)
    config = minhash.MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(size_of(texts))
        signatures, buckets = f"{folder}/signatures", f"{folder}/buckets"
        rows = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
        block = minhash.MinhashDedupSignature(output_folder=signatures, config=config)
        # Later versions of xxhash than it was written for take bytes only.
        hashed = block._hash_func
        block._hash_func = lambda text: hashed(text.encode())
        block.run(rows, 0, 1)
        for bucket in range(BANDS):
            minhash.MinhashDedupBuckets(signatures, buckets, config=config).run(None, bucket, BANDS)
        found = set()
        for file in Path(buckets).glob("*.dups"):
            found |= {(min(a, b), max(a, b)) for _, a, _, b in struct.iter_unpack("<4I", file.read_bytes())}
    result = _peer_result(texts, clock, [])
    # Of a bucket it writes down neighbours only, and joins them into clusters: a pair counts that stands in one.
    cluster = list(range(len(texts)))
    for a, b in sorted(found):
        low, high = sorted((cluster[a], cluster[b]))
        cluster = [low if one == high else one for one in cluster]
    result["pairs"] = [(a, b) for b in range(min(judged, len(texts))) for a in range(b) if cluster[a] == cluster[b]]
    return result


class _AtWhiteSpace:
    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


def _peer_result(texts: list[str], clock: Clock, pairs: list[tuple[int, int]]) -> dict[str, Any]:
    rates = clock.look()
    return {
        "megabytes": round(size_of(texts), 1),
        "documents": len(texts),
        "megabytes_per_second": rates,
        "megabytes_per_cpu_second": clock.overall(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "pairs": pairs,
    }


def brute_force(texts: list[str]) -> tuple[Pairs, Pairs]:
    """All pairs at or above the threshold, and those of them that lie within 0.05 of it."""
    sets = [ngrams_of(text) for text in texts]
    truth, close = set(), set()
    for j, b in enumerate(sets):
        for i in range(j):
            a = sets[i]
            if min(len(a), len(b)) < THRESHOLD * max(len(a), len(b)) or not a:
                continue
            shared = len(a & b)
            index = shared / (len(a) + len(b) - shared)
            if index >= THRESHOLD:
                truth.add((i, j))
                if index < THRESHOLD + 0.05:
                    close.add((i, j))
    return truth, close


def judge(result: dict[str, Any], truth: Pairs, close: Pairs) -> None:
    """Puts recall and precision in the place of the pairs."""
    found = {tuple(pair) for pair in result.pop("pairs")}
    result["recall"] = round(len(found & truth) / len(truth), 5)
    result["recall_near_threshold"] = round(len(found & close) / max(1, len(close)), 5)
    result["precision"] = round(len(found & truth) / max(1, len(found)), 5)


RUNNERS = {"ours": ours, "datasketch": datasketch, "datatrove": datatrove}


def in_turn(python: str, name: str, path: Path, megabytes: float, judged: int) -> dict[str, Any]:
    """One program in a process of its own, on one core."""
    command = [
        python,
        __file__,
        "--run",
        name,
        "--file",
        str(path),
        "--megabytes",
        str(megabytes),
        "--judged",
        str(judged),
    ]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), "1")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **limits})
    return json.loads(done.stdout.strip().split("\n")[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=40.0)
    parser.add_argument("--peer-megabytes", type=float, default=8.0)
    parser.add_argument("--judged", type=int, default=1500, help="documents to compare by brute force")
    parser.add_argument(
        "--documents", type=int, default=400_000, help="short documents to measure the index's memory with"
    )
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--peer", help="the Python of an environment with datasketch and datatrove")
    parser.add_argument("--run", choices=RUNNERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(RUNNERS[arguments.run](arguments.file, arguments.megabytes, arguments.judged)))
        return
    from measure import machine_line, ratios

    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNNERS if name == "ours" or arguments.peer}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for text in documents(arguments.megabytes):
                file.write(json.dumps(text, ensure_ascii=False) + "\n")
        for _ in range(arguments.turns):
            for name in runs:
                python, size = (
                    (arguments.peer, arguments.peer_megabytes)
                    if name != "ours"
                    else (sys.executable, arguments.megabytes)
                )
                runs[name].append(in_turn(python, name, path, size, arguments.judged))
        truth, close = brute_force(read(path, arguments.megabytes)[: arguments.judged])
    for results in runs.values():
        for one in results:
            judge(one, truth, close)
    result: dict[str, Any] = {"benchmark": "dedup", "machine": machine_line(), "pairs": len(truth), **runs}
    result["index_memory"] = index_memory((arguments.documents // 2, arguments.documents))
    speeds = {name: [one["megabytes_per_cpu_second"] for one in results] for name, results in runs.items()}
    result["speed_ratio"] = {name: ratios(speeds["ours"], speeds[name]) for name in runs if name != "ours"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
