"""A file of text to token shards: MB/s and peak memory, beside Hugging Face datasets with tokenizers.

python benchmarks/tokens.py                              ours alone
python benchmarks/tokens.py --peer PYTHON --turns 3      in turn with the peer, A B A B

The text is the PEPs, repeated with seeded edits, as one JSON Lines file; the tokenizer is GPT-2's, from one
tokenizer.json. Every turn is a fresh process with an empty cache, from reading the file to shards on the disk, imports
included. Ours remembers from an earlier run that gigatoken may be trusted with this tokenizer; "ours_first" is the run
that finds it out. In a run, gigatoken is cold at first, and then knows the words it has met; tokenizers has no such
memory. The peer is load_dataset, map in two processes in batches of the usual size, and save_to_disk. All ids are
compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

# One word of so many is exchanged for another of its text in each repetition.
EDITED = 50


def write_corpus(data: Path, file: Path, megabytes: float) -> int:
    """Writes the text and says how many bytes of it there are."""
    draw = random.Random(0)
    texts = [path.read_text(encoding="utf-8") for path in sorted((data / "peps").glob("*.rst"))]
    size = 0
    with file.open("w", encoding="utf-8") as out:
        while size < megabytes * 1e6:
            for text in texts:
                words = text.split(" ")
                for _ in range(len(words) // EDITED):
                    words[draw.randrange(len(words))] = draw.choice(words)
                text = " ".join(words)
                size += len(text.encode())
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return size


def write_tokenizer(data: Path, folder: Path) -> None:
    """GPT-2's tokenizer as one tokenizer.json."""
    from ownlm.tokens.tokenizer import load_tokenizer

    raw = folder / "raw"
    raw.mkdir(parents=True)
    shutil.copyfile(data / "tokenizers" / "gpt2_encoder.json", raw / "vocab.json")
    shutil.copyfile(data / "tokenizers" / "gpt2_vocab.bpe", raw / "merges.txt")
    load_tokenizer(raw).save(folder)


def ours(file: Path, tokenizer: Path, out: Path) -> None:
    """What a training run does with a plain file."""
    from ownlm.tokens.prepare import tokenize_files
    from ownlm.tokens.tokenizer import load_tokenizer

    tokenize_files([file], load_tokenizer(tokenizer), kind="text", length=1024, cache_folder=out)


def theirs(file: Path, tokenizer: Path, out: Path) -> None:
    """The same by datasets; runs in the peer's Python."""
    import datasets
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    end = backend.token_to_id("<|endoftext|>")

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        encodings = backend.encode_batch_fast(batch["text"], add_special_tokens=False)
        return {"input_ids": [[*encoding.ids, end] for encoding in encodings]}

    data = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(out / "cache"))
    data.map(encode, batched=True, num_proc=2, remove_columns=["text"]).save_to_disk(str(out / "data"))


def digest_of_ours(out: Path) -> list[Any]:
    """Documents, tokens, and a hash of all ids and of where documents begin."""
    import numpy as np

    from ownlm.tokens.shards import OFFSETS, TOKENS, TokenDataset

    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    dataset = TokenDataset(folder)
    ids = np.fromfile(folder / TOKENS, dataset.dtype).astype("<u4")
    hashed = hashlib.sha256(ids.tobytes() + np.fromfile(folder / OFFSETS, "<i8").tobytes())
    return [len(dataset), dataset.total_tokens, hashed.hexdigest()]


def digest_of_theirs(out: Path) -> list[Any]:
    """The same, in the peer's Python."""
    import datasets
    import numpy as np

    hashed = hashlib.sha256()
    lengths = []
    chunks = datasets.load_from_disk(str(out / "data")).data.column("input_ids").chunks
    for chunk in chunks:
        hashed.update(chunk.flatten().to_numpy().astype("<u4").tobytes())
        lengths.append(np.diff(chunk.offsets.to_numpy()))
    offsets = np.cumsum(np.concatenate([[0], *lengths]), dtype="<i8")
    hashed.update(offsets.tobytes())
    return [len(offsets) - 1, int(offsets[-1]), hashed.hexdigest()]


