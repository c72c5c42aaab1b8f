"""The model card: a model's README in the Hugging Face Hub's format, from facts alone.

Its sections follow Mitchell et al. 2019, "Model Cards for Model Reporting", under the headings of the Hub's annotated template
(https://huggingface.co/docs/hub/model-card-annotated). It states what was counted, measured or written down when the model
was made. What is not known is said to be not known, and what only people know stands as a place for the owner to write,
which a newer card takes over as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..units import format_bytes
from .dataset_facts import LANGUAGES, by_frequency, in_words, is_language_code, language_name
from .markdown import inline_code, markdown_table, plain_text
from .model_card_evaluation import bias_parts, evaluation_parts
from .model_card_training import training_parts

Facts = Mapping[str, Any]
Evaluations = Sequence[Mapping[str, Any]]

PIPELINES = {
    "lm": "text-generation",
    "masked": "fill-mask",
    "classify": "text-classification",
    "span": "question-answering",
    "seq2seq": "translation",
    "none": "feature-extraction",
}
# The hub's names of metrics (https://huggingface.co/metrics), where it has them.
METRICS = {
    **dict.fromkeys(("perplexity", "word_perplexity", "byte_perplexity", "token_perplexity"), "perplexity"),
    **dict.fromkeys(("rouge1", "rouge2", "rougeL"), "rouge"),
    **dict.fromkeys(("squad_exact", "squad_f1"), "squad"),
    "accuracy": "accuracy",
    "accuracy_norm": "accuracy",
    "macro_f1": "f1",
    "matthews": "matthews_correlation",
    "exact": "exact_match",
    "chrf": "chrf",
}
# Languages of fewer of the documents kept are not named in the header: identification errs.
LEAST_SHARE = 0.01
_OWNED = re.compile(r"<!-- owner:([\w-]+) -->\n(.*?)\n<!-- /owner -->", re.DOTALL)
TO_WRITE = "**To be written by the owner:**"


def model_card(facts: Facts, evaluations: Evaluations, licence: str | None = None, missing: Sequence[str] = ()) -> str:
    """The card as Markdown with a YAML header.

    Args:
        facts: of the model (evaluate/card/facts.py).
        evaluations: of these very weights, as ``scores.json`` has them.
        licence: that the owner names, as an identifier of the hub's.
        missing: tasks that were not measured.
    """
    # Of a model as it was published, its publishers say.
    stated = licence or (facts["self"]["licence"].lower() if facts["self"] else None)
    parts = [
        _header(facts, evaluations, stated),
        f"# {plain_text(title_of(facts['name']))}",
        _summary(facts),
        "Everything here was counted, measured, or read from what was written when the model was made. What only people "
        f"know stands as “{TO_WRITE}”; what is not known is said to be not known.",
        *_details(facts, stated),
        *_uses(facts),
        *bias_parts(evaluations),
        *_limits(facts, missing),
        *_start(facts),
        *training_parts(facts),
        *evaluation_parts(evaluations, missing),
        *_lineage(facts),
        *_licence(facts, licence),
    ]
    return "\n\n".join(parts) + "\n"


def title_of(name: str) -> str:
    """What a model is called: its folder's name, or that of the run that made it."""
    parts = [part for part in re.split(r"[/\\]", name.removeprefix("hf:")) if part not in ("", ".", "..")]
    return (parts[-2] if len(parts) > 1 and parts[-1] == "model" else parts[-1]) if parts else "model"


def with_owners_words(card: str, older: str) -> str:
    """A card with what the owner wrote into an older one."""
    written: dict[str, str] = dict(_OWNED.findall(older))

    def taken_over(match: re.Match[str]) -> str:
        return owned(match[1], written.get(match[1], match[2]))

    return _OWNED.sub(taken_over, card)


def left_to_write(card: str) -> list[str]:
    """The places of a card that the owner has not written yet."""
    return [name for name, text in _OWNED.findall(card) if text.startswith(TO_WRITE)]


def owned(name: str, text: str) -> str:
    """A place of the owner's; the marks around it do not show."""
    return f"<!-- owner:{name} -->\n{text}\n<!-- /owner -->"


def _header(facts: Facts, evaluations: Evaluations, licence: str | None) -> str:
    from huggingface_hub import ModelCardData

    results = _results(facts, evaluations)
    found = {one.metric_type for one in results if one.metric_name in METRICS}
    bases = [parent["hub"] for parent in facts["parents"] if parent["hub"]]
    values: dict[str, Any] = {
        "language": _languages(facts) or None,
        "license": licence,
        "library_name": "ownlm" if facts["model_type"] == "gpt3" else "transformers",
        "tags": ["ownlm", facts["family"], *(["conversational"] if facts["chats"] and facts["head"] == "lm" else [])],
        "base_model": (bases[0] if len(bases) == 1 else bases) or None,
        "base_model_relation": "finetune" if bases and facts["config"] is not None else None,
        "datasets": _hub_datasets(facts) or None,
        "metrics": sorted(found) or None,
        "pipeline_tag": PIPELINES[facts["head"]],
    }
    if results:
        values |= {"model_name": title_of(facts["name"]), "eval_results": results}
    data = ModelCardData(**{key: value for key, value in values.items() if value is not None})
    comment = "" if licence else "# license: name the licence here before you share this, for example apache-2.0\n"
    return f"---\n{comment}{data.to_yaml()}\n---"


