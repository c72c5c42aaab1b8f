"""GGUF files in: llama.cpp's one-file models, whatever their quantization, as our config, weights and tokenizer.

Every tensor type that the ``gguf`` package can dequantize is read; names go through the package's own table. Some
things differ from the public checkpoints and are undone here: Llama's query and key rows are interleaved for another
layout of rotary positions, GPT-2's projections are already [outputs, inputs], GPT-NeoX's queries, keys and values are
already one after the other, and Gemma's norms have their 1 added.
Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import torch
from torch import Tensor

from ..errors import DamagedError, ModelError
from ..files import existing_file, new_folder, sha256_file
from .checkpoint import write_model_files
from .config import ModelConfig
from .gguf_config import ARCHITECTURES, read_shape, tensor_names
from .gguf_tokenizer import tokenizer_from_gguf
from .transformer import Transformer

if TYPE_CHECKING:
    from ..tokens.tokenizer import Tokenizer

# Written by converters beside the weights; what they say is in the config already.
_COMPUTED = ("rope_freqs.weight", "attn_rot_embd", "rope.freqs", "attn.masked_bias", "attn.bias")


def read_gguf(path: Path) -> tuple[ModelConfig, dict[str, Tensor], Tokenizer]:
    """A GGUF file's config, weights under our names, and tokenizer.

    Half-precision tensors keep their dtype; quantized ones become float32, exactly the values their blocks stand for.

    Raises:
        ModelError: not a GGUF file, or an architecture, tensor type or tokenizer we do not have.
        DamagedError: a file that is cut short or altered.
    """
    path = existing_file(path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError("this is not a GGUF file", where=str(path), hint="its first four bytes must be 'GGUF'")
    with _damage_named(path):
        reader = gguf.GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        if metadata.get("split.count", 1) > 1:
            raise ModelError(
                f"this is one of {metadata['split.count']} parts of a model",
                where=str(path),
                hint="join the parts first, with llama.cpp's gguf-split --merge",
            )
        config = read_shape(metadata, tensors, path)
        state = _state(config, str(metadata["general.architecture"]), tensors, path)
        return config, state, tokenizer_from_gguf(metadata, where=str(path))


def convert_gguf(path: Path, folder: Path, *, lineage: Mapping[str, Any] | None = None) -> None:
    """Writes a GGUF file as a model folder that answers as the file does, whole or not at all.

    The weights keep every value: they are stored in bfloat16 or float16 where each fits exactly, as those of a file
    in half precision do, and in float32 otherwise, as quantized ones need.

    Args:
        path: the GGUF file.
        folder: where the model goes.
        lineage: what else to note of its origin, beside the file's name and SHA-256.

    Raises:
        ModelError, DamagedError: as ``read_gguf``.
        StorageError: the disk is full or may not be written to.
    """
    with new_folder(Path(folder)) as new:
        write_gguf_model(path, new, lineage=lineage)


def write_gguf_model(path: Path, folder: Path, *, lineage: Mapping[str, Any] | None = None) -> None:
    """Writes what ``convert_gguf`` does into a folder that its caller makes whole."""
    path = Path(path)
    config, state, tokenizer = read_gguf(path)
    tokenizer.check_fits(config.vocab_size, where=str(path))
    origin = {"source": path.name, "sha256": sha256_file(path), **(lineage or {})}
    write_model_files(folder, state, config, tokenizer=tokenizer, dtype=_narrowest(state), lineage=origin)


def _narrowest(state: Mapping[str, Tensor]) -> torch.dtype:
    """The smallest dtype that holds every value exactly."""
    for dtype in (torch.bfloat16, torch.float16):
        if all(t.dtype == dtype or torch.equal(t.to(dtype).float(), t.float()) for t in state.values()):
            return dtype
    return torch.float32


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Names the file where its content makes no sense.

    The package reads past the end, or takes a wrong length, without noticing, and fails on whatever it finds there.
    """
    try:
        yield
    except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, MemoryError) as error:
        raise DamagedError(
            f"this GGUF file is cut short, damaged, or of a version that cannot be read ({error})",
            where=str(path),
            hint="fetch or copy it again",
        ) from error


def _state(config: ModelConfig, architecture: str, tensors: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Our weights, each from its one or several tensors in the file."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Transformer(config).named_parameters()}
    state, used = {}, set()
    for ours, names in tensor_names(config, architecture).items():
        parts = []
        for stored in names:
            if stored not in tensors:
                raise DamagedError(f"the tensor '{stored}' is missing", where=str(path), hint="fetch or copy it again")
            used.add(stored)
            values = _values(tensors[stored], path)
            if ARCHITECTURES[architecture].interleaved and (".attn_q." in stored or ".attn_k." in stored):
                heads = config.heads if ".attn_q." in stored else config.kv_heads
                if len(values) % (2 * heads):
                    message = f"the tensor '{stored}' has {len(values)} rows, which are not {heads} heads"
                    raise DamagedError(message, where=str(path))
                values = _deinterleaved(values, heads)
            if ARCHITECTURES[architecture].offset_norms and stored.endswith("norm.weight"):
                values = values.float() - 1
            parts.append(values)
        state[ours] = torch.cat(parts) if len(parts) > 1 else parts[0]
        if state[ours].shape != shapes[ours]:
            found, wanted = list(state[ours].shape), list(shapes[ours])
            raise DamagedError(f"the tensor '{stored}' has the shape {found}, not {wanted}", where=str(path))
    strangers = [name for name in tensors if name not in used and not any(known in name for known in _COMPUTED)]
    if strangers:
        raise ModelError(f"the tensor '{strangers[0]}' has no place in this {config.family} model", where=str(path))
    return state


def _values(tensor: Any, path: Path) -> Tensor:
    """A tensor's values in memory of their own: half precision as it is, anything else as float32."""
    kind = tensor.tensor_type
    shape = tuple(int(size) for size in reversed(tensor.shape))
    if kind == gguf.GGMLQuantizationType.BF16:
        return torch.from_numpy(tensor.data.copy()).view(torch.bfloat16).reshape(shape)
    if kind == gguf.GGMLQuantizationType.F16:
        return torch.from_numpy(tensor.data.copy()).reshape(shape)
    try:
        values = gguf.dequantize(tensor.data, kind)
    except NotImplementedError:
        message = f"the tensor '{tensor.name}' is stored as {kind.name}, which cannot be read"
        raise ModelError(message, where=str(path), hint="use a file with another quantization") from None
    return torch.from_numpy(np.array(values, dtype=np.float32)).reshape(shape)


def _deinterleaved(values: Tensor, heads: int) -> Tensor:
    """Undoes llama.cpp's order of a head's rows, pairs side by side, for ours, halves one after the other.

    values: [heads * head_width, ...], a weight or a bias.
    """
    # [heads, head_width / 2, 2, ...] -> [heads, 2, head_width / 2, ...]
    pairs = values.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2).contiguous()
