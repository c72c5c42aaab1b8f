"""An ONNX folder, and the check of it: ONNX Runtime must say what the model says.

The folder holds ``model.onnx`` (its weights beside it in ``model.onnx.data`` where they are more than 2 GB, which is the
format's limit), the tokenizer's files, ``config.json`` and lineage. What the graph takes and gives is in onnx_graph.py.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import MissingExtra, OwnlmError, UserError, nearest
from ...files import check_replaceable, new_folder, storage_errors
from ...tokens.tokenizer import FILES, load_tokenizer
from ..checkpoint import LINEAGE, write_model_papers
from .check import PROBE, check_chat, check_logits, divergence, outputs
from .source import Source, read_source

if TYPE_CHECKING:
    from .onnx_session import OnnxModel

GRAPH = "model.onnx"
DATA = "model.onnx.data"
NAMES = (GRAPH, DATA, "config.json", "generation_config.json", LINEAGE, *FILES)

# Beyond this many bytes weights go into a file beside the graph, which must stay below 2 GB.
INSIDE = 1_800_000_000

# Lengths that are checked.
_LENGTHS = (1, 2, 17, 64)

KINDS = ("int8", "int4")

# How far rounded weights may take the model from itself on the probe text, in nats for each token.
_MOST_LOST = {"int8": 0.1, "int4": 1.0}


def export_onnx(model: str | Path, out: Path, quantize: str | None = None) -> dict[str, Any]:
    """Writes a model as an ONNX folder and checks it in ONNX Runtime, on several lengths, padded and step by step.

    Args:
        model: a model, as every command names it, or the folder of an adapter, which is merged into its base.
        out: the new folder; an older ONNX export is replaced.
        quantize: int8 or int4; None is float32.

    Returns:
        ``path``; ``max_difference``, the largest difference of any logit (or number, of another head) to the model's;
        ``inputs`` and ``outputs`` of the graph; ``bytes``; ``compared_with``; of a quantized language model also
        ``divergence``, the mean Kullback-Leibler divergence in nats of a token on the probe text.

    Raises:
        UserError: something else stands at ``out``, an unknown quantization, or a head that no graph is made for.
        OwnlmError: what was written is not the same model.
        StorageError: the disk is full or may not be written to.
        MissingExtra: ONNX's packages are not installed.
    """
    quantize = None if quantize is None else quantize.lower()
    if quantize is not None and quantize not in KINDS:
        message = f"'{quantize}' is not a quantization of ONNX models"
        raise UserError(message, where="--quantize", hint=nearest(quantize, KINDS))
    if any(find_spec(package) is None for package in ("onnx", "onnxruntime")):
        raise MissingExtra("writing and checking ONNX models", "onnx")
    out = Path(out)
    check_replaceable(out, NAMES)
    source = read_source(model)
    with new_folder(out) as folder, storage_errors(out):
        _write_graph(source, folder, quantize)
        papers: dict[str, Any] = {"tokenizer": source.tokenizer, "dtype": torch.float32, "lineage": source.lineage}
        write_model_papers(folder, source.model.config, **papers)
        found = _check(source, folder, quantize)
        size = sum(path.stat().st_size for path in (folder / GRAPH, folder / DATA) if path.is_file())
    return {"path": str(out), "bytes": size, "compared_with": ["onnxruntime"], **found}


def _write_graph(source: Source, folder: Path, quantize: str | None) -> None:
    import onnx

    from .onnx_graph import build_graph

    graph = build_graph(source.model, quantize)
    # Not the graph's own size, which cannot be asked where it is beyond the limit.
    if sum(len(one.raw_data) for one in graph.graph.initializer) <= INSIDE:
        onnx.save_model(graph, folder / GRAPH)
    else:
        onnx.save_model(graph, folder / GRAPH, save_as_external_data=True, location=DATA)
        # The package makes it a private file.
        (folder / DATA).chmod((folder / GRAPH).stat().st_mode)


def _check(source: Source, folder: Path, quantize: str | None) -> dict[str, Any]:
    """Runs the written graph and compares it with the model.

    Raises:
        OwnlmError: it says something else.
    """
    from .onnx_session import OnnxModel

    if source.tokenizer.chat_template is not None:
        tokenizer = load_tokenizer(folder)
        check_chat(source.tokenizer, lambda chat: tokenizer.render(chat, add_generation_prompt=True), str(folder))
    session = OnnxModel(folder, source.model.config)
    documents = _documents(source)
    expected = [outputs(source.model, document) for document in documents]
    found = session.outputs(documents)
    whole = torch.cat([tensor.flatten() for tensor in expected])
    difference = float((torch.cat([tensor.flatten() for tensor in found]) - whole).abs().max())
    result: dict[str, Any] = {"max_difference": difference, "inputs": session.inputs, "outputs": session.names}
    if quantize is None:
        # In one call, padded, and each by itself: what stands beside a document must be no matter.
        alone = [session.outputs([document])[0] for document in documents]
        for tensors in (found, alone, _stepwise(session, documents, alone)):
            difference = max(check_logits(a, b, str(folder)) for a, b in zip(tensors, expected, strict=True))
            result["max_difference"] = max(result["max_difference"], difference)
    elif source.model.config.head in ("lm", "masked"):
        lost = divergence(expected[-1], found[-1])
        if not lost <= _MOST_LOST[quantize]:
            raise OwnlmError(
                f"rounded to {quantize} the model is another: it differs by {lost:.2g} nats for each token",
                where="--quantize",
                hint=f"at most {_MOST_LOST[quantize]} is accepted; leave --quantize out",
            )
        result["divergence"] = lost
    return result


def _documents(source: Source) -> list[list[int]]:
    """Beginnings of the probe text, of all the lengths."""
    ids = source.tokenizer.encode(PROBE)
    longest = min(max(_LENGTHS), source.model.config.max_positions)
    ids = (ids * -(-longest // max(len(ids), 1)))[:longest]
    return [ids[:length] for length in _LENGTHS if length < longest] + [ids]


def _stepwise(session: OnnxModel, documents: list[list[int]], alone: list[Tensor]) -> list[Tensor]:
    """The same with each document read in two parts and then token by token, where the model generates."""
    if not session.generates:
        return alone
    return [session.stepwise(document) for document in documents]
