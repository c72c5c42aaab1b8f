"""A run from its config to its folder: what is in it, what the same command does again, and what the result is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from peft import PeftModel
from torch import Tensor

from ownlm.errors import ConfigError, DamagedError, DataError, ModelError, StorageError, UserError
from ownlm.files import verify_folder
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.report.training import write_training_report
from ownlm.tokens.content import content_hash
from ownlm.tokens.prepare import tokenize_files
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.config import TrainConfig, plain, read_train_config
from ownlm.train.folder import LOCK

pytestmark = pytest.mark.usefixtures("undrawn")

Train = Callable[..., Any]
Curve = Callable[[Path], list[tuple[int, str, str]]]
DOCUMENT = [5, 90, 211, 7, 7, 31, 299, 18]


def reference_logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([DOCUMENT])).logits[0].float()


def public(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "run.log"
    }


@pytest.fixture
def drawn(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of curves after all."""
    for module in ("result", "folder"):
        monkeypatch.setattr(f"ownlm.train.{module}.write_training_report", write_training_report)


@pytest.mark.usefixtures("drawn")
def test_the_folder_holds_what_it_promises(train: Train, settings: dict[str, Any]) -> None:
    run = train(settings).run
    names = {path.name for path in run.folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("config.yaml", "metrics.jsonl", "ledger.json", "checkpoints", "model", "run.json", "report.html", "run.log")
    }
    config = TrainConfig.model_validate(yaml.safe_load((run.folder / "config.yaml").read_text()))
    assert config == read_train_config(settings), "every setting, the defaults too"
    for folder in (run.model, *(run.folder / "checkpoints").iterdir()):
        verify_folder(folder)
    assert json.loads((run.folder / "run.json").read_text()) == run.summary
    assert {
        "run",
        "model",
        "steps",
        "tokens",
        "loss",
        "val_loss",
        "tokens_per_second",
        "peak_memory_bytes",
        "ledger",
    } <= set(run.summary)
    assert (run.summary["run"], run.summary["model"], run.summary["steps"]) == (str(run.folder), str(run.model), 12)
    assert run.summary["loss"] == run.metrics[-2]["loss"] and run.summary["val_loss"] == run.metrics[-1]["val_loss"]
    lineage = json.loads((run.model / "ownlm.json").read_text())["lineage"]
    assert lineage["parents"] == [] and len(lineage["data"]) == 2 and lineage["config"]["steps"] == 12
    assert lineage["sources"] == {name: content_hash(name) for name in lineage["config"]["data"]["train"]}
    assert lineage["metrics"]["ledger"] == run.summary["ledger"] and "seconds" not in lineage["metrics"]
    log = (run.folder / "run.log").read_text()
    assert "37,760 parameters" in log and "held-out loss" in log
    assert "<svg" in (run.folder / "report.html").read_text()


def test_a_plan_of_other_settings_is_not_set_beside_the_run(train: Train, settings: dict[str, Any]) -> None:
    folder = Path(settings["out"])
    folder.mkdir(parents=True)
    for steps, kept in ((3, False), (2, True)):
        config = plain(read_train_config(settings | {"steps": steps}))
        plan = {"memory_bytes": 1, "tokens_per_second": 2.0, "hours": 3.0, "parameters": 4, "config": config}
        (folder / "plan.json").write_text(json.dumps(plan))
        planned = train(settings, steps=2).run.summary["planned"]
        assert (planned is not None) == kept
        shutil.rmtree(folder / "checkpoints")
        (folder / "run.json").unlink()


def test_the_written_config_repeats_the_run(
    train: Train, settings: dict[str, Any], tmp_path: Path, curve: Curve
) -> None:
    run = train(settings).run
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    again = train(config, out=str(tmp_path / "again")).run
    assert curve(run.folder) == curve(again.folder)
    assert (run.model / "model.safetensors").read_bytes() == (again.model / "model.safetensors").read_bytes()


def test_the_same_command_on_a_finished_run_only_reads_it(train: Train, settings: dict[str, Any]) -> None:
    first = train(settings)
    before = contents(first.run.folder)
    again = train(settings)
    assert again.run == first.run
    assert again.said == [f"{first.run.folder} is already trained; delete it or set another out to train anew"]
    assert contents(first.run.folder) == before


