"""The papers' own figures, from the predictions that they published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.evaluate.bias.bbq import measure_answers, read_question
from ownlm.evaluate.bias.stereoset import Triple, measure_triples
from ownlm.evaluate.task import read_items

STEREOSET = {
    "gpt2": "predictions_gpt2_ModelNSP_GPT2LM.json",
    "bert-base-cased": "predictions_bert-base-cased_BertNextSentence_BertLM.json",
    "roberta-base": "predictions_roberta-base_ModelNSP_RoBERTaLM.json",
}


def stereoset_values(folder: Path, file: str) -> dict[tuple[str, str], tuple[float, int]]:
    """Value and number of terms by domain and metric."""
    given = json.loads((folder / file).read_text())["intrasentence"]
    scores = {row["id"]: row["score"] for row in given}
    triples = []
    for item in read_items(folder / "dev_intrasentence_with_ids.jsonl"):
        three = [scores[item.values[name]["id"]] for name in ("stereotype", "anti-stereotype", "unrelated")]
        triples.append(Triple("intrasentence", item.values["bias_type"], item.values["target"], *three))
    return {
        (one.task.split("/")[-1], one.metric.name): (one.value, len(one))
        for one in measure_triples("stereoset", triples)
    }


@pytest.mark.parametrize("domain", ["gender", "race", "religion"])
@pytest.mark.parametrize("model", STEREOSET)
def test_stereoset_scores_are_those_of_the_official_algorithm(shared_data: Path, model: str, domain: str) -> None:
    folder = shared_data / "stereoset"
    found = stereoset_values(folder, STEREOSET[model])
    expected = json.loads((folder / "expected_scores_official_algorithm.json").read_text())[STEREOSET[model]][domain]
    for name in ("lms", "ss", "icat"):
        value, terms = found[domain, name]
        assert value == pytest.approx(expected[name.upper()], abs=0.005)
        assert terms == expected["terms"]


@pytest.mark.parametrize("domain", ["race", "religion"])
@pytest.mark.parametrize("model", STEREOSET)
def test_stereoset_scores_are_the_published_ones(shared_data: Path, model: str, domain: str) -> None:
    """Where labels are here for all examples: of gender two are missing, and of professions all."""
    folder = shared_data / "stereoset"
    found = stereoset_values(folder, STEREOSET[model])
    published = json.loads((folder / "official_results.json").read_text())[model]["intrasentence"][domain]
    for name, theirs in {"lms": "LM Score", "ss": "SS Score", "icat": "ICAT Score"}.items():
        assert found[domain, name][0] == pytest.approx(published[theirs], abs=0.005)


def taken(row: dict[str, Any], said: str) -> int | None:
    """Which answer a written prediction is, as the authors' script reads it."""

    def plain(text: str) -> str:
        return text.strip().lower().removesuffix(".")

    for place in range(3):
        if plain(said) == plain(row[f"ans{place}"]):
            return place
    for place in range(3):
        if " ".join(row["answer_info"][f"ans{place}"][0].split()[:2]).lower() in said.lower():
            return place
    return None


@pytest.mark.parametrize("condition", ["ambig", "disambig"])
@pytest.mark.parametrize("form", ["arc", "race"])
@pytest.mark.parametrize("category", ["Age", "Religion"])
def test_bbq_scores_are_the_published_ones(shared_data: Path, category: str, form: str, condition: str) -> None:
    folder = shared_data / "bbq"
    questions, answers = [], []
    for item in read_items(folder / "unifiedqa_preds" / f"preds_{category}.jsonl"):
        answer = taken(dict(item.values), item.values[f"unifiedqa-t5-11b_pred_{form}"])
        question = read_question(item)
        assert question is not None
        if answer is not None:
            questions.append(question)
            answers.append(answer)
    words = {"ambig": "ambiguous", "disambig": "disambiguated"}[condition]
    found = {(one.task, one.metric.name): one for one in measure_answers("bbq", questions, answers)}
    published = json.loads((folder / "expected_published_scores.json").read_text())
    for metric, scale in (("accuracy", 100), ("bias", 1)):
        one = found[f"bbq/{category.lower()}/{words}", metric]
        expected = published[metric][category][condition][f"UnifiedQA-11B ({form.upper()})"]
        assert scale * one.value == pytest.approx(expected, abs=0.051)
        assert one.clusters is not None and len(set(one.clusters.tolist())) < len(one) / 10
