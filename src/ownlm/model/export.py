"""Exporting a model for other tools, and proof that what was written is the same model."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import OwnlmError, UserError
from ..files import PARTIAL, read_json, replace_folder, storage_errors
from ..tokens.tokenizer import Tokenizer, load_tokenizer
from .checkpoint import LINEAGE, load_model_folder, save_model_folder
from .registry import find_model
from .transformer import Transformer

PROBE = (
    "The quick brown fox, 3.14 times: naïve café, 語 and 🙂.\n\tWhat comes next? I can't say; she'll know it'd be fine."
)
PROBE_CHAT = (
    {"role": "system", "content": "You are a careful assistant."},
    {"role": "user", "content": "Hello!  Is it\nopen on Sunday?"},
    {"role": "assistant", "content": "Yes, from 10 to 16 o'clock."},
    {"role": "user", "content": "Thanks 🙂"},
)
# Float32 sums in another order differ by about this share of the largest logit.
TOLERANCE = 1e-4


def export_hf(model: str | Path, out: Path) -> dict[str, Any]:
    """Writes a Hugging Face folder and checks it: equal logits and the same rendered chat when read back.

    Where Transformers is installed, it too reads the folder and is compared. The folder appears under its name only
    when all checks have passed.

    Args:
        model: a model, as every command names it.
        out: the new folder; one that ownlm wrote is replaced.

    Returns:
        ``path``, ``max_difference`` (the largest difference of any logit) and ``compared_with``.

    Raises:
        UserError: ``out`` holds other files.
        OwnlmError: what was written is not the same model.
    """
    source = find_model(str(model))
    out = Path(out)
    _check_free(out, source)
    ours, tokenizer = load_model_folder(source), load_tokenizer(source)
    lineage = read_json(source / LINEAGE).get("lineage") if (source / LINEAGE).is_file() else {"parents": [str(model)]}
    staged = out.parent / f".{out.name}{PARTIAL}export-{os.getpid()}"
    try:
        save_model_folder(ours, staged, tokenizer=tokenizer, lineage=lineage)
        differences = {"ownlm": _compare(ours, tokenizer, _read_back, staged)}
        if find_spec("transformers") is not None:
            differences["transformers"] = _compare(ours, tokenizer, _read_by_transformers, staged)
        with storage_errors(out):
            replace_folder(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return {"path": str(out), "max_difference": max(differences.values()), "compared_with": list(differences)}


def _check_free(out: Path, source: Path) -> None:
    if not out.exists():
        return
    if out.resolve() == source.resolve():
        raise UserError("this is the model itself", where=str(out), hint="give another --out")
    if not out.is_dir() or (any(out.iterdir()) and not (out / LINEAGE).is_file()):
        raise UserError("something else stands here already", where=str(out), hint="give another --out")


def _compare(
    ours: Transformer, tokenizer: Tokenizer, read: Callable[[Path, list[int]], tuple[Tensor, Any]], folder: Path
) -> float:
    """The largest difference of any logit on the probe text, between the model and what ``read`` makes of the folder."""
    ids = tokenizer.encode(PROBE)[: ours.config.max_positions]
    expected = ours.logits([ids])[0]
    logits, render = read(folder, ids)
    difference = (logits - expected).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise OwnlmError(
            f"the exported model is not the same: its logits differ by {difference:.3g}", where=str(folder)
        )
    if tokenizer.chat_template is not None and render() != tokenizer.render(
        list(PROBE_CHAT), add_generation_prompt=True
    ):
        raise OwnlmError("the exported model renders conversations differently", where=str(folder))
    return difference


def _read_back(folder: Path, ids: list[int]) -> tuple[Tensor, Callable[[], list[int]]]:
    """[length, vocab] logits of the written folder, and how its tokenizer renders the probe conversation."""
    tokenizer = load_tokenizer(folder)
    logits = load_model_folder(folder).logits([ids])[0]
    return logits, lambda: tokenizer.render(list(PROBE_CHAT), add_generation_prompt=True)


def _read_by_transformers(folder: Path, ids: list[int]) -> tuple[Tensor, Callable[[], list[int]]]:
    """The same by the public implementation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Its progress bar on loading a few files would stand among our own messages.
    with contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].float()

    def render() -> list[int]:
        text = tokenizer.apply_chat_template(list(PROBE_CHAT), tokenize=False, add_generation_prompt=True)
        return tokenizer.encode(text, add_special_tokens=False)

    return logits, render
