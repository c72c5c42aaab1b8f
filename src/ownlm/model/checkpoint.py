"""Model folders in and out: a Hugging Face checkpoint is read as it stands, and what we write is one.

A folder holds ``config.json``, ``model.safetensors`` (or shards and their index), the tokenizer's files,
``generation_config.json``, and of ours ``ownlm.json`` (lineage) and ``checksums.json``. Only safetensors: a pickle can
run code when it is opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__
from ..errors import DamagedError, ModelError
from ..files import CHECKSUMS, new_folder, read_json, sha256_file, write_json
from .config import ModelConfig
from .construct import assign, model_with, random_model, unset_model
from .families import config_from_hf, config_to_hf
from .naming import check_tensors, joined, new_weights, spelled, state_from_hf, state_to_hf, weight_map
from .quantized import Kind, quantize_weight
from .transformer import Transformer

if TYPE_CHECKING:
    from ..tokens.tokenizer import Tokenizer

__all__ = [
    "load_model_folder",
    "model_with",
    "random_model",
    "read_config",
    "save_model_folder",
    "save_state_folder",
    "save_tensors",
    "state_from_hf",
    "state_to_hf",
    "write_model_files",
    "write_model_papers",
]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LINEAGE = "ownlm.json"
SHARD_BYTES = 5 * 10**9

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def load_model_folder(
    folder: Path,
    *,
    config: ModelConfig | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    verify: bool = True,
    quantize: Kind | None = None,
    double_quantize: bool = True,
) -> Transformer:
    """Reads a Hugging Face checkpoint folder, one tensor at a time.

    Args:
        folder: holds ``config.json`` and ``model.safetensors``, or shards with their index.
        config: the shape to read it into, which may have another head than the folder's: then the old head is left out,
            and what the folder has nothing for is drawn from ``seed``. None is the folder's own.
        seed: see ``config``.
        dtype: what the weights are turned into; None keeps each as it is stored.
        device: where the model goes.
        verify: checks the weights against ``checksums.json`` where the folder has one.
        quantize: keeps the linear layers under the blocks in few bits, each from the moment it is read (see
            quantized.py); the rest is as ``dtype`` says.
        double_quantize: keeps the scales in 8 bits too.

    Raises:
        ModelError: a missing file, an unknown architecture, a tensor missing, unexpected or of the wrong shape.
        DamagedError: a weights file that is cut short or altered.
    """
    folder = Path(folder)
    own, files = read_config(folder), _weight_files(folder)
    if verify:
        _verify(folder, files)
    stored = _Stored(folder, files)
    if own.tied_head and not stored.head_is_tied(own):
        own = own.model_copy(update={"tied_head": False})
        config = config and config.model_copy(update={"tied_head": False})
    config = config or own
    stored.check_count(config)
    model = unset_model(config, device)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    fresh = set() if config == own else new_weights(config, shapes, stored.shapes)
    if (config.head, config.labels, config.problem) != (own.head, own.labels, own.problem):
        # As many classes, but others: what told the old ones apart says nothing of them.
        fresh |= {name for name in shapes if name.startswith("head.out.")}
    stored.check(config, {name: shape for name, shape in shapes.items() if name not in fresh})
    for name, weight in weight_map(config).items():
        if name in fresh:
            assign(model, name, torch.empty(shapes[name], device=device, dtype=dtype))
        else:
            tensor = joined(weight, stored.read).to(device)
            if quantize is None or not quantize_weight(model, name, tensor, quantize, double_quantize):
                assign(model, name, tensor.to(dtype))
    if fresh:
        model.initialize_some(seed, fresh)
    return model.eval()


def read_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder, without reading its weights.

    Raises:
        ModelError: no such folder, no ``config.json``, or an architecture or feature we do not have.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise _no_config(Path(folder))
    values = read_json(path)
    if not isinstance(values, dict):
        raise ModelError("a JSON object was expected", where=str(path))
    if values.get("quantization_config"):
        raise ModelError(
            "the weights are quantized in a form that cannot be read",
            where=f"{path}: quantization_config",
            hint="use the model's unquantized folder, or a .gguf file",
        )
    return config_from_hf(values, where=str(path))


def save_model_folder(
    model: Transformer,
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
    lineage: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model as a Hugging Face checkpoint folder, whole or not at all; a folder of that name is replaced.

    Args:
        model: what to write.
        folder: where to.
        tokenizer: its files go beside the weights, and its BOS, EOS and PAD into the configs.
        dtype: what the weights are turned into; None keeps each as it is.
        lineage: where the model comes from, kept in ``ownlm.json``: parents, datasets, metrics.
        shard_bytes: the weights are split into files of at most this size.

    Raises:
        ModelError: the tokenizer has more tokens than the model.
        StorageError: the disk is full or may not be written to; what stood there before stays.
    """
    options: dict[str, Any] = {"tokenizer": tokenizer, "dtype": dtype, "lineage": lineage, "shard_bytes": shard_bytes}
    save_state_folder(model.state_dict(), model.config, folder, **options)


