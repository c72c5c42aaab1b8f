"""Exporting a model for other tools, and proof that what was written is the same model.

source.py           what is exported: a model, or an adapter merged into its base
check.py            what every export is held to: equal logits, and the same rendered conversation
hf.py               a Hugging Face folder
gguf.py             a GGUF file for llama.cpp, and the check of it
gguf_metadata.py    a config as the keys that llama.cpp reads
gguf_vocabulary.py  a tokenizer as llama.cpp's vocabulary
gguf_weights.py     weights under llama.cpp's names, quantized
onnx.py             an ONNX folder, and the check of it in ONNX Runtime
onnx_graph.py       a model as one function of batches, past keys and values, for ONNX
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import UserError, nearest
from .hf import export_hf

__all__ = ["FORMATS", "export_hf", "export_model"]

FORMATS = ("hf", "gguf", "onnx")


def export_model(model: str | Path, to: str, out: Path, quantize: str | None = None) -> dict[str, Any]:
    """Writes a model in another tool's format and checks it; nothing is left where a check fails.

    Args:
        model: a model, as every command names it, or the folder of an adapter, which is merged into its base.
        to: ``hf``, ``gguf`` or ``onnx``.
        out: the new folder, or for GGUF the new file; an older export is replaced.
        quantize: how the weights are kept, by the format's names; None keeps every value.

    Returns:
        ``path``, ``max_difference`` (the largest difference of any logit), ``compared_with``, and more by format.

    Raises:
        UserError: an unknown format or quantization, something else at ``out``, a model that the format cannot hold.
        OwnlmError: what was written is not the same model.
        MissingExtra: ONNX's packages are not installed.
    """
    if to not in FORMATS:
        raise UserError(f"'{to}' is not a format to export to", where="--to", hint=nearest(to, FORMATS))
    if to == "gguf":
        from .gguf import export_gguf

        return export_gguf(model, out, quantize)
    if to == "onnx":
        from .onnx import export_onnx

        return export_onnx(model, out, quantize)
    if quantize is not None:
        raise UserError(
            "a Hugging Face folder is not quantized", where="--quantize", hint="leave it out, or use --to gguf or onnx"
        )
    return export_hf(model, out)