def _results(facts: Facts, evaluations: Evaluations) -> list[Any]:
    """The scores as the hub's model-index has them; one that is no number is left out."""
    from huggingface_hub import EvalResult

    results = []
    for one in evaluations:
        args = {"limit": one["limit"]} if one.get("limit") else {}
        for score in one["scores"]:
            if score["value"] is None:
                continue
            task, _, part = score["task"].partition("/")
            between = [None if score[end] is None else round(score[end], 6) for end in ("low", "high")]
            results.append(
                EvalResult(
                    task_type=PIPELINES[facts["head"]],
                    dataset_type=task,
                    dataset_name=score["task"],
                    dataset_config=part or None,
                    dataset_args={"shots": score["shots"], **args},
                    metric_type=METRICS.get(score["metric"], score["metric"]),
                    metric_name=score["metric"],
                    metric_value=round(score["value"], 6),
                    metric_args={"items": score["n"], "interval_95": between},
                )
            )
    return results


def _hub_datasets(facts: Facts) -> list[str]:
    manifests = [one["manifest"] for one in facts["datasets"] if one["manifest"]]
    named = [source.get("dataset") for manifest in manifests for source in manifest["recipe"].get("sources", ())]
    return list(dict.fromkeys(str(name) for name in named if name))


def _languages(facts: Facts) -> list[str]:
    """Codes of the languages of the data that it was trained on here, the most frequent first."""
    counts: dict[str, int] = {}
    for one in facts["datasets"]:
        for code, count in (one["manifest"] or {}).get("languages", {}).get("kept", {}).items():
            counts[code] = counts.get(code, 0) + count
    whole = sum(counts.values())
    return [code for code, n in by_frequency(counts) if is_language_code(code) and n >= LEAST_SHARE * whole]


def _summary(facts: Facts) -> str:
    use = facts["use"].split(":")[0].split(";")[0]
    text = f"A language model of {facts['parameters']:,} parameters that {use}"
    parents = in_words([plain_text(parent["name"]) for parent in facts["parents"]])
    if facts["config"] is not None:
        text += f", trained with ownlm {f'from {parents}' if parents else 'from random weights'}"
    elif parents:
        text += f", made from {parents}"
    return text + "."


def _details(facts: Facts, licence: str | None) -> list[str]:
    languages = [LANGUAGES.get(code, code) for code in _languages(facts)]
    rows = [
        ["Architecture", plain_text(facts["architecture"])],
        ["Parameters", f"{facts['parameters']:,}"],
        ["Weights", f"{format_bytes(facts['weight_bytes'])}, {plain_text(facts['dtype'] or 'type not stated')}"],
        ["Context", f"{facts['context']:,} tokens"],
        ["What it does", plain_text(facts["use"])],
        ["Chat template", "yes" if facts["chats"] else "none"],
        *([["Labels", plain_text(in_words(facts["labels"]))]] if facts["labels"] else []),
        ["Languages of its training data here", in_words(languages) or "not known"],
        [
            "Made from",
            in_words([_model_name(one) for one in facts["parents"]])
            or (f"published as {_model_name(facts['self'])}" if facts["self"] else "random weights, or not stated"),
        ],
        ["Licence", plain_text(licence) if licence else "not stated yet; see [Licence](#licence)"],
        ["SHA-256 of the weights", inline_code(facts["weights"])],
    ]
    return [
        "## Model details",
        owned("about", f"{TO_WRITE} who made this model, for whom, and whom to contact."),
        markdown_table(["what", "value"], rows),
    ]


def _model_name(parent: Mapping[str, Any]) -> str:
    if parent["hub"]:
        return f"[{plain_text(parent['name'])}](https://huggingface.co/{parent['hub']})"
    return plain_text(parent["name"])


