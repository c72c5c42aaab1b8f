"""Preferences against a straightforward computation, pair by pair, with the public model in float32."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from ownlm.errors import ConfigError, DataError, UserError
from ownlm.model.adapters import LoraConfig, attach
from ownlm.model.checkpoint import load_model_folder, save_model_folder
from ownlm.model.log_probs import target_log_probs
from ownlm.tokens.batch import Batch
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.config import plain, read_train_config
from ownlm.train.data import prepare_data
from ownlm.train.find import find_learning_rate
from ownlm.train.objectives import reference
from ownlm.train.objectives.preference import Preference
from ownlm.train.objectives.reference import FOLDER
from ownlm.train.setup import set_up

WORDS = ["the", "a", "model", "reads", "text", "learns", "token", "by", "word", "and", "writes", "what", "it", "has"]


def sentence(*key: int) -> str:
    draw = torch.Generator().manual_seed(hash_of(key))
    count = int(torch.randint(2, 12, (1,), generator=draw))
    return " ".join(WORDS[int(i)] for i in torch.randint(len(WORDS), (count,), generator=draw)) + "."


def hash_of(key: Iterable[int]) -> int:
    return sum(number * 1009**place for place, number in enumerate(key)) + 1


def pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rows = [(sentence(seed, i, 0), sentence(seed, i, 1), sentence(seed, i, 2) + " So it is.") for i in range(count)]
    return [{"prompt": prompt, "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in rows]


def judged(count: int) -> list[dict[str, Any]]:
    rows = [(sentence(5, i, 0), sentence(5, i, 1)) for i in range(count)]
    return [{"prompt": prompt, "response": said, "label": i % 3 > 0} for i, (prompt, said) in enumerate(rows)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Ready:
    """The objective on a file, and a model some way from the one that it began with."""

    def __init__(self, base: Path, data: Path, run: Path, **objective: Any) -> None:
        values: dict[str, Any] = {"base": str(base), "data": {"train": str(data)}, "batch_tokens": 4096}
        config = read_train_config(values | {"objective": {"kind": "preference", **objective}})
        setup = set_up(config)
        assert isinstance(setup.objective, Preference)
        self.objective, self.tokenizer = setup.objective, setup.tokenizer
        self.model = load_model_folder(base, config=setup.shape)
        self.data = prepare_data(config, setup, lambda line: None)
        self.objective.begin(self.model, self.data, run)
        self.loader = self.data.loader
        moved(self.model)

    def teach(self) -> None:
        """A few steps on the answers themselves, so that the model finds them likelier than before, whatever the question."""
        for _ in range(5):
            batch = self.loader.batch(0)
            where = batch.tokens, batch.positions, batch.document_starts
            self.model.zero_grad()
            self.model.loss(*where, batch.targets, batch.weights / batch.trained_tokens)[0].backward()
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter -= 0.3 * parameter.grad

    def step(self, batches: list[Batch]) -> tuple[float, dict[str, Tensor]]:
        """The loss and the gradients of a step, as the loop adds them up over its micro-batches."""
        ready = [self.objective.batch(batch, 0) for batch in batches]
        units = sum(self.objective.units(batch) for batch in ready)
        self.objective.begin_step(self.model, ready, list)
        self.model.zero_grad(set_to_none=True)
        total = 0.0
        for batch in ready:
            loss = self.objective.loss(self.model, batch, 1.0 / units)
            loss.backward()
            total += loss.item()
        return total, {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


def moved(model: torch.nn.Module) -> None:
    """Changes every weight a little, always in the same way."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def ready(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ready]:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    runs = itertools.count()

    def make(rows: list[dict[str, Any]], **objective: Any) -> Ready:
        file = write(tmp_path / "rows.jsonl", rows)
        return Ready(corpus / "base", file, tmp_path / f"run{next(runs)}", **objective)

    return make


