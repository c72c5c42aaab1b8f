"""Classification: the public loss and gradients, the same for any split, and errors before the first step."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from ownlm.errors import ConfigError, DataError, UserError
from ownlm.model.checkpoint import read_config, save_model_folder, state_to_hf
from ownlm.model.families import config_from_user
from ownlm.tokens.shards import ShardWriter
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.objectives.classify import Classify, ClassifyConfig, balanced_weights

WORDS = ["the", "model", "reads", "text", "learns", "token", "by", "word", "and", "writes", "what", "it", "has"]
CLASSES = ["a", "b", "c"]


def rows(count: int, seed: int, problem: str = "single", pair: bool = False) -> list[dict[str, Any]]:
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(2, 25)))

    made = []
    for _ in range(count):
        row: dict[str, Any] = {"sentence1": text(), "sentence2": text()} if pair else {"text": text()}
        if problem == "single":
            row["label"] = draw.choices(CLASSES, [6, 3, 1])[0]
        elif problem == "multi":
            row["label"] = [name for name in CLASSES if draw.random() < 0.4]
        else:
            row |= {"score": draw.gauss(2, 1), "other": draw.gauss(0, 3)}
        made.append(row)
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def options(problem: str) -> dict[str, Any]:
    return {
        "kind": "classify",
        "problem": problem,
        **({"label": ["score", "other"]} if problem == "regression" else {}),
    }


def as_tensor(problem: str, labels: tuple[str, ...], rows: list[dict[str, Any]]) -> Tensor:
    """The labels as the public model takes them."""
    if problem == "single":
        return torch.tensor([labels.index(row["label"]) for row in rows])
    if problem == "multi":
        return torch.tensor([[float(name in row["label"]) for name in labels] for row in rows])
    return torch.tensor([[row[name] for name in labels] for row in rows])


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("problem", ["single", "multi", "regression"])
def test_the_loss_and_the_gradients_are_the_public_ones(
    problem: str, pair: bool, encoder: Path, ready: Callable[..., Any], equal: Callable[..., None], tmp_path: Path
) -> None:
    made = rows(24, 1, problem, pair)
    here = ready(write(tmp_path / "rows.jsonl", made), **options(problem))
    found = here.step(here.loader.micro_batches(0, 300))
    save_model_folder(here.model, tmp_path / "model", tokenizer=load_tokenizer(encoder))
    public = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    names = ["sentence1", "sentence2"] if pair else ["text"]
    texts = [[row[name] for row in made] for name in names]
    batch = public(*texts, padding=True, return_token_type_ids=True, return_tensors="pt")
    loss = reference(**batch, labels=as_tensor(problem, here.model.config.labels, made)).loss
    loss.backward()
    expected = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    assert reference.config.problem_type.startswith(problem)
    assert tuple(reference.config.id2label.values()) == here.model.config.labels
    ours = state_to_hf(here.model.state_dict() | found[1], here.model.config)
    equal((found[0], {name: ours[name] for name in expected}), (loss.item(), expected))


@pytest.mark.parametrize(
    ("problem", "more"),
    [
        ("single", {}),
        ("single", {"weights": "balanced", "smoothing": 0.1}),
        ("multi", {"weights": "balanced"}),
        ("regression", {}),
    ],
)
def test_any_split_and_any_workers_give_one_step(
    problem: str, more: dict[str, Any], ready: Callable[..., Any], equal: Callable[..., None], tmp_path: Path
) -> None:
    here = ready(write(tmp_path / "rows.jsonl", rows(30, 2, problem)), **options(problem), **more)
    whole = here.step([here.loader.batch(0)])
    for size in (1, 40, 150):
        equal(here.step(here.loader.micro_batches(0, size)), whole)
    for workers in (2, 5):
        shares = [here.loader.batch(0, worker, workers) for worker in range(workers)]
        equal(here.step(shares), whole)
    # A worker that waits for the others adds nothing.
    idle = here.objective.batch(here.loader.batch(0), 0).untrained()
    assert here.objective.units(idle) == 0 and here.objective.loss(here.model, idle, 1.0).item() == 0
    assert here.objective.trained_tokens(idle).sum() == 0
    batch = here.objective.batch(here.loader.batch(0), 0)
    assert here.objective.trained_tokens(batch).tolist() == np.diff(batch.document_starts).tolist()


def test_classes_that_all_weigh_nothing_are_refused() -> None:
    config = ClassifyConfig(labels=["a", "b"], weights={"a": 0.0, "b": 0.0})
    base = config_from_user({"family": "bert", "size": "tiny"})
    with pytest.raises(ConfigError, match="every class weighs 0") as caught:
        Classify(config, 0).shape(base, [])
    assert caught.value.where == "objective.weights"
    assert Classify(ClassifyConfig(labels=["a", "b"], weights={"a": 0.0}), 0).shape(base, []).labels == ("a", "b")


@pytest.mark.parametrize(
    ("weights", "where", "message"),
    [
        ([1, 2], "objective.weights", "a mapping of keys to values"),
        ({"a": "x"}, "objective.weights.a", "a valid number"),
        ({"a": -1}, "objective", "a finite number of at least 0"),
        ("even", "objective.weights", "'even' is not one of the choices"),
    ],
)
def test_weights_that_are_none_say_what_they_should_be(weights: Any, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_train_config({"base": "x", "data": {"train": "y"}, "objective": {"kind": "classify", "weights": weights}})
    assert message in caught.value.message and caught.value.where == where


@pytest.mark.parametrize("key", ["data.train", "data.validation"])
def test_texts_that_all_weigh_nothing_are_refused(
    key: str, encoder: Path, train: Callable[..., Any], tmp_path: Path
) -> None:
    light = str(write(tmp_path / "light.jsonl", [{"text": "the model", "label": "a"}] * 3))
    both = str(write(tmp_path / "both.jsonl", [{"text": "the text", "label": label} for label in "ab"]))
    data = {"train": both, "validation": both, "length": 16, key.partition(".")[2]: light}
    objective = {"kind": "classify", "labels": ["a", "b"], "weights": {"a": 0}}
    settings = {"base": str(encoder), "out": str(tmp_path / "run"), "data": data, "objective": objective}
    with pytest.raises(ConfigError, match=f"every text of {key} has a class that weighs 0") as caught:
        train(settings | {"batch_tokens": 64}, steps=1)
    assert caught.value.where == "objective.weights"


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, "balanced", {"b": 3.0, "c": 0.0}])
def test_weights_and_smoothing_are_those_of_the_frameworks_loss(
    weights: Any, smoothing: float, ready: Callable[..., Any], tmp_path: Path
) -> None:
    made = rows(40, 3)
    here = ready(write(tmp_path / "rows.jsonl", made), kind="classify", weights=weights, smoothing=smoothing)
    batches = [here.objective.batch(batch, None) for batch in here.loader.micro_batches(0, 200)]
    loss, logits, labels = here.objective._read_all(here.model, batches)
    given = [CLASSES.index(row["label"]) for row in made]
    assert sorted(labels[:, 0].tolist()) == sorted(given)
    tensor = None
    if weights == "balanced":
        balanced = compute_class_weight("balanced", classes=np.arange(3), y=np.array(given))
        tensor = torch.tensor(balanced, dtype=torch.float32)
    elif weights is not None:
        tensor = torch.tensor([1.0, 3.0, 0.0])
    expected = torch.nn.CrossEntropyLoss(weight=tensor, label_smoothing=smoothing)(logits, labels[:, 0])
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert here.step(here.loader.micro_batches(0, 200))[0] == pytest.approx(expected.item(), rel=1e-5)


def test_several_classes_weigh_and_smooth_as_the_framework_does(ready: Callable[..., Any], tmp_path: Path) -> None:
    made = rows(40, 4, "multi")
    more = {"weights": "balanced", "smoothing": 0.1}
    here = ready(write(tmp_path / "rows.jsonl", made), kind="classify", problem="multi", **more)
    batches = [here.objective.batch(batch, None) for batch in here.loader.micro_batches(0, 200)]
    loss, logits, labels = here.objective._read_all(here.model, batches)
    have = as_tensor("multi", ("a", "b", "c"), made).sum(0)
    targets = labels * 0.9 + 0.05
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=(40 - have) / have)(logits, targets)
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_decoder_learns_from_texts_of_one_token(
    ready_for: Callable[..., Any], settings: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    base = train(settings, steps=1).run.model
    made = [{"text": text, "label": text} for text in "ab"]
    here = ready_for(base, write(tmp_path / "rows.jsonl", made), 64, kind="classify")
    (batch,) = here.loader.micro_batches(0, 64)
    assert batch.document_starts == (0, 1, 2)
    assert here.objective.units(here.objective.batch(batch, 0)) == 2


def test_a_class_that_nobody_has_counts_as_others_do() -> None:
    assert balanced_weights(np.array([3.0, 1.0, 0.0]), 4, "single").tolist() == pytest.approx([4 / 9, 4 / 3, 1])
    assert balanced_weights(np.array([3.0, 4.0, 0.0]), 4, "multi").tolist() == pytest.approx([1 / 3, 1, 1])


def test_labels_and_heads(encoder: Path, tmp_path: Path) -> None:
    path = str(write(tmp_path / "rows.jsonl", rows(30, 5)))
    base = read_config(encoder)
    objective = Classify(ClassifyConfig(), 0)
    shape = objective.shape(base, [path])
    assert (shape.head, shape.labels, shape.problem, shape.pool) == ("classify", ("a", "b", "c"), "single", "first")
    assert objective.notes == [f"{path}: text from 'text', labels from 'label'", "3 classes: a, b, c"]
    assert Classify(ClassifyConfig(labels=["c", "a", "b"]), 0).shape(base, [path]).labels == ("c", "a", "b")
    # YAML reads 0 and true as a number and a truth value.
    config = read_train_config(
        {
            "base": "x",
            "data": {"train": path},
            "objective": {"kind": "classify", "labels": [0, True], "weights": {0: 2}},
        }
    )
    assert config.objective.labels == ["0", "true"] and config.objective.weights == {"0": 2.0}  # type: ignore[union-attr]
    # A head that knows the classes stays as it is, in its own order.
    known = shape.model_copy(update={"labels": ("c", "b", "a", "d")})
    assert Classify(ClassifyConfig(), 0).shape(known, [path]) == known
    other = shape.model_copy(update={"labels": ("a", "b")})
    assert Classify(ClassifyConfig(), 0).shape(other, [path]).labels == ("a", "b", "c")
    decoder = base.model_copy(update={"causal": True, "head": "lm", "pool": "last"})
    assert Classify(ClassifyConfig(), 0).shape(decoder, [path]).pool == "last"


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({"labels": ["a", "a"]}, "objective", "a label is named twice"),
        ({"labels": ["a"]}, "objective", "one class leaves nothing to tell apart"),
        ({"problem": "regression", "weights": "balanced"}, "objective", "a regression's numbers are its label columns"),
        ({"problem": "regression", "smoothing": 0.1}, "objective", "a regression's numbers are its label columns"),
        ({"problem": "regression", "labels": ["x"]}, "objective", "a regression's numbers are its label columns"),
        ({"weights": {"a": -1}}, "objective", "must be a finite number of at least 0"),
        ({"label": ["a", "b"]}, "objective", "one class a text needs one label column"),
        ({"problem": "several"}, "objective.problem", "'several' is not one of the choices"),
        ({"lables": []}, "objective.lables", "unknown key 'lables'"),
        ({"smoothing": 1}, "objective.smoothing", "less than 1"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_train_config({"base": "x", "data": {"train": "y"}, "objective": {"kind": "classify", **values}})
    assert caught.value.where == where


def test_a_weight_for_no_class_is_named(ready: Callable[..., Any], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", rows(30, 6))
    with pytest.raises(ConfigError, match="there is no class 'd'") as caught:
        ready(path, kind="classify", weights={"d": 2})
    assert caught.value.where == "objective.weights"


def test_measures_of_each_problem(ready: Callable[..., Any], tmp_path: Path) -> None:
    names = {
        "single": ["loss", "accuracy", "macro_f1", "matthews"],
        "multi": ["loss", "micro_f1", "macro_f1"],
        "regression": ["loss", "mean_squared_error", "pearson", "spearman"],
    }
    for problem, expected in names.items():
        here = ready(write(tmp_path / f"{problem}.jsonl", rows(30, 7, problem)), **options(problem))
        batches = [here.objective.batch(batch, None) for batch in here.loader.micro_batches(0, 100)]
        measured = here.objective.validate(here.model, batches)
        assert list(measured) == expected
        if problem == "regression":
            assert measured["mean_squared_error"] == pytest.approx(measured["loss"], rel=1e-5)
        assessed = here.objective.assess(here.model, batches)
        confusion = assessed.pop("confusion", None)
        assert assessed == measured and (confusion is not None) == (problem == "single")
        if confusion:
            table = np.array(confusion["table"])
            assert table.sum() == 30 and np.trace(table) / 30 == pytest.approx(measured["accuracy"])
        assert here.objective.validate(here.model, []) == here.objective.assess(here.model, []) == {}


def settings(encoder: Path, tmp_path: Path, made: list[dict[str, Any]], held: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "out": str(tmp_path / "run"),
        "base": str(encoder),
        "objective": {"kind": "classify"},
        "data": {
            "train": str(write(tmp_path / "train.jsonl", made)),
            "validation": str(write(tmp_path / "held.jsonl", held)),
        },
        "batch_tokens": 256,
        "steps": 60,
        "precision": "fp32",
        "optimizer": {"lr": 3e-3},
        "validate": {"every": 20},
    }


def told_apart(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts whose class is whether they begin with a word."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        label = draw.choice(["no", "yes"])
        first = "writes" if label == "yes" else "reads"
        made.append({"text": " ".join([first, *draw.choices(WORDS, k=draw.randint(1, 8))]), "label": label})
    return made


def test_a_run_learns_what_can_be_learned(
    encoder: Path, tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    done = train(settings(encoder, tmp_path, told_apart(200, 1), told_apart(60, 2)))
    last = [row for row in done.run.metrics if "val_loss" in row][-1]
    assert last["val_accuracy"] > 0.97 and last["val_matthews"] > 0.9
    model = transformers.AutoModelForSequenceClassification.from_pretrained(done.run.model)
    assert model.config.id2label == {0: "no", 1: "yes"}
    ledger = json.loads((done.run.folder / "ledger.json").read_text())["total"]
    assert ledger["masked"] == 0 and ledger["trained"] + ledger["unseen"] == ledger["tokens"]


def test_what_is_cut_is_counted_and_what_is_known_of_the_result_is_kept(
    encoder: Path, tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    config = settings(encoder, tmp_path, told_apart(40, 3), told_apart(20, 4))
    done = train(config, steps=4, data__length=8, data__too_long="cut")
    assert any("labels from 'label'" in line for line in done.said) and "2 classes: no, yes" in done.said
    tokenizer = load_tokenizer(encoder)
    lengths = [len(tokenizer.encode(row["text"])) + 2 for row in told_apart(40, 3)]
    total = json.loads((done.run.folder / "ledger.json").read_text())["total"]
    assert total["truncated"] == sum(max(0, length - 8) for length in lengths) > 0
    parts = ("trained", "masked", "truncated", "unseen")
    assert total["tokens"] == sum(total[part] for part in parts)
    held = json.loads((done.run.folder / "held_out.json").read_text())
    assert held["confusion"]["labels"] == ["no", "yes"] and np.sum(held["confusion"]["table"]) == 20
    lineage = json.loads((done.run.model / "ownlm.json").read_text())["lineage"]["held_out"]
    assert lineage == {name: value for name, value in held.items() if name != "confusion"}
    assert "On the held-out data" in (done.run.folder / "report.html").read_text()


def test_nothing_else_is_cut() -> None:
    values = {"base": "x", "data": {"train": "y", "too_long": "cut"}, "objective": {"kind": "chat"}}
    with pytest.raises(ConfigError, match="cut is for classification alone"):
        read_train_config(values)


@pytest.mark.parametrize("held", [[{"text": "it has", "label": "maybe"}], [{"text": "it has", "lable": "no"}]])
def test_wrong_validation_data_is_found_before_the_first_step(
    held: list[dict[str, Any]],
    encoder: Path,
    tmp_path: Path,
    train: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError) as caught:
        train(settings(encoder, tmp_path, told_apart(20, 1), held))
    assert caught.value.where == f"{tmp_path / 'held.jsonl'}:1"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_data_for_something_else_is_refused(
    encoder: Path, ready: Callable[..., Any], read: Callable[..., Any], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(encoder)
    info = {"tokenizer": tokenizer.fingerprint, "kind": "text", "trained": 1, "dropped": {}}
    with ShardWriter(tmp_path / "tokens", tokenizer.vocab_size, info) as writer:
        writer.add([2, 5, 3])
    with pytest.raises(UserError, match="was made for texts, and the objective learns labels"):
        ready(tmp_path / "tokens", kind="classify", labels=["a", "b"])
    made = read(Classify(ClassifyConfig(), 0), write(tmp_path / "rows.jsonl", rows(30, 8)))
    with pytest.raises(DataError, match="made for other classes: a, b, c"):
        ready(made.folder, kind="classify", labels=["a", "b"])
    assert ready(made.folder, kind="classify").model.config.labels == ("a", "b", "c")


def test_a_labelled_document_is_never_split(
    ready: Callable[..., Any], read: Callable[..., Any], tmp_path: Path
) -> None:
    made = read(Classify(ClassifyConfig(), 0), write(tmp_path / "rows.jsonl", rows(30, 9)))
    longest = int(made.lengths.max())
    with pytest.raises(ConfigError, match=f"a document of {longest} tokens, and none may be split"):
        ready(made.folder, batch_tokens=longest - 1, kind="classify")
