"""The training report: what it says of a run follows from the run's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.report.training import read_metrics, training_report, write_training_report

STEPS = [
    {"step": 0, "val_loss": 2.0},
    {"step": 1, "loss": 2.1, "lr": 1e-4, "grad_norm": 1.0, "tokens": 100, "tokens_per_second": 50.0},
    {"step": 2, "loss": 1.9, "lr": 2e-4, "grad_norm": 0.9, "tokens": 220, "tokens_per_second": 60.0},
    {"step": 2, "val_loss": 1.0},
]
LEDGER: dict[str, Any] = {
    "sources": {
        "a.jsonl": {
            "documents": 12,
            "tokens": 300,
            "trained": 150,
            "masked": 70,
            "truncated": 0,
            "dropped": {"too long": {"documents": 2, "tokens": 80}},
            "unseen": 0,
        }
    },
    "total": {
        "documents": 12,
        "tokens": 300,
        "trained": 150,
        "masked": 70,
        "truncated": 0,
        "dropped": {"too long": {"documents": 2, "tokens": 80}},
        "unseen": 0,
    },
}


def make_run(folder: Path, metrics: list[dict[str, float]] = STEPS, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_the_summary_says_what_the_losses_mean(tmp_path: Path):
    page = training_report(make_run(tmp_path / "run", ledger=LEDGER, run={"seconds": 125})).html()
    assert "trained for 2 steps on 220 tokens of 12 documents in 2 min 5 s." in page
    # exp(-2) = 13.5% and exp(-1) = 36.8%
    assert "the loss fell from 2.000 to 1.000, 50% lower" in page
    assert "rose from 13.5% to 36.8%" in page


def test_a_loss_that_rose_again_is_called_so(tmp_path: Path):
    metrics = [{"step": 0, "val_loss": 2.0}, *STEPS[1:3], {"step": 5, "val_loss": 1.0}, {"step": 9, "val_loss": 1.4}]
    page = training_report(make_run(tmp_path / "run", metrics)).html()
    assert "Overfitting from step 5 on: the held-out loss rose from 1.000 to 1.400" in page


def test_a_loss_that_did_not_fall_is_not_praised(tmp_path: Path):
    metrics = [{"step": 0, "val_loss": 1.0}, *STEPS[1:3], {"step": 5, "val_loss": 1.2}]
    page = training_report(make_run(tmp_path / "run", metrics)).html()
    assert "did not fall below the 1.000 it began with" in page
    assert "lower:" not in page


def test_without_validation_no_claim_is_made_of_unseen_text(tmp_path: Path):
    page = training_report(make_run(tmp_path / "run", STEPS[1:3])).html()
    assert "went from 2.100 to 1.900" in page
    assert "this does not say how it does on text it has not seen" in page


def test_a_failed_run_is_called_failed(tmp_path: Path):
    metrics = [{"step": 0, "val_loss": float("nan")}, *STEPS[1:3], {"step": 2, "val_loss": float("nan")}]
    assert "the training failed" in training_report(make_run(tmp_path / "run", metrics)).html()


def test_a_small_fall_is_not_none(tmp_path: Path):
    metrics: list[dict[str, float]] = [{"step": 0, "val_loss": 5.898}, {"step": 1, "loss": 5.9}]
    page = training_report(make_run(tmp_path / "run", [*metrics, {"step": 1, "val_loss": 5.870}])).html()
    assert "the loss fell from 5.898 to 5.870, 0.5% lower" in page and ", 0% lower" not in page


def test_the_ledger_adds_up_on_the_page(tmp_path: Path):
    page = training_report(make_run(tmp_path / "run", ledger=LEDGER)).html()
    row = page[page.index('<th scope="row">a.jsonl</th>') :]
    cells = [cell.split(">", 1)[1] for cell in row[: row.index("</tr>")].split("</td>")[:-1]]
    documents, tokens, *parts = [int(cell.rsplit(">", 1)[-1]) for cell in cells]
    assert (documents, tokens, sum(parts)) == (12, 300, 300)
    assert "too long" in page
    # As the guide calls them: in a BERT's training what is masked is what is trained.
    assert ">context only</th>" in page and ">masked<" not in page


def test_truncated_tokens_are_a_warning(tmp_path: Path):
    total = LEDGER["total"] | {"truncated": 40}
    page = training_report(make_run(tmp_path / "run", ledger=LEDGER | {"total": total})).html()
    assert "40 tokens were cut off" in page


def test_samples_configuration_and_lineage_are_shown(tmp_path: Path):
    samples = [{"prompt": "Where is it?", "before": "Hm.", "after": "On its way."}]
    run = make_run(tmp_path / "run", samples=samples)
    (run / "config.yaml").write_text("optimizer: {lr: 0.001}\ndata: {mix: [{dataset: a, weight: 2}]}\n")
    (run / "model").mkdir()
    lineage = {"ownlm": "0.1.0", "lineage": {"parents": ["smollm2"], "config": {"batch_tokens_of_old": 1}}}
    (run / "model" / "ownlm.json").write_text(json.dumps(lineage))
    page = training_report(run).html()
    for text in ("Where is it?", "On its way.", "optimizer.lr", "0.001", "data.mix.0.weight", "parents", "smollm2"):
        assert text in page
    assert "batch_tokens_of_old" not in page


@pytest.mark.parametrize("metrics", [[], STEPS[:1]])
def test_a_run_that_has_hardly_begun_has_a_page(tmp_path: Path, metrics: list[dict[str, float]]):
    path = write_training_report(make_run(tmp_path / "run", metrics))
    assert "has not finished a step yet" in path.read_text()


def test_an_empty_folder_has_a_page(tmp_path: Path):
    assert "Training report" in write_training_report(tmp_path).read_text()


def test_a_last_line_cut_off_by_an_interruption_is_left_out(tmp_path: Path):
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert read_metrics(run / "metrics.jsonl") == STEPS


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("{}", "right next token"),
        ("{kind: chat}", "right next token"),
        ("{kind: masked}", "hidden token"),
        ("{kind: masked, next_sentence: true}", None),
        ("{kind: classify, problem: single}", "right class"),
        ("{kind: classify, problem: single, smoothing: 0.1}", None),
        ("{kind: classify, problem: regression}", None),
        ("{kind: preference}", None),
        ("{kind: span}", None),
    ],
)
def test_only_a_loss_that_is_a_surprise_is_said_as_a_probability(tmp_path: Path, objective: str, told: str | None):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(f"objective: {objective}\n")
    page = training_report(run).html()
    assert "from 2.000 to 1.000, 50% lower" in page
    assert (f"gives to the {told} rose" in page) if told else ("geometric mean" not in page)
    assert ("nats a token" in page) == (told in ("right next token", "hidden token"))


def test_what_chose_the_result_is_said_where_it_is_not_the_loss(tmp_path: Path):
    page = training_report(make_run(tmp_path / "run", run={"best_by": "f1", "best_step": 5})).html()
    assert "The result is the weights of step 5, the best by held-out f1." in page
    page = training_report(make_run(tmp_path / "other", run={"best_by": "loss", "best_step": 5})).html()
    assert "The result is the weights" not in page
