"""A GGUF file for llama.cpp, written in Python, and the check of it.

What is checked is what a reader gets. The file is read back: without quantization its logits are the model's; with it
they are those of the rounded weights, and how far these are from the model's is measured and told.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from ... import __version__
from ...errors import OwnlmError, UserError
from ...files import PARTIAL, storage_errors, sync_file
from ...progress import Progress
from ..checkpoint import model_with
from ..gguf import read_gguf
from ..transformer import Transformer
from .check import check_chat, check_logits, divergence, outputs, probe_ids
from .gguf_metadata import architecture_of, context_of, metadata_of
from .gguf_vocabulary import vocabulary_of, wordpiece_of
from .gguf_weights import StoredTensor, kind_named, stored_tensors
from .source import Source, read_source

# What marks a file as ours, and so as one that may be replaced.
_OURS = "ownlm.version"

# Positions of the probe: enough for a rotary base or a stretching that is wrong to show.
PROBED = 256

# How far rounded weights may take the model from itself, in nats for each token, by bits. A model that loses more on
# the probe text has lost what it knew: 4 bits cost SmolLM2-135M 0.2 (see docs/export.md).
_MOST_LOST = {Kind.Q8_0: 0.1, Kind.Q5_1: 0.5, Kind.Q5_0: 0.5, Kind.Q4_1: 1.0, Kind.Q4_0: 1.0}


def export_gguf(model: str | Path, out: Path, quantize: str | None = None) -> dict[str, Any]:
    """Writes a model as a GGUF file and checks it by reading it back.

    Args:
        model: a model, as every command names it, or the folder of an adapter, which is merged into its base.
        out: the new file; a GGUF file that ownlm wrote is replaced.
        quantize: f32, bf16, f16, q8_0, q5_1, q5_0, q4_1 or q4_0; None keeps every value.

    Returns:
        ``path``; ``max_difference``, the largest difference of any logit to the model's; ``divergence``, the mean
        Kullback-Leibler divergence in nats of a token, and ``same_choice``, how often the likeliest token is the same,
        both on the probe text; ``bytes``; ``context``; ``compared_with``; and ``notes`` on what llama.cpp does otherwise.

    Raises:
        UserError: something else stands at ``out``, an unknown quantization, or a model or tokenizer that llama.cpp has
            nothing for.
        OwnlmError: what was written is not the same model.
        StorageError: the disk is full or may not be written to; what stood there before stays.
    """
    kind, out = kind_named(quantize), Path(out)
    _check_free(out)
    source = read_source(model)
    config = source.model.config
    architecture = architecture_of(config)
    if config.causal:
        vocabulary, notes = vocabulary_of(source.tokenizer, config.vocab_size, str(model))
    else:
        vocabulary, notes = wordpiece_of(source.tokenizer, config, str(model)), []
    context = context_of(config, architecture)
    if context < config.max_positions:
        notes.append(f"llama.cpp has no sliding window here, so the file promises {context:,} tokens: one window")
    metadata = {**_general(source, kind), **metadata_of(config, architecture), **vocabulary}
    with _staged(out) as staged:
        tensors = list(stored_tensors(source.model, architecture, kind))
        _write(staged, architecture, metadata, tensors)
        found = _check(staged, source, tensors, context, kind, "tokenizer.chat_template" in metadata)
        size = staged.stat().st_size
    found |= {"path": str(out), "bytes": size, "context": context, "compared_with": ["ownlm"], "notes": notes}
    return found


def _check_free(out: Path) -> None:
    """Only an older export may be replaced."""
    if not out.exists():
        return
    if out.is_file() and _is_ours(out):
        return
    hint = f"name the file, for example --out {out / 'model.gguf'}" if out.is_dir() else "give another --out"
    raise UserError("something else stands here already", where=str(out), hint=hint)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            return False
        # Its keys stand first: ours is the first but one.
        return _OURS.encode() in file.read(4096)


@contextlib.contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A file that appears under its name only when the block ends well."""
    staged = out.parent / f".{out.name}{PARTIAL}export-{os.getpid()}"
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield staged
            sync_file(staged)
            staged.replace(out)
        finally:
            staged.unlink(missing_ok=True)


