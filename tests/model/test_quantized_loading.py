"""A folder read in few bits: the same codes as of the model read whole, and never a whole model in float32 on the way."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.model.quantized import Kind, block_weights, quantize_model, quantized_bytes, quantized_layers

SHAPE = {"layers": 6, "width": 128, "heads": 4, "vocab_size": 97, "max_positions": 64}


class Live(TorchDispatchMode):
    """The most bytes of float32 that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32 and tensor.device.type == "cpu":
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self.seen:
            self.seen.add(place)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self.seen.discard(place)
        self.now -= size


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_folder_is_read_in_few_bits(family: str, kind: Kind, tmp_path: Path) -> None:
    save_model_folder(random_model(config_from_user({"family": family, **SHAPE}), 3), tmp_path / "base")
    whole = load_model_folder(tmp_path / "base", dtype=torch.bfloat16)
    with Live() as all_of_it:
        exact = load_model_folder(tmp_path / "base")
    assert all_of_it.most > 4 * block_weights(exact.config)
    quantize_model(exact, kind)
    with Live() as live:
        few = load_model_folder(tmp_path / "base", dtype=torch.bfloat16, quantize=kind)
    expected = quantized_layers(exact)
    assert set(quantized_layers(few)) == set(expected) and len(expected) == 24
    for name, layer in quantized_layers(few).items():
        for found, wanted in zip(layer.stored, expected[name].stored, strict=True):
            assert torch.equal(found, wanted), "quantized from what is stored, not from what it is narrowed to"
        assert layer.bias is None or layer.bias.dtype == torch.bfloat16
    plain = dict(whole.named_parameters())
    left = dict(few.named_parameters())
    assert all(torch.equal(left[name], plain[name]) for name in left)
    assert set(plain) - set(left) == {f"{name}.weight" for name in expected}
    assert sum(layer.stored.nbytes for layer in expected.values()) == quantized_bytes(few.config, kind)
    assert live.most < block_weights(few.config), "a quarter of it"