def _uses(facts: Facts) -> list[str]:
    able = f"By its shape the model {facts['use'].split(':')[0]}."
    if facts["chats"] and facts["head"] == "lm":
        able += " It has a chat template, and reads conversations in it."
    unable = [f"It {limit}." for limit in facts["limitations"] if not limit.startswith("reads at most")]
    together = ", question and answer together" if facts["head"] == "lm" else ""
    unable.append(f"Nothing longer than {facts['context']:,} tokens{together}.")
    if languages := [language_name(code) for code in _languages(facts)]:
        unable.append(
            f"Other languages than {in_words(languages)}: no other has a share of 1% in what it was trained on here."
        )
    unable.append(
        "Decisions about people, and anything where a wrong answer does harm, unless that very use was tested."
    )
    return [
        "## Uses",
        "### Direct use",
        able,
        owned("uses", f"{TO_WRITE} what the model is meant for, and by whom it is to be used."),
        "### Out-of-scope use",
        "\n".join(f"- {one}" for one in unable),
        owned("misuses", f"{TO_WRITE} uses that you do not want, and what was done against them."),
    ]


def _limits(facts: Facts, missing: Sequence[str]) -> list[str]:
    limits = [f"The model {limit}." for limit in facts["limitations"]]
    silent = [plain_text(name) for name in facts["silent"]]
    if silent:
        limits.append(
            f"What {in_words(silent)} {'was' if len(silent) == 1 else 'were'} trained on is not known here: neither its languages, "
            "its licences, its personal data nor whether it holds the items of public tests."
        )
    if facts["head"] in ("lm", "seq2seq"):
        limits.append(
            "What it writes is likely text and need not be true; nothing here measures whether its statements are."
        )
    if missing:
        limits.append(
            f"{len(missing)} of the tasks that come with ownlm were not measured; see [Not measured](#not-measured)."
        )
    return ["### Limitations", "\n".join(f"- {one}" for one in limits)]


def _start(facts: Facts) -> list[str]:
    command = {
        "lm": "ownlm chat MODEL" if facts["chats"] else 'ownlm generate MODEL --prompt "Once"',
        "masked": "ownlm eval MODEL",
        "none": "ownlm explain MODEL --text 'A text'",
    }.get(facts["head"], "ownlm predict MODEL --text 'A text'")
    parts = ["## How to get started", f"```sh\npip install ownlm\n{command}\n```"]
    if facts["model_type"] == "gpt3":
        return [*parts, "`MODEL` is the folder that holds this file. Other programs do not know this shape."]
    parts.append(
        "`MODEL` is the folder that holds this file. Transformers and the programs built on it read it as well:"
    )
    calls = ["from transformers import pipeline", "", f'pipe = pipeline("{PIPELINES[facts["head"]]}", model="MODEL")']
    if facts["head"] == "lm" and facts["chats"]:
        calls.append('print(pipe([{"role": "user", "content": "Hello"}])[0]["generated_text"])')
    elif facts["head"] == "lm":
        calls.append('print(pipe("Once")[0]["generated_text"])')
    return [*parts, "```python\n" + "\n".join(calls) + "\n```"]


def _lineage(facts: Facts) -> list[str]:
    rows = [["This model", plain_text(title_of(facts["name"])), f"weights {inline_code(facts['weights'])}"]]
    for parent in facts["parents"]:
        rows.append(["Made from", _model_name(parent), f"licence {parent['licence'] or 'not known'}"])
    for one in facts["datasets"]:
        of = "" if one["model"] == facts["name"] else f" of {plain_text(one['model'])}"
        known = f"content {inline_code(one['sha256'])}" if one["sha256"] else "its content was not recorded"
        rows.append([f"Training data{of}", plain_text(one["name"]), known])
    for key in ("source", "sha256", "revision", "package"):
        if isinstance(facts["lineage"].get(key), str):
            rows.append(
                [key.capitalize().replace("Sha256", "SHA-256 of the source"), inline_code(facts["lineage"][key]), ""]
            )
    rows.append(["Card", f"ownlm {facts['ownlm']}", ""])
    return ["## Lineage", markdown_table(["what", "name", "exactly"], rows)]


def _licence(facts: Facts, licence: str | None) -> list[str]:
    known = facts["self"]
    lines = [f"The owner states: {plain_text(licence)}."] if licence else []
    if not licence and not known:
        lines.append("None is stated for this model yet.")
    if known:
        lines.append(f"Its publishers give it as {known['licence']}.")
    for parent in facts["parents"]:
        lines.append(
            f"{plain_text(parent['name'])}: {parent['licence']}."
            if parent["licence"]
            else f"{plain_text(parent['name'])}: the licence is not known here; find it out before sharing."
        )
    for one in facts["datasets"]:
        stated = (one["manifest"] or {}).get("recipe", {}).get("license")
        lines.append(
            f"Data {plain_text(one['name'])}: {plain_text(stated)}."
            if stated
            else f"Data {plain_text(one['name'])}: the licence is not known here; find it out before sharing."
        )
    return [
        "## Licence",
        "\n".join(f"- {line}" for line in lines),
        owned("licence", f"{TO_WRITE} under which terms this model may be used, and whom to credit."),
    ]
