"""What a cluster needs, worked out by hand."""

from __future__ import annotations

import pytest

from ownlm.errors import UserError
from ownlm.model.families import config_from_user
from ownlm.train.plan.cluster import GPUS, PER_MACHINE, UTILISATION, Held, find_gpu, size_cluster

GPT3 = config_from_user({"family": "gpt3", "size": "175B"})


def test_the_175_billion_model_by_hand() -> None:
    """Brown et al. 2020: 175 billion parameters, 300 billion tokens, 3.14e23 operations (their table D.1)."""
    parameters = GPT3.parameters()
    assert parameters == pytest.approx(175e9, rel=0.01)
    found = size_cluster(GPT3, 300e9, 2048, 2048, GPUS["h100"])
    states = 16 * parameters
    # Beside its share of those, a GPU holds one gathered block and the inputs of 96 blocks of 2,048 tokens in bfloat16.
    working = 4 * parameters // 96 + 2 * 12288 * 96 * 2048
    least = states / (0.85 * 80e9 - working)
    assert found.fits and found.gpus % PER_MACHINE == 0
    assert least <= found.gpus <= 1.25 * least + PER_MACHINE
    operations = 300e9 * GPT3.flops_per_token(2048)
    assert operations == pytest.approx(3.14e23, rel=0.05)
    assert found.seconds == pytest.approx(operations / (found.gpus * 989e12 * UTILISATION), rel=1e-6)
    text = "\n".join(found.arithmetic)
    assert (
        f"{parameters:,}" in text and "16 bytes x 174.6B" in text and f"{found.gpus} GPUs x 989 TFLOP/s x 40%" in text
    )


def test_more_gpus_hold_less_each_and_take_less_time() -> None:
    few, many = (size_cluster(GPT3, 1e9, 2048, 2048, GPUS["h200"], count) for count in (64, 128))
    assert few.bytes_per_gpu > many.bytes_per_gpu and few.seconds == pytest.approx(2 * many.seconds)


def test_too_few_gpus_do_not_fit() -> None:
    found = size_cluster(GPT3, 1e9, 2048, 2048, GPUS["h100"], 8)
    assert not found.fits and (found.gpus, found.fewest) == (8, 56)


def test_an_adapter_on_one_gpu_by_hand() -> None:
    """Llama 2 7B with 40 million parameters of LoRA: 13.5 GB of frozen weights in bfloat16, 16 bytes a trained one."""
    llama, trained = config_from_user({"family": "llama", "size": "2-7b"}), 40_000_000
    parameters = llama.parameters()
    held = Held(2 * parameters + 4 * trained, 4 * trained, 8 * trained, trained)
    found = size_cluster(llama, 1e6, 2048, 2048, GPUS["rtx4090"], None, held)
    assert found.fits and found.gpus == found.fewest == 1
    # All weights and states, a block gathered, 32 inputs of blocks, and one block at work.
    assert found.bytes_per_gpu == pytest.approx(2 * parameters + 16 * trained + 0.43e9 + 0.54e9 + 0.42e9, rel=0.01)
    whole = size_cluster(llama, 1e6, 2048, 2048, GPUS["rtx4090"], 1)
    assert found.seconds == pytest.approx(whole.seconds * 2 / 3, rel=0.01)
    text = "\n".join(found.arithmetic)
    assert "1 GPU x 165 TFLOP/s x 40% = 66 TFLOP/s" in text and "of 40.0M trained parameters" in text


def test_a_block_that_fits_on_no_gpu_is_said() -> None:
    found = size_cluster(GPT3, 1e9, 65536, 2048, GPUS["rtx4090"])
    assert not found.fits and found.gpus == 0 and "smaller micro-batches" in found.arithmetic[-1]


def test_an_unknown_gpu_names_the_nearest() -> None:
    assert find_gpu("H100") is GPUS["h100"]
    with pytest.raises(UserError, match="unknown GPU 'h10'") as raised:
        find_gpu("h10")
    assert "h100" in (raised.value.hint or "")