class Public:
    """The public model: log-probabilities of answers, one conversation at a time."""

    def __init__(self, base: Path, mine: Ready) -> None:
        self.reference = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self.policy = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self.tokenizer = mine.tokenizer
        copy_weights(mine, self.policy)

    def ids(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """The ids of the question as it is asked, and of the answer, the end of its turn included."""
        question = {"role": "user", "content": prompt}
        asked = self.tokenizer.render([question], add_generation_prompt=True)
        whole = self.tokenizer.render([question, {"role": "assistant", "content": answer}])
        return asked, whole[len(asked) :]

    def log_probs(self, model: Any, asked: list[int], said: list[int]) -> Tensor:
        """Of each token of the answer."""
        logits = model(input_ids=torch.tensor([asked + said])).logits[0]
        chosen = logits.log_softmax(-1)[len(asked) - 1 : -1]
        return chosen[torch.arange(len(said)), torch.tensor(said)]

    def ratio(self, asked: list[int], said: list[int]) -> Tensor:
        with torch.no_grad():
            reference = self.log_probs(self.reference, asked, said).sum()
        return self.log_probs(self.policy, asked, said).sum() - reference


def copy_weights(mine: Ready, policy: Any) -> None:
    """The moved weights, by way of a saved folder."""
    with tempfile.TemporaryDirectory() as folder:
        save_model_folder(mine.model, Path(folder) / "moved", tokenizer=mine.tokenizer)
        stored = transformers.AutoModelForCausalLM.from_pretrained(Path(folder) / "moved", dtype=torch.float32)
        policy.load_state_dict(stored.state_dict())


def public_pair_loss(public: Public, row: dict[str, Any], options: dict[str, Any]) -> Tensor:
    beta = options.get("beta", 0.1)
    chosen, rejected = public.ids(row["prompt"], row["chosen"]), public.ids(row["prompt"], row["rejected"])
    if options.get("method") == "orpo":
        good, bad = (public.log_probs(public.policy, *pair).mean() for pair in (chosen, rejected))
        odds = (good.exp() / (1 - good.exp())) / (bad.exp() / (1 - bad.exp()))
        return -good - options.get("lambda", 0.1) * F.logsigmoid(odds.log())
    good, bad = public.ratio(*chosen), public.ratio(*rejected)
    if options.get("average"):
        good, bad = good / len(chosen[1]), bad / len(rejected[1])
    if options.get("loss") == "ipo":
        return (good - bad - 1 / (2 * beta)) ** 2
    if options.get("loss") == "hinge":
        return torch.clamp(1 - beta * (good - bad), min=0)
    noise = options.get("label_smoothing", 0.0)
    return -(1 - noise) * F.logsigmoid(beta * (good - bad)) - noise * F.logsigmoid(-beta * (good - bad))


def embedding_gradient(public: Public) -> Tensor:
    gradient = public.policy.get_input_embeddings().weight.grad
    assert gradient is not None
    return gradient


OPTIONS: dict[str, dict[str, Any]] = {
    "dpo": {},
    "dpo beta": {"beta": 0.7},
    "conservative dpo": {"label_smoothing": 0.2},
    "averaged dpo": {"average": True, "beta": 2.0},
    "ipo": {"loss": "ipo"},
    "averaged ipo": {"loss": "ipo", "average": True},
    "hinge": {"loss": "hinge", "beta": 0.5},
    "orpo": {"method": "orpo"},
    "orpo lambda": {"method": "orpo", "lambda": 1.5},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_loss_and_its_gradient_are_those_of_the_formula_pair_by_pair(
    name: str, ready: Callable[..., Ready], corpus: Path
) -> None:
    rows, options = pairs(6), OPTIONS[name]
    mine = ready(rows, **options)
    loss, gradients = mine.step(mine.loader.micro_batches(0, 4096))
    public = Public(corpus / "base", mine)
    expected = torch.stack([public_pair_loss(public, row, options) for row in rows]).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=2e-5, abs=3e-5)
    theirs = embedding_gradient(public)
    assert theirs.abs().max() > 1e-6
    torch.testing.assert_close(
        gradients["embedding.token.weight"], theirs, rtol=1e-3, atol=2e-5 * theirs.abs().max().item() + 1e-7
    )


def public_kto(public: Public, rows: list[dict[str, Any]], beta: float, wanted: float, unwanted: float) -> Tensor:
    conversations = [public.ids(row["prompt"], row["response"]) for row in rows]
    half = len(rows) // 2
    with torch.no_grad():
        met = [
            public.ratio(asked, conversations[(i + half) % len(rows)][1]) for i, (asked, _) in enumerate(conversations)
        ]
        z = torch.stack(met).mean().clamp(min=0)
    losses = []
    for row, conversation in zip(rows, conversations, strict=True):
        ratio = public.ratio(*conversation)
        value = torch.sigmoid(beta * (ratio - z)) if row["label"] else torch.sigmoid(beta * (z - ratio))
        losses.append((wanted if row["label"] else unwanted) * (1 - value))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("wanted", "unwanted"), [(1.0, 1.0), (0.5, 2.0)])