WORK = {"ours": ours, "theirs": theirs, "digest_of_ours": digest_of_ours, "digest_of_theirs": digest_of_theirs}


def anonymous_bytes(root: int) -> int:
    """The memory of a process and all its descendants that is no file's, shared pages counted once."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(status.parent.name), status.read_text().rpartition(")")[2].split()
            parents[pid] = int(rest[1])
        except (OSError, IndexError, ValueError):
            continue
    tree, found = {root}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= found
    total = 0
    for pid in tree:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))
    return total


def timed(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Wall time, CPU time and peak memory of a command and all it starts."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        peak = 0
        errors: list[bytes] = []
        assert process.stderr is not None
        reading = threading.Thread(target=lambda: errors.append(process.stderr.read()))  # type: ignore[union-attr]
        reading.start()
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.05)
        reading.join()
    if process.returncode:
        raise SystemExit(b"".join(errors).decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(time.perf_counter() - began, 2), "cpu_s": round(cpu, 2), "peak_bytes": peak}


def run_in_turn(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every turn's figures."""
    file, tokenizer = folder / "text.jsonl", folder / "tokenizer"
    size = write_corpus(Path(arguments.data), file, arguments.megabytes)
    write_tokenizer(Path(arguments.data), tokenizer)
    quiet = {"OWNLM_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    quiet |= {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

    def run(python: str, work: str) -> dict[str, Any]:
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        # Ours encodes on all cores of one process, and the peer in two processes of one core each.
        environment = {**os.environ, **quiet, "TOKENIZERS_PARALLELISM": "true" if work == "ours" else "false"}
        command = [python, __file__, "--do", work, str(file), str(tokenizer), str(out)]
        figures = timed(command, environment)
        command = [python, __file__, "--do", f"digest_of_{work}", str(out)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        documents, tokens, digest = json.loads(done.stdout.strip().split("\n")[-1])
        return figures | {"documents": documents, "tokens": tokens, "digest": digest}

    first = run(sys.executable, "ours")
    mine, peers = [], []
    for _ in range(arguments.turns):
        mine.append(run(sys.executable, "ours"))
        if arguments.peer:
            peers.append(run(arguments.peer, "theirs"))
    verdicts = [json.loads(path.read_text()) for path in (folder / "home" / "cache" / "encoders").glob("*.json")]
    used = bool(verdicts) and all(verdict["equal"] for verdict in verdicts)
    return {"size": size, "ours_first": first, "ours": mine, "peer": peers, "gigatoken": used}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with datasets and tokenizers")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--data", default=str(DATA))
    parser.add_argument("--do", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.do:
        work, *places = arguments.do
        print(json.dumps(WORK[work](*map(Path, places))))
        return
    from measure import machine_line, ratios

    with tempfile.TemporaryDirectory() as temporary:
        found = run_in_turn(arguments, Path(temporary))
    size, every = found.pop("size") / 1e6, [found["ours_first"], *found["ours"], *found["peer"]]
    equal = len({turn.pop("digest") for turn in every}) == 1
    result: dict[str, Any] = {"benchmark": "tokens", "machine": machine_line(), "megabytes": round(size, 1), **found}
    for name in ("ours", "peer"):
        if found[name]:
            for clock in ("cpu", "wall"):
                speeds = [size / turn[f"{clock}_s"] for turn in found[name]]
                result[f"{name}_mb_per_{clock}_second"] = round(statistics.median(speeds), 2)
    if found["peer"]:
        for name, key in (("cpu", "cpu_s"), ("wall", "wall_s")):
            result[f"speed_ratio_{name}"] = ratios(*([turn[key] for turn in found[who]] for who in ("peer", "ours")))
        result["memory_ratio"] = ratios(*([turn["peak_bytes"] for turn in found[who]] for who in ("ours", "peer")))
        result["equal_ids"] = equal
    print(json.dumps(result))


if __name__ == "__main__":
    main()
