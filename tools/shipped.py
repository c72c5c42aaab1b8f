"""How data that comes along with ownlm is written: compressed, the same bytes each time, its sums beside it.

python tools/shipped.py                 the sums of files that are written by hand, and come as they are
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "src" / "ownlm" / "evaluate" / "data"


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(made: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Writes NAME.jsonl.gz of each name and its rows, and puts the sums of what is in them into SHA256SUMS."""
    sums = dict(reversed(line.split()) for line in (OUT / "SHA256SUMS").read_text().splitlines())
    for name, rows in made.items():
        content = json_lines(rows)
        path = OUT / f"{name}.jsonl.gz"
        # No time and no name in it, so that the bytes say only what is in it.
        path.write_bytes(gzip.compress(content, 9, mtime=0))
        sums[f"{name}.jsonl"] = hashlib.sha256(content).hexdigest()
        print(f"{path.name}: {len(content.splitlines())} rows, {path.stat().st_size} bytes")
    for path in sorted(OUT.glob("*.jsonl")):
        sums[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (OUT / "SHA256SUMS").write_text("".join(f"{total}  {name}\n" for name, total in sums.items()))


if __name__ == "__main__":
    write({})