def test_a_damaged_result_is_made_again_from_the_last_checkpoint(train: Train, settings: dict[str, Any]) -> None:
    run = train(settings).run
    weights = run.model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = train(settings)
    assert weights.read_bytes() == whole and any("made again from the last checkpoint" in line for line in again.said)
    weights.unlink()
    shutil.rmtree(run.folder / "checkpoints")
    with pytest.raises(DamagedError, match="this file is missing"):
        train(settings)


def test_another_config_on_the_same_folder_is_refused_naming_the_key(train: Train, settings: dict[str, Any]) -> None:
    train(settings, steps=1)
    before = contents(Path(settings["out"]))
    changes = {
        "optimizer.lr": 1e-3,
        "seed": 5,
        "batch_tokens": 128,
        "precision": "bf16",
        "dropout": 0.5,
        "model.layers": 3,
        "schedule.kind": "wsd",
        "data.length": 32,
        "data.validation": [],
    }
    for key, value in changes.items():
        with pytest.raises(ConfigError, match=f"this folder holds a run with {key}: ") as raised:
            train(settings, steps=1, **{key.replace(".", "__"): value})
        assert str(raised.value.where).startswith(key) and raised.value.hint
    assert contents(Path(settings["out"])) == before


def test_what_changes_no_step_may_change(train: Train, settings: dict[str, Any], curve: Curve) -> None:
    train(settings, steps=4, schedule__kind="constant")
    changes = {"checkpoint__keep": 5, "validate__patience": 9, "micro_batch_tokens": 70, "schedule__kind": "constant"}
    train(settings, steps=8, **changes)
    assert [row[0] for row in curve(Path(settings["out"])) if row[2] != "None"] == list(range(1, 9))


