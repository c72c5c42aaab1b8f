"""A Hugging Face folder: our own format, so that writing it is saving it again, and checking it with the public class."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ...files import PARTIAL, read_json, replace_folder, storage_errors
from ...tokens.tokenizer import Tokenizer, load_tokenizer
from ..checkpoint import LINEAGE, load_model_folder, save_model_folder
from ..transformer import Transformer
from .check import PROBE, check_chat, check_logits, outputs
from .source import read_source


def export_hf(model: str | Path, out: Path) -> dict[str, Any]:
    """Writes a Hugging Face folder and checks it: equal logits and the same rendered chat when read back.

    Where Transformers is installed, it too reads the folder and is compared. The folder appears under its name only
    when all checks have passed.

    Args:
        model: a model, as every command names it, or the folder of an adapter, which is merged into its base.
        out: the new folder; one that ownlm wrote is replaced.

    Returns:
        ``path``, ``max_difference`` (the largest difference of any logit) and ``compared_with``.

    Raises:
        UserError: ``out`` holds other files.
        OwnlmError: what was written is not the same model.
    """
    source, out = read_source(model), Path(out)
    _check_free(out, source.folder)
    staged = out.parent / f".{out.name}{PARTIAL}export-{os.getpid()}"
    try:
        save_model_folder(source.model, staged, tokenizer=source.tokenizer, lineage=source.lineage)
        differences = {"ownlm": _compare(source.model, source.tokenizer, _read_back, staged)}
        if find_spec("transformers") is not None and _known_to_transformers(staged):
            differences["transformers"] = _compare(source.model, source.tokenizer, _read_by_transformers, staged)
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


# What the written folder says of a document (``outputs``), and how its tokenizer renders the probe conversation.
_Read = tuple[Tensor, Callable[[list[dict[str, str]]], Sequence[int]]]


def _compare(
    ours: Transformer, tokenizer: Tokenizer, read: Callable[[Path, list[int], str], _Read], folder: Path
) -> float:
    """The largest difference of any logit on the probe text, between the model and what ``read`` makes of the folder."""
    ids = tokenizer.encode(PROBE)[: ours.config.max_positions]
    logits, render = read(folder, ids, ours.config.head)
    difference = check_logits(logits, outputs(ours, ids), str(folder))
    if tokenizer.chat_template is not None:
        check_chat(tokenizer, render, str(folder))
    return difference


def _read_back(folder: Path, ids: list[int], head: str) -> _Read:
    tokenizer = load_tokenizer(folder)
    logits = outputs(load_model_folder(folder), ids)
    return logits, lambda messages: tokenizer.render(messages, add_generation_prompt=True)


def _known_to_transformers(folder: Path) -> bool:
    """Whether the public library has the folder's class: it has none for a GPT-3 with bands, or a Gemma's answers."""
    import transformers

    config = read_json(folder / "config.json")
    return config["model_type"] in transformers.CONFIG_MAPPING and hasattr(transformers, config["architectures"][0])


def _read_by_transformers(folder: Path, ids: list[int], head: str) -> _Read:
    """The same by the public implementation."""
    import transformers

    # Its progress bar on loading a few files, and its report on a pooler that nobody asks, would stand among our own
    # messages.
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            named = getattr(transformers, read_json(folder / "config.json")["architectures"][0])
            model = named.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    finally:
        transformers.logging.set_verbosity(verbosity)
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        found = model(tokens, decoder_input_ids=tokens) if head == "seq2seq" else model(tokens)
    next_sentence = hasattr(found, "prediction_logits")
    if head == "span":
        logits = torch.stack((found.start_logits[0], found.end_logits[0]), dim=-1)
    else:
        # A BERT that also tells whether two sentences follow each other gives two kinds of logits.
        logits = found["last_hidden_state" if head == "none" else "prediction_logits" if next_sentence else "logits"]
        logits = logits[0] if logits.ndim == 3 else logits

    def render(messages: list[dict[str, str]]) -> list[int]:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tokenizer.encode(text, add_special_tokens=False)

    return logits.float(), render
