"""What a model's page says, against the public implementation: attention, streams, surprise, each layer's prediction."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ownlm.errors import ModelError, UserError
from ownlm.evaluate.attention_maps import WatchedAttention, find_targets, visible_keys
from ownlm.evaluate.explain import MOST_TOKENS, as_bytes, explain, streams
from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

TOLERANCE = 1e-5
VOCAB = 97
NAMED = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 72,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
GROUPED = {**NAMED, "num_key_value_heads": 2}
GEMMA2 = {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0}
GEMMA2 |= {"final_logit_softcapping": 3.0, "sliding_window": 6}
GEMMA3 = {**GROUPED, "head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16}
GEMMA3 |= {"layer_types": ["sliding_attention", "full_attention"]}
QWEN = {**GROUPED, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
GPT2 = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}
NEO = {"vocab_size": VOCAB, "hidden_size": 32, "max_position_embeddings": 64, "initializer_range": 0.2}
NEO |= {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 6}
DISTILBERT = {"vocab_size": VOCAB, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 72}
DISTILBERT |= {"max_position_embeddings": 64, "initializer_range": 0.2}
REFERENCES = {
    "gpt2": transformers.GPT2Config(**GPT2),
    "llama-grouped": transformers.LlamaConfig(**GROUPED),
    "mistral-window": transformers.MistralConfig(**GROUPED, sliding_window=6),
    "qwen2-windows": transformers.Qwen2Config(**QWEN),
    "qwen3": transformers.Qwen3Config(**GROUPED, head_dim=16),
    "gpt-neo": transformers.GPTNeoConfig(**NEO),
    "gpt-neox": transformers.GPTNeoXConfig(**NAMED),
    "gpt-neox-sequential": transformers.GPTNeoXConfig(**NAMED, use_parallel_residual=False, rotary_pct=1.0),
    "gemma": transformers.GemmaConfig(**GROUPED, head_dim=16),
    "gemma2-softcaps": transformers.Gemma2Config(**GEMMA2),
    "gemma3-windows": transformers.Gemma3TextConfig(**GEMMA3),
    "bert": transformers.BertConfig(**NAMED),
    "roberta": transformers.RobertaConfig(**NAMED, type_vocab_size=1),
    "distilbert": transformers.DistilBertConfig(**DISTILBERT),
}
MASKED = ("bert", "roberta", "distilbert")
TEXT = "The model reads what it has seen before, and the model reads what it writes."


def document() -> list[int]:
    # Not the tokens by which a reference would take a place for padding.
    generator = torch.Generator().manual_seed(1)
    return torch.randint(5, VOCAB, (23,), generator=generator).tolist()


@pytest.fixture(params=REFERENCES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Transformer, transformers.PreTrainedModel]:
    """The same random weights as ours and as the public class, biases and norms among them."""
    torch.manual_seed(0)
    kind = transformers.AutoModelForMaskedLM if request.param in MASKED else transformers.AutoModelForCausalLM
    model = kind.from_config(REFERENCES[request.param])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    loading = {"dtype": torch.float32, "attn_implementation": "eager"}
    return load_model_folder(tmp_path).eval(), kind.from_pretrained(tmp_path, **loading).eval()


def test_attention_and_streams_are_the_public_implementations(
    pair: tuple[Transformer, transformers.PreTrainedModel],
) -> None:
    ours, reference = pair
    ids = document()
    with torch.no_grad():
        expected = reference(torch.tensor([ids]), output_attentions=True, output_hidden_states=True)
    found: dict[int, torch.Tensor] = {}
    context = WatchedAttention(ours.config.causal, lambda layer, weights, visible: found.update({layer: weights}))
    with torch.inference_mode(), streams(ours) as taken:
        last = ours(torch.tensor(ids), torch.arange(len(ids)), context)
    assert len(found) == len(expected.attentions) == ours.config.layers
    for layer, weights in enumerate(expected.attentions):
        assert float((found[layer] - weights[0]).abs().max()) <= TOLERANCE
    # The reference's last state stands after the final norm.
    for state, hidden in zip([*taken[:-1], last], expected.hidden_states, strict=True):
        assert float((state - hidden[0]).abs().max()) <= TOLERANCE
    with torch.inference_mode():
        assert float((ours.logits_of(last) - expected.logits[0]).abs().max()) <= 10 * TOLERANCE


def test_hooks_are_gone_afterwards(make_model: Callable[..., Transformer]) -> None:
    model = make_model("llama")
    with streams(model):
        pass
    assert not any(module._forward_hooks for module in model.modules())


@pytest.fixture
def causal(corpus: Path) -> tuple[Transformer, Tokenizer, transformers.PreTrainedModel]:
    public = transformers.AutoModelForCausalLM.from_pretrained(corpus / "base", dtype=torch.float32).eval()
    return load_model_folder(corpus / "base"), load_tokenizer(corpus / "base"), public


@pytest.fixture
def masked(encoder: Path, tmp_path: Path) -> tuple[Transformer, Tokenizer, transformers.PreTrainedModel]:
    folder = with_head(encoder, tmp_path / "masked", "masked")
    public = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    return load_model_folder(folder), load_tokenizer(folder), public


def with_head(encoder: Path, folder: Path, head: str, **changes: Any) -> Path:
    config = read_config(encoder).model_copy(update={"head": head, **changes})
    save_model_folder(load_model_folder(encoder, config=config, seed=3), folder, tokenizer=load_tokenizer(encoder))
    return folder


def test_a_causal_models_surprise_ranks_and_next_tokens(causal: Any) -> None:
    model, tokenizer, public = causal
    found = explain(model, tokenizer, TEXT, name="tiny", count=4)
    assert found.ids == tokenizer.encode(TEXT) and "".join(found.tokens) == TEXT
    with torch.no_grad():
        rows = public(torch.tensor([found.ids])).logits[0].double().log_softmax(-1)
    assert found.surprisal[0] is None
    for position in range(1, len(found.ids)):
        row, right = rows[position - 1], found.ids[position]
        place = found.by_position[position]
        assert place.surprisal == pytest.approx(-float(row[right]) / math.log(2), abs=1e-4)
        assert place.right == pytest.approx(float(row[right].exp()), abs=1e-6)
        order = row.argsort(descending=True).tolist()
        assert place.rank == order.index(right) + 1
        assert [one.id for one in place.top] == order[:4]
    assert [one.id for one in found.next] == rows[-1].topk(4).indices.tolist()
    assert [one.probability for one in found.next] == pytest.approx(rows[-1].topk(4).values.exp().tolist(), abs=1e-6)
    assert found.bits == pytest.approx(np.mean([bits for bits in found.surprisal if bits is not None]))


def test_each_layers_prediction_is_its_stream_through_norm_and_head(causal: Any) -> None:
    model, tokenizer, public = causal
    found = explain(model, tokenizer, TEXT)
    with torch.no_grad():
        result = public(torch.tensor([found.ids]), output_hidden_states=True)
        states = [public.lm_head(public.model.norm(state[0])) for state in result.hidden_states[:-1]]
    # The public list ends after the norm.
    for layer, logits in zip(found.layers, [*states, result.logits[0]], strict=True):
        chances = logits.double().softmax(-1)
        for guess, row, right in zip(layer, chances, [*found.ids[1:], None], strict=True):
            assert guess.best.id == int(row.argmax())
            assert guess.best.probability == pytest.approx(float(row.max()), abs=1e-6)
            if right is None:
                assert guess.rank is None and guess.right is None
            else:
                assert guess.rank == int((row > row[right]).sum()) + 1
                assert guess.right == pytest.approx(float(row[right]), abs=1e-6)


def test_a_masked_models_surprise_is_of_each_token_masked_alone(masked: Any) -> None:
    model, tokenizer, public = masked
    found = explain(model, tokenizer, "the model reads what it has seen", count=3)
    assert found.ids[0] == tokenizer.cls_id and found.ids[-1] == tokenizer.sep_id
    assert found.surprisal[0] is None and found.surprisal[-1] is None and not found.next
    for position in range(1, len(found.ids) - 1):
        hidden = [*found.ids]
        hidden[position] = tokenizer.mask_id
        with torch.no_grad():
            result = public(torch.tensor([hidden]), output_hidden_states=True)
        row = result.logits[0, position].double().log_softmax(-1)
        place = found.by_position[position]
        assert place.surprisal == pytest.approx(-float(row[found.ids[position]]) / math.log(2), abs=1e-4)
        assert [one.id for one in place.top] == row.topk(3).indices.tolist()
        for layer, state in zip(found.layers, result.hidden_states, strict=True):
            with torch.no_grad():
                chances = public.cls(state)[0, position].softmax(-1)
            guess = layer[position - 1]
            assert guess.best.id == int(chances.argmax())
            assert guess.right == pytest.approx(float(chances[found.ids[position]]), abs=1e-6)


@pytest.mark.parametrize("name", ["causal", "masked"])
def test_the_maps_and_measures_are_those_of_the_weights(name: str, request: pytest.FixtureRequest) -> None:
    model, tokenizer, public = request.getfixturevalue(name)
    found = explain(model, tokenizer, "the model reads the model reads the text")
    public.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = public(torch.tensor([found.ids]), output_attentions=True).attentions
    count = len(found.ids)
    assert len(found.heads) == model.config.layers * model.config.heads and found.shown == count
    names = [pattern.name for pattern in found.patterns]
    for head in found.heads:
        weights = attentions[head.layer][0, head.head].numpy()
        # A byte holds a square root.
        assert np.abs((head.weights / 255.0) ** 2 - weights).max() <= 0.0041
        previous = np.mean([weights[i, i - 1] for i in range(2, count)])
        assert head.measures[names.index("previous token")] == pytest.approx(previous, abs=1e-5)
        sink = np.mean([weights[i, 0] for i in range(2, count)])
        assert head.measures[names.index("first token")] == pytest.approx(sink, abs=1e-5)


def targets_by_hand(ids: list[int], causal: bool, framed: list[int]) -> dict[str, set[tuple[int, int]]]:
    """(query, key) of each pattern, one at a time."""
    count = len(ids)
    found: dict[str, set[tuple[int, int]]] = {}
    for i in range(count):
        for j in range(count):
            kinds = {
                "first token": j == 0 and i > 1,
                "previous token": j == i - 1 and i > 1,
                "itself": j == i and i > 0,
                "same token": ids[i] == ids[j] and abs(i - j) > 1 and j > 0 and not {i, j} & set(framed),
            }
            if causal:
                kinds["same token"] &= j < i
                kinds["after the same token"] = 0 < j < i - 1 and ids[j - 1] == ids[i]
            else:
                kinds["next token"] = j == i + 1 and i > 0
                kinds["end token"] = j in framed and i < min(framed, default=0) - 1
            for name, is_one in kinds.items():
                if is_one:
                    found.setdefault(name, set()).add((i, j))
    return found


@pytest.mark.parametrize(("causal", "framed"), [(True, []), (False, [9])])
def test_patterns_are_looked_for_where_they_stand(causal: bool, framed: list[int]) -> None:
    ids = [7, 1, 2, 3, 1, 2, 2, 7, 1, 9]
    targets = find_targets(ids, causal, framed)
    expected = targets_by_hand(ids, causal, framed)
    weights = torch.rand(3, 10, 10, generator=torch.Generator().manual_seed(0)).softmax(-1)
    measured = targets.measure(weights)
    assert {pattern.name for pattern in targets.patterns} == set(expected)
    for place, pattern in enumerate(targets.patterns):
        pairs = expected[pattern.name]
        queries = sorted({i for i, _ in pairs})
        assert pattern.places == len(queries)
        for head in range(3):
            shares = [sum(float(weights[head, i, j]) for i2, j in pairs if i2 == i) for i in queries]
            assert float(measured[head, place]) == pytest.approx(np.mean(shares), abs=1e-6)


def test_a_head_is_named_after_what_it_does_and_no_more() -> None:
    ids = [1, 2, 3, 4, 5, 2, 3, 4, 6, 2]
    targets = find_targets(ids, causal=True)
    names = [pattern.name for pattern in targets.patterns]
    visible = visible_keys(10, True, None)
    even = visible.float() / visible.sum(-1, keepdim=True)
    previous = torch.diag(torch.ones(9), -1)
    previous[0, 0] = 1
    first = torch.zeros(10, 10)
    first[:, 0] = 1
    induction = first.clone()
    for i, j in ((5, 2), (6, 3), (7, 4), (9, 2)):
        induction[i] = torch.eye(10)[j]
    weights = torch.stack([even, previous, first, induction])
    found = [[names[p] for p in one] for one in targets.names(targets.measure(weights), visible)]
    assert found[0] == [] and found[1] == ["previous token"] and found[2] == ["first token"]
    # It looks at the first token where nothing came before, which is half of the places it is judged by.
    assert found[3] == ["after the same token", "first token"]
    # With fewer than three places to judge by, nothing is named.
    short = find_targets([1, 2, 3, 2], causal=True)
    assert short.names(short.measure(torch.eye(4).unsqueeze(0)), visible_keys(4, True, None)) == [[2]]
    shorter = find_targets([1, 2, 3], causal=True)
    assert shorter.names(shorter.measure(torch.eye(3).unsqueeze(0)), visible_keys(3, True, None)) == [[]]


def test_bytes_keep_small_weights_apart() -> None:
    weights = torch.linspace(0, 1, 10_001)
    kept = (as_bytes(weights) / 255.0) ** 2
    assert np.abs(kept - weights.numpy()).max() <= 0.0040
    assert as_bytes(torch.tensor([0.0, 1e-5, 1e-4, 1.0])).tolist() == [0, 1, 3, 255]


def test_of_a_long_text_the_first_tokens_are_mapped(corpus: Path) -> None:
    tokenizer = load_tokenizer(corpus / "base")
    shape = {"family": "llama", "layers": 12, "width": 64, "heads": 16, "vocab_size": 320, "max_positions": 512}
    model = random_model(config_from_user(shape), 1)
    found = explain(model, tokenizer, "the model reads. " * 30)
    assert len(found.ids) > found.shown == int((2_000_000 / 192) ** 0.5)
    assert all(head.weights.shape == (found.shown, found.shown) for head in found.heads)


def test_classes_are_told_and_nothing_is_predicted(encoder: Path, tmp_path: Path) -> None:
    folder = with_head(encoder, tmp_path / "classes", "classify", labels=("bad", "good"))
    found = explain(load_model_folder(folder), load_tokenizer(folder), "it learns by seen text")
    assert found.kind == "classes" and set(found.classes) == {"bad", "good"}
    assert sum(found.classes.values()) == pytest.approx(1)
    assert set(found.surprisal) == {None} and not found.layers and len(found.heads) == 8


def test_json_is_aligned_with_the_tokens(causal: Any, masked: Any) -> None:
    for model, tokenizer, _ in (causal, masked):
        value = explain(model, tokenizer, "the model reads what it writes").as_json()
        assert len(value["tokens"]) == len(value["ids"]) == len(value["surprisal"]) == len(value["top"])
        assert all(bool(top) == (bits is not None) for top, bits in zip(value["top"], value["surprisal"], strict=True))
        assert len(value["layers"]) == model.config.layers + 1
        assert len(value["heads"]) == model.config.layers * model.config.heads


def test_one_token_is_enough(causal: Any) -> None:
    model, tokenizer, _ = causal
    found = explain(model, tokenizer, "T")
    assert len(found.ids) == 1 and found.surprisal == [None] and len(found.next) == 10 and found.bits is None


def test_parts_of_characters_are_told_by_their_bytes(causal: Any) -> None:
    model, tokenizer, _ = causal
    found = explain(model, tokenizer, "é 日本", count=model.config.vocab_size)
    assert "".join(found.tokens) == "é 日本"
    texts = {one.id: one.text for one in found.next}
    vocabulary = tokenizer.backend.get_vocab()
    assert texts[vocabulary["æ"]] == "\\xe6" and texts[vocabulary["a"]] == "a" and texts[vocabulary["Ċ"]] == "\n"
    assert not any("\ufffd" in text or not text for text in texts.values())
    # The model has more rows than its tokenizer has tokens.
    assert texts[model.config.vocab_size - 1] == f"<{model.config.vocab_size - 1}>"


def test_what_cannot_be_explained_is_named(causal: Any, encoder: Path, tmp_path: Path, corpus: Path) -> None:
    model, tokenizer, _ = causal
    with pytest.raises(UserError, match="is empty"):
        explain(model, tokenizer, "  ")
    with pytest.raises(UserError, match="the model reads at most 128"):
        explain(model, tokenizer, "word " * 400)
    shape = {"family": "llama", "layers": 1, "width": 32, "heads": 2, "vocab_size": 320, "max_positions": 4096}
    with pytest.raises(UserError, match=f"at most {MOST_TOKENS} are explained"):
        explain(random_model(config_from_user(shape), 1), tokenizer, "word " * 400)
    with pytest.raises(ModelError, match="nothing to explain here: this model has no head"):
        explain(load_model_folder(encoder), load_tokenizer(encoder), "text")
    with torch.no_grad():
        model.layers[1].feedforward.down.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="no numbers"):
        explain(model, tokenizer, TEXT)
