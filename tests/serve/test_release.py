"""A release is known by everything that shapes an answer."""

from __future__ import annotations

from pathlib import Path

from ownlm.serve.release import release_of
from ownlm.tokens.tokenizer import load_tokenizer


def test_whatever_shapes_an_answer_makes_another_release(tiny: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    adapters = []
    for content in (b"one", b"two"):
        adapter = tmp_path / content.decode()
        adapter.mkdir()
        (adapter / "adapter_model.safetensors").write_bytes(content)
        (adapter / "adapter_config.json").write_bytes(b"{}")
        adapters.append(adapter)
    found = [release_of(tiny, tokenizer), release_of(tiny, tokenizer, weights="int4")]
    found += [release_of(tiny, tokenizer, adapter) for adapter in adapters]
    assert len(set(found)) == 4
    assert release_of(tiny, tokenizer) == found[0]
