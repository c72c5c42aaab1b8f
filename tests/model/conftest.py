"""What several tests of the model room need."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from ownlm import native
from ownlm.model.kernels import library

# AMX's instructions in plain C++, where the processor has none.
EMULATED = ("-include", str(Path(__file__).parent / "kernels" / "matrix_unit.h"))


@functools.cache
def kernels(route: str) -> ctypes.CDLL | None:
    """The library of kernels for a route, or None where this machine has none."""
    with pytest.MonkeyPatch.context() as patch:
        if route == "no matrix unit":
            patch.setenv(native.SWITCH, "avx512")
        elif not library.has_matrix_unit():
            patch.setattr(library, "MATRIX_UNIT", EMULATED)
            patch.setattr(library, "has_matrix_unit", lambda: True)
        return library.library.__wrapped__()


@pytest.fixture(params=["matrix unit", "no matrix unit", "plain torch"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way that bfloat16 is multiplied on a CPU; a processor without a matrix unit emulates one."""
    taken = None if request.param == "plain torch" else kernels(request.param)
    if taken is None and request.param != "plain torch":
        pytest.skip("this processor has no AVX-512 BF16, or no compiler is installed")
    monkeypatch.setattr(library, "library", lambda: taken)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole GGUF file of a Llama with one layer, whose vocabulary is the 256 bytes and an end-of-text token."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * 256)
    writer.add_token_merges([])
    writer.add_eos_token_id(0)
    shapes = {
        "token_embd": (257, 32),
        "output_norm": (32,),
        "blk.0.attn_norm": (32,),
        "blk.0.ffn_norm": (32,),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (16, 32),
        "blk.0.attn_v": (16, 32),
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