def test_kto_is_the_formula_answer_by_answer(
    wanted: float, unwanted: float, ready: Callable[..., Ready], corpus: Path
) -> None:
    rows = judged(9)
    mine = ready(rows, method="kto", beta=0.3, desirable_weight=wanted, undesirable_weight=unwanted)
    mine.teach()
    loss, gradients = mine.step(mine.loader.micro_batches(0, 4096))
    assert mine.objective._moved > 0.5, "or z would show nothing"
    public = Public(corpus / "base", mine)
    expected = public_kto(public, rows, 0.3, wanted, unwanted)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=2e-5, abs=3e-5)
    theirs = embedding_gradient(public)
    torch.testing.assert_close(gradients["embedding.token.weight"], theirs, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_a_step_is_the_same_however_it_is_cut_and_packed(method: str, ready: Callable[..., Ready]) -> None:
    mine = ready(pairs(8), method=method)
    mine.teach()
    results = [mine.step(mine.loader.micro_batches(0, size)) for size in (4096, 150, 1)]
    assert len(mine.loader.micro_batches(0, 1)) == (16 if method == "kto" else 8)
    # As two workers share it, one of whom then waits with an idle batch.
    shares = [batch for worker in (0, 1) for batch in mine.loader.micro_batches(0, 100, worker, 2)]
    results.append(mine.step([*shares, mine.loader.idle_batch(0)]))
    for loss, gradients in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-6)
        for parameter, gradient in gradients.items():
            torch.testing.assert_close(gradient, results[0][1][parameter], rtol=1e-4, atol=1e-6)


def test_z_is_of_the_whole_step_and_of_all_workers(ready: Callable[..., Ready]) -> None:
    mine = ready(pairs(8), method="kto")
    mine.teach()
    batches = [mine.objective.batch(batch, 0) for batch in mine.loader.micro_batches(0, 100)]
    assert len(batches) > 2
    told: list[list[float]] = []

    def alone(values: Any) -> list[float]:
        told.append(list(values))
        return list(values)

    mine.objective.begin_step(mine.model, batches, alone)
    whole = mine.objective._moved
    assert whole > 0
    for part in (batches[:2], batches[2:]):
        mine.objective.begin_step(mine.model, part, alone)
    both = [a + b for a, b in zip(told[1], told[2], strict=True)]
    mine.objective.begin_step(mine.model, batches[:1], lambda values: both)
    assert mine.objective._moved == pytest.approx(whole, rel=1e-6)


