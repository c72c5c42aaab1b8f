"""GGUF files: small ones written here with the gguf package, from public models whose answers are the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from ownlm.errors import DamagedError, ModelError, OwnlmError
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.gguf import convert_gguf, read_gguf
from ownlm.tokens.tokenizer import load_tokenizer

TEXT = "the quick brown fox jumps over the lazy dog, and 12 345 more; the end is the beginning of the next\n" * 3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def byte_level() -> Backend:
    """A small byte-level BPE whose special tokens come first, as the public ones are made."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([TEXT], trainer)
    return backend


VOCABULARY = byte_level().get_vocab_size()

MODELS: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=True, **SIZES),
    "llama-untied": lambda: transformers.LlamaConfig(vocab_size=VOCABULARY, attention_bias=True, **SIZES),
    "llama-3": lambda: transformers.LlamaConfig(vocab_size=VOCABULARY, rope_parameters=LLAMA3, **SIZES),
    "qwen2": lambda: transformers.Qwen2Config(vocab_size=VOCABULARY, tie_word_embeddings=True, **SIZES),
    "qwen3": lambda: transformers.Qwen3Config(vocab_size=VOCABULARY, head_dim=32, **SIZES),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.2
    ),
}


def public_model(name: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(MODELS[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """The order of rows that llama.cpp's converter writes."""
    return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def stored_tensors(model: transformers.PreTrainedModel) -> dict[str, tuple[np.ndarray, str]]:
    """A public model's weights as llama.cpp's converter lays them out, with the public name of each."""
    config = model.config
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[config.model_type]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    result = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        if config.model_type == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
            values = interleaved(values, heads)
        if config.model_type == "gpt2" and any(part in name for part in ("c_attn.w", "c_proj.w", "c_fc.w")):
            values = values.T
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None, name
        result[stored] = (np.ascontiguousarray(values), name)
    return result


def write_gguf(path: Path, model: transformers.PreTrainedModel, quantization: Kind = Kind.F32, **metadata: Any) -> None:
    """Writes a public model as a GGUF file, its matrices quantized; the model then holds what they hold."""
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.model_type == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    add_tokenizer(writer, **metadata)
    for key, value in metadata.get("more", {}).items():
        kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        kinds[type(value)](key, value)
    for key, values in metadata.get("tensors", {}).items():
        writer.add_tensor(key, values)
    if config.model_type == "llama" and config.rope_parameters["rope_type"] == "llama3":
        factors = 1 / (500000.0 ** (np.arange(0, 16, 2) / 16)) / model.model.rotary_emb.inv_freq.numpy()
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    for stored, (values, name) in stored_tensors(model).items():
        if values.ndim < 2:
            writer.add_tensor(stored, values)
            continue
        blocks = gguf.quantize(values, quantization)
        writer.add_tensor(stored, blocks, raw_dtype=quantization)
        kept(model, name, gguf.dequantize(blocks, quantization))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def kept(model: transformers.PreTrainedModel, name: str, values: np.ndarray) -> None:
    """Puts the values that quantization left back into the public model, in its own layout."""
    parameter = model.get_parameter(name)
    values = values.reshape(parameter.shape) if "c_" not in name else values.T
    config = model.config
    if config.model_type == "llama" and (".q_proj." in name or ".k_proj." in name):
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        values = values.reshape(heads, -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def add_tokenizer(writer: gguf.GGUFWriter, pre: str | None = "gpt-2", **metadata: Any) -> None:
    values = json.loads(byte_level().to_str())["model"]
    tokens = sorted(values["vocab"], key=values["vocab"].__getitem__)
    writer.add_tokenizer_model(metadata.get("kind", "gpt2"))
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(metadata.get("tokens", tokens))
    writer.add_token_types(metadata.get("types", [3 if token in SPECIAL else 1 for token in tokens]))
    if scores := metadata.get("scores"):
        writer.add_token_scores(scores)
    else:
        writer.add_token_merges([" ".join(merge) for merge in values["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(metadata.get("eos", 0))
    writer.add_eot_token_id(2)
    writer.add_chat_template(TEMPLATE)


@torch.no_grad()
def largest_difference(path: Path, folder: Path, model: transformers.PreTrainedModel) -> float:
    convert_gguf(path, folder)
    document = torch.randint(0, VOCABULARY, (40,), generator=torch.Generator().manual_seed(3))
    ours = load_model_folder(folder, dtype=torch.float32).logits([document[:7].tolist(), document.tolist()])[1]
    return float((ours - model(document.unsqueeze(0)).logits[0]).abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_answers_as_its_public_model(name: str, tmp_path: Path) -> None:
    model = public_model(name)
    write_gguf(tmp_path / "model.gguf", model)
    assert largest_difference(tmp_path / "model.gguf", tmp_path / "model", model) <= 1e-4


QUANTIZED = [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.F16, Kind.BF16]


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_quantized_weights_keep_the_values_of_their_blocks(name: str, kind: Kind, tmp_path: Path) -> None:
    model = public_model(name)
    write_gguf(tmp_path / "model.gguf", model, kind)
    assert largest_difference(tmp_path / "model.gguf", tmp_path / "model", model) <= 1e-4


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_the_public_gguf_loader_agrees(name: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", public_model(name), Kind.Q8_0)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    assert largest_difference(tmp_path / "model.gguf", tmp_path / "model", reference.eval()) <= 1e-4


def dequantizable() -> list[Kind]:
    sizes = gguf.GGML_QUANT_SIZES
    kinds = []
    for kind, (block, size) in sizes.items():
        try:
            gguf.dequantize(np.zeros((1, 256 // block * size), dtype=np.uint8), kind)
        except (NotImplementedError, ValueError):
            continue
        kinds.append(kind)
    return kinds


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # random blocks hold scales that are no numbers
@pytest.mark.parametrize("kind", dequantizable(), ids=lambda kind: kind.name)
def test_every_type_that_the_package_dequantizes_is_read(kind: Kind, tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, tie_word_embeddings=True, **SIZES | {"intermediate_size": 256, "num_hidden_layers": 1}
    )
    model = transformers.LlamaForCausalLM(config)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    content = np.random.default_rng(0).integers(0, 256, (64, 256 // block * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for key, value in (
        ("block_count", 1),
        ("context_length", 8),
        ("embedding_length", 64),
        ("feed_forward_length", 256),
    ):
        writer.add_uint32(f"llama.{key}", value)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer)
    for stored, (values, _) in stored_tensors(model).items():
        if "ffn_down" in stored:
            writer.add_tensor(stored, content, raw_dtype=kind)
        else:
            writer.add_tensor(stored, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    state = read_gguf(tmp_path / "model.gguf")[1]
    expected = gguf.dequantize(content, kind).astype(np.float32).reshape(64, 256)
    assert np.array_equal(state["layers.0.feedforward.down.weight"].float().numpy(), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(Kind.BF16, "bfloat16"), (Kind.F16, "float16"), (Kind.F32, "float32"), (Kind.Q8_0, "float32")]
)
def test_the_folder_is_no_wider_than_exact(kind: Kind, dtype: str, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_config(MODELS["llama"]())
    write_gguf(tmp_path / "model.gguf", model, kind)
    convert_gguf(tmp_path / "model.gguf", tmp_path / "model", lineage={"package": "p==1"})
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == dtype
    lineage = json.loads((tmp_path / "model" / "ownlm.json").read_text())["lineage"]
    assert lineage["source"] == "model.gguf"
    assert len(lineage["sha256"]) == 64
    assert lineage["package"] == "p==1"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "model.gguf"
    write_gguf(path, public_model("llama"), Kind.Q8_0)
    return path


def test_the_tokenizer_comes_with_the_file(small: Path, tmp_path: Path) -> None:
    _, _, tokenizer = read_gguf(small)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 0, None)
    assert tokenizer.stop_ids == {0, 2}
    assert tokenizer.chat_template == TEMPLATE
    text = "<|im_start|>the quick dog 12345 naïve 漢字\n\n  x<|im_end|>"
    expected = byte_level()
    expected.add_special_tokens(SPECIAL)
    assert tokenizer.encode(text) == expected.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == text
    convert_gguf(small, tmp_path / "model")
    saved = load_tokenizer(tmp_path / "model")
    assert saved.encode(text) == tokenizer.encode(text)
    assert saved.stop_ids == tokenizer.stop_ids


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("gpt-2", "a 12345's  b", ["a", "Ġ12345", "'s", "Ġ", "Ġb"]),
        ("smollm", "a  12's", ["a", "ĠĠ", "1", "2", "'s"]),
        ("llama-bpe", "a 12345'S (b)\n\n", ["a", "Ġ", "123", "45", "'S", "Ġ(", "b", ")ĊĊ"]),
        ("qwen2", "a 12 (b)\n", ["a", "Ġ", "1", "2", "Ġ(", "b", ")Ċ"]),
        ("tekken", "aB 12", ["a", "B", "Ġ", "1", "2"]),
        (None, "a 12", ["a", "Ġ12"]),
    ],
)
def test_text_is_split_as_the_file_says(pre: str | None, text: str, pieces: list[str], tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", public_model("llama"), pre=pre)
    _, _, tokenizer = read_gguf(tmp_path / "model.gguf")
    assert [piece for piece, _ in tokenizer.backend.pre_tokenizer.pre_tokenize_str(text)] == pieces


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", public_model("llama"), pre="qwen9")
    with pytest.raises(ModelError, match=r"qwen9.*qwen2"):
        read_gguf(tmp_path / "model.gguf")


def sentencepiece() -> dict[str, Any]:
    """A vocabulary as SentencePiece's BPE writes it: bytes, characters, and words scored by when they were merged."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    characters = sorted(set(TEXT.replace("\n", "").replace(" ", "▁")))
    words = ["▁t", "he", "▁the", "er", "in", "▁q", "▁b", "▁l", "ver", "or", "▁f", "▁fo", "▁fox", "th", "▁o", "▁over"]
    types = [2, 3, 3, *[6] * 256, *[1] * (len(words) + len(characters))]
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))] + [-1e3 - i for i in range(len(characters))]
    return {"kind": "llama", "tokens": tokens + words + characters, "types": types, "scores": scores, "eos": 2}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="the quick fox over 漢é\n<s>", max_size=40).filter(lambda text: not text.startswith(" ")))
def test_sentencepiece_is_read_as_the_public_loader_reads_it(
    sentencepiece_pair: tuple[Any, transformers.PreTrainedTokenizerBase], text: str
) -> None:
    ours, reference = sentencepiece_pair
    ids = ours.encode(text)
    assert ids == reference.encode(text, add_special_tokens=False)
    assert ours.decode(ids, skip_special=False) == text


@pytest.fixture(scope="module")
def sentencepiece_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, transformers.PreTrainedTokenizerBase]:
    folder = tmp_path_factory.mktemp("sentencepiece")
    metadata = sentencepiece()
    config = transformers.LlamaConfig(vocab_size=len(metadata["tokens"]), tie_word_embeddings=True, **SIZES)
    write_gguf(folder / "model.gguf", transformers.LlamaForCausalLM(config), pre=None, **metadata)
    ours = read_gguf(folder / "model.gguf")[2]
    assert ours.adds_bos
    return ours, transformers.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_a_clear_error(small: Path, tmp_path: Path, share: float) -> None:
    whole = small.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises((DamagedError, ModelError)) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(4, 20000), value=st.integers(0, 255))
def test_a_damaged_header_never_ends_in_a_traceback(small: Path, tmp_path: Path, place: int, value: int) -> None:
    content = bytearray(small.read_bytes())
    content[place] = value
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    try:
        read_gguf(path)
    except OwnlmError as error:
        assert error.message


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
def test_a_factor_without_a_type_stretches_positions_linearly(key: str, tmp_path: Path) -> None:
    # As llama.cpp has it: without rope.scaling.type, the type is linear.
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, rope_parameters=rope, **SIZES)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    write_gguf(tmp_path / "model.gguf", model, more={f"llama.{key}": 4.0})
    assert largest_difference(tmp_path / "model.gguf", tmp_path / "model", model) < 1e-4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"llama.attention.causal": False}, "both ways"),
        ({"llama.logit_scale": 2.0}, "logit_scale"),
        ({"llama.attention.scale": 0.5}, "attention.scale"),
        ({"llama.final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"llama.rope.scaling.type": "yarn"}, "'yarn'"),
        ({"llama.rope.dimension_count": 8}, "a part of each head"),
    ],
)
def test_what_metadata_says_and_we_do_not_have_is_refused(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", public_model("llama"), more=more)
    with pytest.raises((ModelError, DamagedError), match=said) as caught:
        read_gguf(tmp_path / "model.gguf")
    assert str(caught.value.where).startswith(str(tmp_path / "model.gguf"))


def test_rotary_frequencies_of_another_head_are_refused(tmp_path: Path) -> None:
    tensors = {"rope_freqs.weight": np.full(5, 2, np.float32)}
    write_gguf(tmp_path / "model.gguf", public_model("llama"), tensors=tensors)
    with pytest.raises(ModelError, match="5 rotary frequencies"):
        read_gguf(tmp_path / "model.gguf")


@pytest.mark.parametrize("heads", [3, 5, 2**31])
def test_heads_that_do_not_fit_the_tensors_are_refused(heads: int, tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    reader = gguf.GGUFReader(path, "r+")
    reader.fields["llama.attention.head_count"].parts[-1][0] = heads
    reader.data.flush()
    with pytest.raises((ModelError, DamagedError)) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)


def test_what_is_no_gguf_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("hello")
    with pytest.raises(ModelError, match="not a GGUF file"):
        read_gguf(tmp_path / "model.gguf")


def test_an_architecture_we_do_not_have_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"mamba.*llama"):
        read_gguf(tmp_path / "model.gguf")
