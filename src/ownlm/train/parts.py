"""Checkpoints whose tensors are spread over workers: each writes its own rows, and any number of workers reads them.

    part-K-of-N.safetensors     the rows that worker K held of every tensor
    parts.json                  tensor -> the rows in each part

Only safetensors, as everywhere. A worker that reads takes its rows out of whichever parts have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import DamagedError
from ..files import read_json, write_json
from ..model.checkpoint import save_tensors
from .sharding import is_spread, own_part, own_rows
from .workers import Workers

INDEX = "parts.json"


def write_parts(folder: Path, tensors: Mapping[str, Tensor], workers: Workers) -> None:
    """Writes this worker's rows; the first writes the index too. Every worker must call it.

    Of a tensor that every worker holds whole, the first writes it. Of groups that each hold everything once, the first
    group writes.
    """
    own: dict[str, Tensor] = {}
    rows: dict[str, tuple[int, int]] = {}
    for name, tensor in tensors.items():
        held = own_rows(tensor)
        if held is None and workers.first:
            own[name] = tensor.detach().cpu()
        elif held is not None and held[1] > held[0] and _in_first_group(tensor):
            own[name], rows[name] = own_part(tensor).detach().cpu(), held
    path = folder / part_file(workers.rank, workers.count)
    if own:
        save_tensors(own, path)
    index: dict[str, list[Any]] = {name: [] for name in tensors}
    for name, held, file in workers.gathered([(name, rows.get(name), path.name) for name in own]):
        index[name].append({"file": file, "rows": list(held) if held else None})
    if workers.first:
        write_json(folder / INDEX, {"workers": workers.count, "tensors": index})


@torch.no_grad()
def read_parts(folder: Path, targets: Mapping[str, Tensor]) -> None:
    """Fills tensors, spread or whole, with what a checkpoint holds of them, bit for bit.

    Raises:
        DamagedError: a tensor or some of its rows are missing.
    """
    index = read_json(folder / INDEX)["tensors"]
    files: dict[str, Any] = {}
    for name, target in targets.items():
        if name not in index:
            raise DamagedError(f"'{name}' is missing", where=str(folder / INDEX))
        local = own_part(target)
        first, end = own_rows(target) or (0, target.shape[0] if target.ndim else 0)
        filled = 0
        for part in index[name]:
            file = part["file"]
            if file not in files:
                files[file] = safe_open(folder / file, framework="pt")
            if part["rows"] is None:
                whole = files[file].get_tensor(name)
                local.copy_(whole[first:end] if is_spread(target) else whole)
                filled = end - first
                break
            start, stop = max(first, part["rows"][0]), min(end, part["rows"][1])
            if start < stop:
                held = files[file].get_slice(name)[start - part["rows"][0] : stop - part["rows"][0]]
                local[start - first : stop - first].copy_(held)
                filled += stop - start
        if filled != end - first:
            raise DamagedError(f"some rows of '{name}' are missing", where=str(folder / INDEX))


def part_file(rank: int, count: int) -> str:
    """The file of one worker's rows."""
    return f"part-{rank + 1}-of-{count}.safetensors"


def _in_first_group(tensor: Tensor) -> bool:
    mesh = tensor.device_mesh  # type: ignore[attr-defined]
    coordinate = mesh.get_coordinate()
    return coordinate is not None and (mesh.ndim == 1 or coordinate[0] == 0)
