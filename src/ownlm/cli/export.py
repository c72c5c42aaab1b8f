"""``ownlm export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..units import format_bytes
from .answer import Answer
from .sampling import ModelName

Out = Annotated[Path, typer.Option(help="The new folder; for gguf, the new file.", metavar="PATH")]
To = Annotated[
    str, typer.Option(help="hf (a Hugging Face folder), gguf (a file for llama.cpp) or onnx.", metavar="FORMAT")
]
Quantize = Annotated[
    str | None,
    typer.Option(
        help="gguf: f32, bf16, f16, q8_0, q5_1, q5_0, q4_1 or q4_0; onnx: int8 or int4. Without it every value is kept.",
        metavar="Q",
    ),
]


def export(model: ModelName, out: Out, to: To = "hf", quantize: Quantize = None) -> Answer:
    """Write a model for other tools, and check that it is the same model.

    What is written is read back: its logits and its rendered chat must be the same, or the export fails. A folder is
    also read by Transformers where that is installed, and ONNX is run. A quantized model is measured against the model
    that it was. An adapter's folder is merged into its base.
    """
    from ..model.export import export_model

    result = export_model(model, to, out, quantize)
    by = " and ".join(result["compared_with"])
    lines = [f"{result['path']}: checked by {by}, largest difference of a logit {result['max_difference']:.2g}"]
    if "divergence" in result and quantize is not None:
        lines.append(f"Rounded to {quantize}, the model differs by {result['divergence']:.2g} nats for each token")
    if "bytes" in result:
        lines[0] += f", {format_bytes(result['bytes'])}"
    lines += [f"{note[0].upper()}{note[1:]}" for note in result.get("notes", [])]
    return Answer(result, "\n".join(lines))