def test_more_steps_go_on_where_the_run_ended(
    train: Train, settings: dict[str, Any], tmp_path: Path, curve: Curve
) -> None:
    """With a constant rate the longer run is bit for bit the one that was asked for at once."""
    constant = {"schedule__kind": "constant", "validate__every": 4}
    train(settings, steps=8, **constant)
    more = train(settings, steps=16, **constant)
    assert "resuming at step 8" in more.said and more.run.summary["steps"] == 16
    whole = train(settings, out=str(tmp_path / "whole"), steps=16, **constant).run
    assert curve(more.run.folder) == curve(whole.folder)
    assert (more.run.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()


def test_fewer_steps_than_were_made_are_refused(train: Train, settings: dict[str, Any]) -> None:
    train(settings)
    before = contents(Path(settings["out"]))
    with pytest.raises(ConfigError, match="the run has made 12 steps already, and 6 are asked for") as raised:
        train(settings, steps=6)
    assert raised.value.where == "steps"
    assert contents(Path(settings["out"])) == before


def test_more_patience_makes_a_stopped_run_go_on(train: Train, settings: dict[str, Any]) -> None:
    worse = {"optimizer__lr": 1.0, "schedule__kind": "constant", "validate__every": 1, "checkpoint__every": 100}
    stopped = train(settings, validate__patience=1, **worse)
    steps = stopped.run.summary["steps"]
    assert steps < 12 and stopped.run.summary["stopped"]
    same = train(settings, validate__patience=1, **worse)
    assert "already trained" in same.said[0]
    longer = train(settings, steps=14, validate__patience=1, **worse)
    assert longer.run.summary["steps"] == steps
    assert any("a higher validate.patience makes it go on" in line for line in longer.said)
    patient = train(settings, steps=14, validate__patience=50, **worse)
    assert patient.run.summary["steps"] == 14 and patient.run.summary["stopped"] is None


def test_a_command_that_failed_may_be_mended(train: Train, settings: dict[str, Any]) -> None:
    for mistake, kind in [
        ({"data__train": "nowhere.txt"}, DataError),
        ({"model__family": "gtp2"}, ConfigError),
        ({"data__length": 1000}, ConfigError),
        ({"tokenizer": "nowhere/at/all"}, UserError),
    ]:
        with pytest.raises(kind):
            train(settings, **mistake)
    assert train(settings, steps=1).run.summary["steps"] == 1


def test_changed_data_is_refused_on_resume(
    train: Train, settings: dict[str, Any], tmp_path: Path, corpus: Path
) -> None:
    copy = tmp_path / "texts.jsonl"
    copy.write_bytes((corpus / "train.jsonl").read_bytes())
    train(settings, steps=2, data__train=str(copy))
    copy.write_bytes((corpus / "train.jsonl").read_bytes() + b'{"text": "One more."}\n')
    with pytest.raises(UserError, match="the data is not what this run began with") as raised:
        train(settings, steps=4, data__train=str(copy))
    assert raised.value.where == settings["out"]


def test_a_second_process_on_the_same_folder_is_refused(train: Train, settings: dict[str, Any]) -> None:
    fcntl = pytest.importorskip("fcntl")
    Path(settings["out"]).mkdir()
    with (Path(settings["out"]) / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training in this folder") as raised:
            train(settings, steps=1)
        assert raised.value.where == settings["out"]
    assert train(settings, steps=1).run.summary["steps"] == 1


def test_a_folder_within_the_data_is_refused(train: Train, settings: dict[str, Any], tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("a b c d " * 50)
    data = {"train": str(texts), "length": 32}
    for out in (texts, texts / "run"):
        with pytest.raises(ConfigError, match="whose files are the data"):
            train(settings | {"data": data, "out": str(out)})
    assert [path.name for path in texts.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["checkpoints", "metrics.jsonl"])
def test_what_stands_where_the_run_writes_is_named(train: Train, settings: dict[str, Any], name: str) -> None:
    out = Path(settings["out"])
    out.mkdir()
    # A run was begun here.
    (out / LOCK).write_text("")
    if name == "checkpoints":
        (out / name).write_text("")
    else:
        (out / name).mkdir()
    with pytest.raises(StorageError) as error:
        train(settings)
    assert name in str(error.value.where) and error.value.hint is not None


def test_a_file_where_the_folder_should_be_is_named(train: Train, settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="a file is in its place") as raised:
            train(settings, out=str(out))
        assert raised.value.where == "out"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_folder_can_have_is_said(
    name: str, train: Train, settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"cannot be a folder|NUL") as raised:
        train(settings, out=str(tmp_path / name))
    assert raised.value.where == "out"


@pytest.mark.parametrize("name", ["config.yaml", "model/notes.txt", "checkpoints/notes.txt", "report.html"])
def test_what_is_of_no_run_is_never_written_over(
    name: str, train: Train, settings: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is of no run, and would be written over") as raised:
        train(settings, out=str(tmp_path / "mine"), steps=1)
    assert raised.value.where == "out" and raised.value.exit_code == 2
    assert path.read_text() == "precious"
    assert [p.name for p in (tmp_path / "mine").iterdir()] == [name.partition("/")[0]]


@pytest.mark.parametrize(
    ("changes", "kind", "message", "where"),
    [
        (
            {"model__vocab_size": 299},
            ModelError,
            "the tokenizer has 300 ids but the model's vocabulary only 299",
            "tokenizer",
        ),
        ({"data__length": 65}, ConfigError, "65 is longer than the model's context", "data.length"),
        ({"data__length": 60, "batch_tokens": 50}, ConfigError, "60 tokens do not fit into one batch", "data.length"),
        ({"model__family": "gtp2"}, ConfigError, "unknown model family 'gtp2'", "model.family"),
        ({"model__layer": 2}, ConfigError, "unknown key 'layer'", "model.layer"),
        ({"model__heads": 5}, ConfigError, "must be a multiple of heads", "model.heads"),
        ({"data__train": "nowhere.txt"}, DataError, "there is no such file or folder", "nowhere.txt"),
        ({"data__validation": "nowhere.txt"}, DataError, "there is no such file or folder", "nowhere.txt"),
        ({"objective__kind": "chat"}, DataError, "this is a text, a conversation was expected", "train.jsonl:1"),
        ({"tokenizer": "no/where"}, UserError, "there is no such", "no/where"),
        ({"device": "gpu"}, UserError, "'gpu' is not a device", "device"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(
    changes: dict[str, Any], kind: type[UserError], message: str, where: str, train: Train, settings: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=message) as raised:
        train(settings, **changes)
    assert where in str(raised.value.where) and raised.value.exit_code == 2
    assert not raised.value.message.endswith(".")


def test_a_base_that_is_not_there_is_named(train: Train, chat_settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="there is no such model folder") as raised:
        train(chat_settings, base="models/nowhere")
    assert raised.value.where == "models/nowhere"
    with pytest.raises(UserError, match="unknown model 'smolm2-135m-instruct'") as raised:
        train(chat_settings, base="smolm2-135m-instruct")
    assert raised.value.hint == "did you mean 'smollm2-135m-instruct'?"


@pytest.mark.parametrize(
    ("rows", "message", "line"),
    [
        (['{"prompt": "a", "response": "b"}', '{"messages": [{"role": "user", "content": "Hello?"}]}'], "no answer", 2),
        (['{"prompt": "a", "response": "b"}', "", '{"prompt": "a", "resp'], "not valid JSON", 3),
        (
            ['{"prompt": "a", "response": "' + "word " * 400 + '"}'],
            r"this conversation has [\d,]+ tokens, more than the 128",
            1,
        ),
    ],
)
def test_a_wrong_conversation_is_named_by_its_line(
    rows: list[str], message: str, line: int, train: Train, chat_settings: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=message) as raised:
        train(chat_settings, data__train=str(path))
    assert raised.value.where == f"{path}:{line}"


def test_the_same_source_twice_is_refused(train: Train, settings: dict[str, Any]) -> None:
    name = settings["data"]["train"]
    with pytest.raises(ConfigError, match="is named twice"):
        train(settings, data__train=[name, name])


@pytest.mark.parametrize("epochs", [0.25, 1, 1.5])
def test_epochs_may_be_fractions(epochs: float, train: Train, settings: dict[str, Any]) -> None:
    changes: dict[str, Any] = {"steps": None, "data__validation": [], "checkpoint__every": 1000}
    summary = train(settings, epochs=epochs, **changes).run.summary
    # 4,109 tokens in packed steps of 256 are 17 steps, and the last may be a small one.
    assert summary["steps"] == pytest.approx(epochs * 17, abs=1)
    assert summary["tokens"] == pytest.approx(epochs * 4109, rel=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch_tokens": 1},
        {"micro_batch_tokens": 10, "data__length": 64},
        {"data__length": 2, "micro_batch_tokens": 1},
        {"batch_tokens": 2},
        {"batch_tokens": 10**9, "steps": None, "epochs": 1},
    ],
)
def test_odd_sizes_train(changes: dict[str, Any], train: Train, settings: dict[str, Any]) -> None:
    trained = train(settings, **{"steps": 2, "data__validation": [], **changes})
    assert trained.run.summary["steps"] in (1, 2)
    assert all(4 < row["loss"] < 8 for row in trained.steps), "random weights know nothing: ln 320 is 5.8"


@pytest.mark.parametrize("kind", ["whole model", "whole base", "adapter"])
def test_the_result_is_a_public_checkpoint_with_equal_logits(
    kind: str, train: Train, settings: dict[str, Any], chat_settings: dict[str, Any]
) -> None:
    config = settings if kind == "whole model" else chat_settings | ({} if kind == "adapter" else {"adapter": None})
    run = train(config, steps=6).run
    ours = load_model_folder(run.model).logits([DOCUMENT])[0]
    assert (ours - reference_logits(public(run.model))).abs().max() < 1e-4
    assert load_tokenizer(run.model).vocab_size == 300
    if kind != "whole model":
        before = load_model_folder(Path(config["base"])).logits([DOCUMENT])[0]
        assert (ours - before).abs().max() > 1e-3, "it learned something"
        assert json.loads((run.model / "ownlm.json").read_text())["lineage"]["parents"] == [config["base"]]


def test_the_adapter_loads_in_peft_and_the_result_is_base_plus_adapter(
    train: Train, chat_settings: dict[str, Any]
) -> None:
    run = train(chat_settings, steps=8).run
    base = public(Path(chat_settings["base"]))
    adapted = PeftModel.from_pretrained(base, str(run.folder / "adapter"))
    expected = reference_logits(adapted)
    count = sum(parameter.numel() for name, parameter in adapted.named_parameters() if "lora_" in name)
    assert run.summary["trained_parameters"] == count > 0
    assert (load_model_folder(run.model).logits([DOCUMENT])[0] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (reference_logits(adapted.merge_and_unload()) - expected).abs().max() < 1e-4


def test_a_run_in_bfloat16_learns_and_keeps_its_weights_in_float32(train: Train, settings: dict[str, Any]) -> None:
    exact = train(settings, steps=20)
    narrow = train(settings, steps=20, precision="bf16", out=settings["out"] + "-bf16")
    assert any("computing in bfloat16" in line for line in narrow.said)
    for row, expected in zip(narrow.steps, exact.steps, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=0.01)
    assert narrow.run.summary["val_loss"] == pytest.approx(exact.run.summary["val_loss"], rel=0.01)
    model = load_model_folder(narrow.run.model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("adapter", [True, False])
def test_a_base_keeps_the_dtype_it_was_stored_in(
    adapter: bool, train: Train, chat_settings: dict[str, Any], tmp_path: Path, corpus: Path
) -> None:
    shape = {"family": "llama", "layers": 1, "width": 32, "heads": 2, "vocab_size": 320, "max_positions": 128}
    model = random_model(config_from_user(shape), 0)
    save_model_folder(model, tmp_path / "narrow", tokenizer=load_tokenizer(corpus / "tokenizer"), dtype=torch.bfloat16)
    changes = {} if adapter else {"adapter": None}
    run = train(chat_settings, steps=2, base=str(tmp_path / "narrow"), **changes).run
    assert {p.dtype for p in load_model_folder(run.model).parameters()} == {torch.bfloat16}
    assert public(run.model).dtype == torch.bfloat16


def test_a_lone_tokenizer_file_is_a_tokenizer(train: Train, settings: dict[str, Any], corpus: Path) -> None:
    lone = train(settings, tokenizer=str(corpus / "tokenizer" / "tokenizer.json"), out=f"{settings['out']}-lone")
    assert lone.run.metrics[-1]["step"] == settings["steps"]


def test_a_dataset_made_for_another_objective_is_refused(
    train: Train, settings: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(corpus / "tokenizer")
    cache = tmp_path / "cache"
    made = tokenize_files([corpus / "chats.jsonl"], tokenizer, kind="chat", length=128, cache_folder=cache)
    with pytest.raises(DataError, match="made for chats, and the objective learns texts"):
        train(settings, data__train=str(made.folder))


@pytest.mark.usefixtures("undrawn")
def test_held_out_data_that_is_trained_on_is_named(train: Callable[..., Any], settings: dict[str, Any]) -> None:
    warning = "is trained on and held out"
    assert not any(warning in line for line in train(settings, steps=1).said)
    # The same content under another name is the same data.
    copied = Path(settings["out"]).parent / "copy.jsonl"
    copied.write_bytes(Path(settings["data"]["train"]).read_bytes())
    said = train(settings, steps=1, out=settings["out"] + "-other", data__validation=str(copied)).said
    assert any(warning in line and str(copied) in line for line in said)


def test_what_a_killed_command_left_in_the_folder_goes_or_comes_back(train: Train, settings: dict[str, Any]) -> None:
    done = train(settings)
    out, model = done.run.folder, contents(done.run.model)
    (out / ".model.partial-1a2b").mkdir()
    (out / ".model.partial-1a2b" / "model.safetensors").write_text("half of it")
    (out / ".config.yaml.partial-3c4d").write_text("half of it")
    # Between the two renames that replace a folder.
    (out / "model").rename(out / ".model.partial-old-77")
    again = train(settings)
    assert not list(out.glob(".*partial*"))
    assert contents(again.run.model) == model and any("is already trained" in line for line in again.said)