def test_the_head_alone_frozen_gives_the_same_gradients_below_it(ready: Callable[..., Ready]) -> None:
    """What adapters use: one product less, since no gradient of the head is wanted."""
    mine = ready(pairs(4))
    _, whole = mine.step(mine.loader.micro_batches(0, 4096))
    mine.model.embedding.token.weight.requires_grad_(False)
    _, below = mine.step(mine.loader.micro_batches(0, 4096))
    assert set(whole) - set(below) == {"embedding.token.weight"}
    for name, gradient in below.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-7)


def test_validation_measures_margins_and_accuracy(ready: Callable[..., Ready], corpus: Path, tmp_path: Path) -> None:
    rows = pairs(7)
    mine = ready(rows, beta=0.4)
    mine.objective._validation = mine.objective._training
    with torch.no_grad():
        batches = [mine.objective.batch(batch, None) for batch in mine.loader.micro_batches(0, 100)]
        measured = mine.objective.validate(mine.model, batches)
    public = Public(corpus / "base", mine)
    with torch.no_grad():
        ratios = [
            [public.ratio(*public.ids(row["prompt"], row[key])) for key in ("chosen", "rejected")] for row in rows
        ]
    margins = [0.4 * (good - bad).item() for good, bad in ratios]
    assert measured["margin"] == pytest.approx(sum(margins) / 7, rel=1e-4)
    assert measured["accuracy"] == pytest.approx(sum(margin > 0 for margin in margins) / 7)
    assert measured["loss"] == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in margins) / 7, rel=1e-4)