def save_state_folder(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
    lineage: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes weights that are in no model (a conversion's, an average's) as ``save_model_folder`` does."""
    if tokenizer is not None:
        tokenizer.check_fits(config.vocab_size, where=str(folder))
    with new_folder(Path(folder)) as new:
        write_model_files(
            new, state, config, tokenizer=tokenizer, dtype=dtype, lineage=lineage, shard_bytes=shard_bytes
        )


def write_model_files(
    folder: Path,
    state: Mapping[str, Tensor],
    config: ModelConfig,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
    lineage: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model's files into a folder that its caller makes whole, as a training checkpoint with more in it."""
    tensors = state_to_hf(state, config)
    _write_weights(folder, tensors, dtype, shard_bytes)
    stored = dtype or tensors[next(iter(tensors))].dtype
    write_model_papers(folder, config, tokenizer=tokenizer, dtype=stored, lineage=lineage)


def write_model_papers(
    folder: Path,
    config: ModelConfig,
    *,
    tokenizer: Tokenizer | None,
    dtype: torch.dtype,
    lineage: Mapping[str, Any] | None,
) -> None:
    """Writes all of a model's files but its weights: configs, tokenizer and lineage."""
    write_json(folder / "config.json", _config_json(config, dtype, tokenizer))
    write_json(folder / "generation_config.json", _generation_json(config, tokenizer))
    if tokenizer is not None:
        tokenizer.save(folder)
    write_json(folder / LINEAGE, {"ownlm": __version__, "model": config.model_dump(), "lineage": dict(lineage or {})})


class _Stored:
    """The tensors of a folder's safetensors files, read one at a time."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self.folder = folder
        self.files: dict[Path, Any] = {}
        self.place: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            with _damage_named(path):
                self.files[path] = safe_open(path, framework="pt")
                for name in self.files[path].keys():  # noqa: SIM118 (it has keys, but is no mapping)
                    self.place[name] = path
                    self.shapes[name] = tuple(self.files[path].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """A tensor, whose memory may be the file's.

        Raises:
            ModelError: it holds whole numbers.
        """
        name = spelled(name, self.place)
        path = self.place[name]
        with _damage_named(path):
            tensor: Tensor = self.files[path].get_tensor(name)
        if not tensor.is_floating_point():
            raise ModelError(
                f"the tensor '{name}' holds {str(tensor.dtype).removeprefix('torch.')} numbers, not floating-point ones",
                where=str(path),
                hint="use the model's unquantized folder, or a .gguf file",
            )
        return tensor

    def check_count(self, config: ModelConfig) -> None:
        """Refuses more layers than there are tensors, before so many are built."""
        layers, tensors = config.layers + config.encoder_layers, len(self.shapes)
        if layers > tensors:
            raise ModelError(
                f"config.json names {layers} layers, and the weights are only {tensors} tensors",
                where=str(self.folder),
                hint="the weights do not belong to this config.json, or the download is not complete",
            )

    def check(self, config: ModelConfig, ours: Mapping[str, tuple[int, ...]]) -> None:
        """See ``check_tensors``."""
        check_tensors(config, ours, self.shapes, lambda name: str(self.place[name] if name else self.folder))

    def head_is_tied(self, config: ModelConfig) -> bool:
        """Whether the head, if stored at all, is the embedding.

        Some folders say that it is and hold another one; the public loader goes by the weights, and so do we.
        """
        weights = weight_map(config.model_copy(update={"tied_head": False}))
        embedding = spelled(weights["embedding.token.weight"].parts[0], self.place)
        head = weights["head.weight"].parts[0] if "head.weight" in weights else ""
        if head not in self.place or embedding not in self.place:
            return True
        return self.shapes[head] == self.shapes[embedding] and torch.equal(self.read(head), self.read(embedding))


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns safetensors' complaints into an error that names the file."""
    try:
        yield
    except SafetensorError as error:
        raise DamagedError(
            f"this file is cut short or damaged: {error}", where=str(path), hint="copy or fetch it again"
        ) from None


def _weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files.

    Raises:
        ModelError: none, or only pickles, or one that the index names is missing.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if index.is_file():
        values = read_json(index)
        names = values.get("weight_map") if isinstance(values, dict) else None
        if not isinstance(names, dict) or not names:
            raise ModelError("the key 'weight_map' is missing", where=str(index))
        # Only names inside the folder: an index from elsewhere must not make us read any other file.
        files = sorted({folder / Path(str(file)).name for file in names.values()})
        for path in files:
            if not _is_file(path):
                raise ModelError(
                    "this file of weights is missing", where=str(path), hint="the download is not complete"
                )
        return files
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise ModelError(
            f"the weights are only here as a pickle ({pickles[0]}), which can run code when it is opened",
            where=str(folder),
            hint="convert it to safetensors: load it with Transformers where you trust it, then save_pretrained(...)",
        )
    raise ModelError(f"there is no {WEIGHTS} here", where=str(folder), hint="check the folder; the copy may be partial")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name longer than the system allows.
        return False


def _no_config(folder: Path) -> ModelError:
    if not folder.exists():
        return ModelError("there is no such folder", where=str(folder), hint="check the path")
    if not folder.is_dir():
        return ModelError("this is a file, a model folder was expected", where=str(folder))
    if (folder / "adapter_config.json").is_file():
        hint = "name the base model it is for; generate and chat take the adapter beside it as --adapter"
        return ModelError("this is an adapter, not a whole model", where=str(folder), hint=hint)
    message = "there is no config.json here, so this is not a model folder"
    return ModelError(message, where=str(folder), hint="check the path")


def _verify(folder: Path, weights: list[Path]) -> None:
    """Checks the files of weights against ``checksums.json``; a config edited by hand is the user's right.

    Raises:
        DamagedError: names the file.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        return
    try:
        expected = json.loads(path.read_text())
    except (ValueError, RecursionError):
        expected = None
    if not isinstance(expected, dict):
        raise DamagedError("this file is damaged", where=str(path))
    for file in weights:
        if file.name in expected and sha256_file(file) != expected[file.name]:
            raise DamagedError(
                "this file is damaged: its checksum differs from the one saved with it",
                where=str(file),
                hint=f"copy or fetch it again; if you changed it on purpose, delete {CHECKSUMS}",
            )


def _write_weights(folder: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None, shard_bytes: int) -> None:
    """One file, or several and their index where the weights are larger than ``shard_bytes``."""
    shards: list[list[str]] = [[]]
    total = size = 0
    for name, tensor in tensors.items():
        nbytes = tensor.numel() * (dtype or tensor.dtype).itemsize
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
        total += nbytes
    place: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        place |= dict.fromkeys(names, file)
        # Turned into the dtype a shard at a time, so that a second copy of the whole model never stands in memory.
        save_tensors({n: tensors[n].to(device="cpu", dtype=dtype).contiguous() for n in names}, folder / file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": place})


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes a safetensors file; the disk's errors stay OSErrors."""
    # The library writes a private file; give it the rights that any other new file would get.
    path.touch()
    mode = path.stat().st_mode
    try:
        # Transformers refuses a file whose metadata does not say which framework wrote it.
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # The library wraps the operating system's error in its own and keeps only the text.
        if (found := re.search(r"os error (\d+)\)", str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
    path.chmod(mode)


def _config_json(config: ModelConfig, dtype: torch.dtype, tokenizer: Tokenizer | None) -> dict[str, Any]:
    name = str(dtype).removeprefix("torch.")
    # Transformers 5 reads "dtype", 4 reads "torch_dtype".
    values = config_to_hf(config) | {"dtype": name, "torch_dtype": name}
    if tokenizer is not None:
        values["bos_token_id"] = tokenizer.bos_id
        values["eos_token_id"] = tokenizer.eos_id
        # Of a family that counts positions from it, it is a part of the shape.
        values.setdefault("pad_token_id", tokenizer.pad_id)
    return values


def _generation_json(config: ModelConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    if tokenizer is None:
        return {}
    # EOS first: readers that keep only one keep the first.
    stops = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    stops += sorted(tokenizer.stop_ids.difference(stops))
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": stops or None, "pad_token_id": tokenizer.pad_id}
    ids |= {"decoder_start_token_id": config.start_token}
    return {key: value for key, value in ids.items() if value is not None}