def _general(source: Source, kind: Kind | None) -> dict[str, Any]:
    """What a file says of itself."""
    stored = kind if kind is not None else _kept(source.model)
    types = {Kind.F32: "ALL_F32"} | {known: f"MOSTLY_{known.name}" for known in Kind if known != Kind.F32}
    return {
        _OURS: __version__,
        "ownlm.lineage": json.dumps(source.lineage, ensure_ascii=False),
        "general.type": "model",
        "general.name": _name(source.name),
        "general.file_type": gguf.LlamaFileType[types[stored]].value,
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
    }


def _name(model: str) -> str:
    """The last part of a model's name that says something: a run's result is always called "model"."""
    parts = [part for part in Path(model).parts if part != "model"]
    return (parts or [model])[-1].removesuffix(".gguf")


def _kept(model: Transformer) -> Kind:
    kinds = {torch.bfloat16: Kind.BF16, torch.float16: Kind.F16}
    return kinds.get(model.embedding.token.weight.dtype, Kind.F32)


def _write(path: Path, architecture: str, metadata: Mapping[str, Any], tensors: list[StoredTensor]) -> None:
    """Writes the file a tensor at a time, so that no second model is held."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        _add(writer, key, value)
    for tensor in tensors:
        # Any dtype but uint8 makes the package take the shape as it is.
        writer.add_tensor_info(
            tensor.name, tensor.values.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.kind
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with Progress("Writing", total=len(tensors), unit="tensors") as progress:
            for tensor in tensors:
                _write_tensor(writer, tensor.packed(), path)
                progress.advance()
    finally:
        with contextlib.suppress(OSError):
            # What could not be written is told already.
            writer.close()


def _write_tensor(writer: gguf.GGUFWriter, values: np.ndarray, path: Path) -> None:
    try:
        writer.write_tensor_data(values)
    except OSError as error:
        if error.errno is not None:
            raise
        # numpy, which writes it, says how much was written and not why no more was.
        full = shutil.disk_usage(path.parent).free < values.nbytes
        number = errno.ENOSPC if full else errno.EFBIG
        raise OSError(number, os.strerror(number), str(path)) from None


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _check(
    path: Path, source: Source, tensors: list[StoredTensor], context: int, kind: Kind | None, has_template: bool
) -> dict[str, Any]:
    """Reads the file back and measures how far it is from the model.

    Raises:
        OwnlmError: its logits are not those that its weights should give, or too far from the model's; or it renders
            conversations differently.
    """
    config, state, tokenizer = read_gguf(path)
    for tensor in tensors:
        _check_values(tensor, state, path)
    ids = probe_ids(source.tokenizer, min(context, PROBED))
    found = outputs(model_with(config, state), ids)
    if config != source.model.config:
        # The same weights, by the config that was read and by the model's own.
        head = {"tied_head": config.tied_head, "max_positions": config.max_positions}
        own = source.model.config.model_copy(update=head)
        check_logits(found, outputs(model_with(own, state), ids), str(path))
    if has_template:
        check_chat(source.tokenizer, lambda chat: tokenizer.render(chat, add_generation_prompt=True), str(path))
    expected = outputs(source.model, ids)
    if kind in (None, Kind.F32):
        check_logits(found, expected, str(path))
    difference = (found - expected).abs().max().item() if ids else 0.0
    if config.head == "none":
        return {"max_difference": difference}
    lost = divergence(expected, found)
    limit = _MOST_LOST.get(kind) if kind is not None else None
    if limit is not None and kind is not None and not lost <= limit:
        raise OwnlmError(
            f"rounded to {kind.name.lower()} the model is another: it differs by {lost:.2g} nats for each token",
            where="--quantize",
            hint=f"at most {limit} is accepted; use a quantization with more bits",
        )
    same = (expected.argmax(-1) == found.argmax(-1)).float().mean().item() if ids else 1.0
    return {"max_difference": difference, "divergence": lost, "same_choice": same}


def _check_values(tensor: StoredTensor, state: Mapping[str, Tensor], path: Path) -> None:
    """Compares what was read back of a tensor with the model's weight, rounded as it was to be."""
    if tensor.ours is None:
        return
    rounded = tensor.rounded()
    read = state[tensor.ours][tensor.first_row : tensor.first_row + len(rounded)]
    # A norm's 1 was added and taken away again, which rounds; so much is lost in no other way.
    if read.shape != rounded.shape or not torch.allclose(read.float(), rounded, rtol=1e-6, atol=1e-6):
        raise OwnlmError(f"the exported model is not the same: '{tensor.name}' holds other values", where=str(path))