@pytest.fixture
def preference_settings(settings: dict[str, Any], corpus: Path, tmp_path: Path) -> dict[str, Any]:
    kept = {key: value for key, value in settings.items() if key not in ("model", "tokenizer")}
    train, held = write(tmp_path / "train.jsonl", pairs(24)), write(tmp_path / "held.jsonl", pairs(8, 1))
    return kept | {
        "base": str(corpus / "base"),
        "objective": {"kind": "preference"},
        "data": {"train": str(train), "validation": str(held)},
        "batch_tokens": 400,
        "steps": 8,
        "checkpoint": {"every": 3},
        "validate": {"every": 4},
    }


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("adapter", [None, {"rank": 4}], ids=["whole", "adapter"])
@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_a_run_comes_to_prefer(
    method: str, adapter: Any, train: Callable[..., Any], preference_settings: dict[str, Any]
) -> None:
    trained = train(preference_settings, objective__method=method, adapter=adapter, steps=12, optimizer__lr=1e-2)
    rows = [row for row in trained.run.metrics if "val_loss" in row]
    assert rows[-1]["val_margin"] > rows[0]["val_margin"] and rows[-1]["val_loss"] < rows[0]["val_loss"]
    if method == "dpo":
        # The starting model holds nothing against itself.
        assert rows[0]["val_margin"] == pytest.approx(0, abs=1e-6)
        assert trained.steps[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    if method == "kto":
        assert trained.steps[0]["loss"] == pytest.approx(0.5, rel=1e-5)
        assert rows[0]["val_z"] == pytest.approx(0, abs=1e-5) and rows[-1]["val_z"] >= 0
    counts = trained.run.summary["ledger"]["total"]
    assert counts["documents"] == 48 and counts["trained"] + counts["masked"] + counts["unseen"] == counts["tokens"]
    assert (trained.run.folder / FOLDER).is_dir() == (method != "orpo")
    reached = load_tokenizer(trained.run.model)
    assert reached.chat_template is not None


def test_the_search_for_a_rate_holds_answers_against_the_base(preference_settings: dict[str, Any]) -> None:
    trial = find_learning_rate(read_train_config(preference_settings), lambda message: None, steps=10)
    # Before the first update the model is the base.
    assert trial.losses[0] == pytest.approx(math.log(2), rel=1e-5)
    assert not Path(preference_settings["out"]).exists()


@pytest.mark.usefixtures("undrawn")
def test_the_loop_lets_every_step_measure_z(
    train: Callable[..., Any], preference_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_step, seen = Preference.begin_step, []

    def watched(self: Preference, model: Any, batches: Any, total: Any) -> None:
        begin_step(self, model, batches, total)
        seen.append(sum(len(batch.documents) for batch in batches))

    monkeypatch.setattr(Preference, "begin_step", watched)
    data = {**preference_settings["data"], "validation": []}
    trained = train(
        preference_settings, objective__method="kto", data=data, epochs=1, steps=None, micro_batch_tokens=100
    )
    assert len(seen) == len(trained.steps) > 1 and sum(seen) == 48, "each step's answers, once"


KILLER = """
import json, os, signal, sys
from pathlib import Path
from ownlm.train.config import read_train_config
from ownlm.train.loop import Loop
from ownlm.train.objectives import reference
from ownlm.train.run import run_training

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "begin":
    save, times = reference.save_tensors, []
    def saved(tensors, path):
        times.append(path)
        if len(times) == 2:
            path.write_bytes(b"half of it")
            die()
        save(tensors, path)
    reference.save_tensors = saved
if sys.argv[2] == "step":
    step = Loop._step
    def stepped(self, *rest):
        loss = step(self, *rest)
        if self.state.step == 5:
            die()
        return loss
    Loop._step = stepped
run_training(read_train_config(json.loads(Path(sys.argv[1]).read_text())), say=lambda message: None)
"""


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("moment", "method"), [("begin", "kto"), ("step", "dpo"), ("step", "kto")])
def test_a_killed_run_ends_as_one_that_was_not(
    moment: str,
    method: str,
    train: Callable[..., Any],
    curve: Callable[[Path], Any],
    preference_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preference_settings["objective"]["method"] = method
    whole = train(preference_settings, out=str(tmp_path / "whole"))
    killed = preference_settings | {"out": str(tmp_path / "killed")}
    (tmp_path / "config.json").write_text(json.dumps(killed))
    command = [sys.executable, "-c", KILLER, str(tmp_path / "config.json"), moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    computed: list[str] = []
    compute = reference._computed

    def counted(*arguments: Any) -> Tensor:
        computed.append("")
        return compute(*arguments)

    monkeypatch.setattr(reference, "_computed", counted)
    train(killed)
    parts = 2 if method == "dpo" else 4
    assert len(computed) == (parts - 1 if moment == "begin" else 0), "what was saved is not computed again"
    assert curve(tmp_path / "killed") == curve(whole.run.folder)
    assert not list((tmp_path / "killed" / FOLDER).glob(".*")), "nothing half written is left"


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_reference_is_computed_again_from_the_base(
    train: Callable[..., Any], curve: Callable[[Path], Any], preference_settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = train(preference_settings, out=str(tmp_path / "whole"))
    first = train(preference_settings, steps=4)
    (first.run.folder / FOLDER / "train" / "log_probs.safetensors").write_bytes(b"odd")
    whole_of_four = train(preference_settings, out=str(tmp_path / "four"), steps=4)
    ours, theirs = (train(preference_settings, out=str(run.run.folder)) for run in (first, whole_of_four))
    assert curve(ours.run.folder) == curve(theirs.run.folder)
    assert whole.steps[3]["step"] == 4


@pytest.mark.usefixtures("undrawn")
def test_another_base_is_refused_once_trained(
    train: Callable[..., Any], preference_settings: dict[str, Any], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(preference_settings["base"], base)
    (base / "checksums.json").unlink(missing_ok=True)
    train(preference_settings, base=str(base), steps=3)
    model = load_model_folder(base)
    moved(model)
    save_model_folder(model, base, tokenizer=load_tokenizer(preference_settings["base"]))
    with pytest.raises(UserError, match="the model that this run began from is not what it was"):
        train(preference_settings, base=str(base), steps=6)


@pytest.mark.usefixtures("undrawn")
def test_errors_come_before_the_first_step(
    train: Callable[..., Any], preference_settings: dict[str, Any], tmp_path: Path
) -> None:
    rows = [*pairs(3), {"prompt": "What?", "chosen": "A model.", "rejected": "A model."}]
    bad = write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError, match="the chosen and the rejected answer are the same") as caught:
        train(preference_settings, data__train=str(bad))
    assert caught.value.where == f"{bad}:4"
    trained = train(preference_settings, data__train=str(bad), objective__unusable="drop", steps=1)
    assert trained.run.summary["ledger"]["total"]["dropped"]["equal answers"]["documents"] == 2
    with pytest.raises(DataError, match="kto needs two answers or more") as caught:
        one = write(tmp_path / "one.jsonl", [{"prompt": "What?", "response": "It is.", "label": True}])
        train(preference_settings, data={"train": str(one)}, objective__method="kto", out=str(tmp_path / "kto"))
    assert caught.value.where == "data.train"
    wanted = write(
        tmp_path / "wanted.jsonl", [{"prompt": "What?", "response": a, "label": True} for a in ("It.", "A.")]
    )
    kto = {"kind": "preference", "method": "kto", "desirable_weight": 0}
    with pytest.raises(ConfigError, match="every answer is wanted, and these weigh 0") as light:
        train(preference_settings, data={"train": str(wanted)}, objective=kto, out=str(tmp_path / "light"))
    assert light.value.where == "objective.desirable_weight"


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"method": "orpo", "beta": 0.5}, "beta is no part of orpo"),
        ({"method": "dpo", "lambda": 0.5}, "lambda is no part of dpo"),
        ({"method": "kto", "loss": "ipo"}, "loss is no part of kto"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing is no part of the loss 'ipo'"),
        ({"desirable_weight": 2}, "desirable_weight is no part of dpo"),
        ({"method": "kto", "desirable_weight": 0, "undesirable_weight": 0}, "one of desirable_weight and"),
        ({"beta": 0}, "greater than 0"),
        ({"label_smoothing": 0.5}, "less than 0.5"),
    ],
)
def test_settings_that_make_no_sense(objective: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_train_config({"base": "x", "data": {"train": "y"}, "objective": {"kind": "preference", **objective}})


def test_a_written_config_is_read_again(preference_settings: dict[str, Any]) -> None:
    for options in OPTIONS.values():
        objective = {"kind": "preference", **options}
        config = read_train_config(preference_settings | {"objective": objective})
        assert read_train_config(plain(config)) == config


def test_the_wrong_kind_of_dataset(ready: Callable[..., Ready], corpus: Path) -> None:
    pairs_of, single = ready(pairs(3)), ready(judged(3), method="kto")
    with pytest.raises(DataError, match="this dataset holds pairs, and kto learns from single answers"):
        single.objective.check(pairs_of.loader.datasets[0], "data")
    with pytest.raises(DataError, match="this dataset holds single answers, and dpo learns from pairs"):
        pairs_of.objective.check(single.loader.datasets[0], "data")


def test_an_adapter_starts_where_its_base_is(ready: Callable[..., Ready], corpus: Path, tmp_path: Path) -> None:
    """The base alone is the reference: what an adapter begins with adds nothing."""
    mine = ready(pairs(3))
    model = load_model_folder(corpus / "base")
    attach(model, LoraConfig(rank=2), 0)
    mine.objective.begin(model, mine.data, tmp_path / "adapted")
    base = load_model_folder(corpus / "base")
    assert mine.objective._training is not None
    batch = mine.objective.batch(mine.loader.batch(0), 0)
    hidden = base.read(batch.tokens, batch.positions, batch.document_starts)[: len(batch)]
    every = target_log_probs(hidden, base.head_weight, batch.targets) * batch.weights
    sums = [every[a:b].sum() for a, b in itertools.pairwise(batch.document_starts)]
    torch.testing.assert_close(torch.stack(sums), batch.columns["reference"].squeeze(1), rtol=1e-5, atol=1e-5)
