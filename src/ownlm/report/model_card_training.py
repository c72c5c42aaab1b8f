"""The parts of a model card about data and training: sources, what was dropped and why, the ledger, the procedure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ..units import format_seconds, plural
from .dataset_facts import KINDS, POLICIES, amount_of, amounts, by_frequency, format_share, language_name, reason_name
from .markdown import fence_for, inline_code, markdown_table, plain_text

STATES = {
    "gone": "its folder is not here any more, so only what the model's own file says is known of it",
    "changed": "what stands there now is not what the model was trained on, so nothing is said of it",
    "unknown": "the model does not say what it held, so what stands there now is taken for it",
}
# Of a recipe's or manifest's reasons, the stages that speak for themselves.
_STAGES = {
    "filter": "rule",
    "duplicate": "copies",
    "personal-data": "personal data",
    "contaminated": "evaluation items",
}


def training_parts(facts: Mapping[str, Any]) -> list[str]:
    """Training data, then the procedure."""
    parts = ["## Training details", "### Training data"]
    if not facts["datasets"] and facts["config"] is None:
        return [*parts, "What this model was trained on is not known here: its files do not say."]
    for one in facts["datasets"]:
        parts += _data(one, facts["name"])
    parts += [
        f"What {plain_text(parent['name'])} was trained on before is not known here."
        for parent in facts["parents"]
        if parent["name"] in facts["silent"]
    ]
    if ledger := facts["metrics"].get("ledger"):
        parts += _ledger(ledger)
    return [*parts, *_procedure(facts)]


def _data(one: Mapping[str, Any], model: str) -> list[str]:
    name = f"**{plain_text(one['name'])}**" + ("" if one["model"] == model else f", of {plain_text(one['model'])}")
    manifest = one["manifest"]
    if manifest is None:
        state = STATES.get(one["state"], "files that were used as they are; no build counted, cleaned or searched them")
        return [f"{name}: {state}."]
    documents, unit = manifest["documents"], amounts(manifest)
    train = manifest["splits"].get("train", {})
    lead = f"{name}: {plural(train.get('documents', 0), 'document')} to train on with {amount_of(manifest['splits'], unit, 'train'):,} "
    lead += f"{unit}, kept of {documents['read']:,} read."
    lead += f" Note: {STATES['unknown']}." if one["state"] == "unknown" else ""
    recipes = {str(source.get("name")): source for source in manifest["recipe"].get("sources", ())}
    rows = []
    for source, counts in manifest["sources"].items():
        recipe = recipes.get(source, {})
        origin = (
            f"data set {inline_code(recipe['dataset'])}"
            if recipe.get("dataset")
            else "database"
            if recipe.get("query")
            else "files"
        )
        kept = counts["documents"]
        amount = amount_of(counts["splits"], unit, "train")
        rows.append([plain_text(source), origin, kept["read"], kept["kept"], amount, "not stated"])
    parts = [lead, markdown_table(["source", "where from", "read", "kept", f"{unit} to train on", "licence"], rows)]
    return [*parts, *_dropped(documents), *_cleaning(manifest)]


def _dropped(documents: Mapping[str, Any]) -> list[str]:
    reasons = by_frequency({reason: count for reason, count in documents["dropped"].items() if count})
    if not reasons:
        return ["No document was dropped."]
    rows = []
    for reason, count in reasons:
        stage = _STAGES.get(reason.partition("/")[0], "")
        rows.append([plain_text(f"{stage}: {reason_name(reason)}" if stage else reason_name(reason)), count])
    return [markdown_table(["dropped because of", "documents"], rows)]


def _cleaning(manifest: Mapping[str, Any]) -> list[str]:
    """Duplicates, personal data, decontamination and languages, a line each."""
    copies = manifest["duplicates"]
    lines = [
        f"Copies removed: {copies['exact']:,} exact, {copies['near']:,} near; {copies['paragraphs']:,} repeated paragraphs cut."
    ]
    kinds = {name: kind for name, kind in manifest["personal_data"].items() if kind["found"]}
    told = [
        f"{KINDS.get(name, plain_text(name))} in {plural(kind['found'], 'place')}, {POLICIES.get(kind['policy'], kind['policy'])}"
        for name, kind in kinds.items()
    ]
    lines.append(f"Personal data and secrets: {'; '.join(told) or 'looked for by their form, and none found'}.")
    sets = manifest["contamination"]["sets"]
    lines.append(
        "Evaluation items looked for when the data was built: "
        + (
            ", ".join(f"{plain_text(name)} ({found['hits']:,} found)" for name, found in sets.items())
            or "none were named"
        )
        + "."
    )
    languages = manifest["languages"]["kept"]
    whole = sum(languages.values())
    shares = [f"{plain_text(language_name(code))} {format_share(n, whole)}" for code, n in by_frequency(languages)[:5]]
    lines.append(f"Languages, as identified: {', '.join(shares) or 'not known'}.")
    return ["\n".join(f"- {line}" for line in lines)]


def _ledger(ledger: Mapping[str, Any]) -> list[str]:
    """Every token of every source, counted once."""
    rows = []
    sources = ledger.get("sources", {})
    whole = [("all", ledger["total"])] if len(sources) > 1 and "total" in ledger else []
    for name, counts in [*sources.items(), *whole]:
        dropped = sum(part.get("tokens", 0) for part in counts["dropped"].values())
        numbers = (counts[key] for key in ("trained", "masked", "truncated"))
        rows.append([plain_text(name), counts["documents"], *numbers, dropped, counts["unseen"]])
    columns = ["source", "documents", "learned", "read only", "cut off", "dropped", "not reached"]
    reasons = {
        reason: part.get("tokens", 0) for counts in sources.values() for reason, part in counts["dropped"].items()
    }
    note = "Tokens in the run: learned, only read as context, cut off, dropped, and never reached in its steps."
    if reasons:
        note += " Dropped: " + "; ".join(f"{plain_text(name)} ({count:,})" for name, count in reasons.items()) + "."
    return [note, markdown_table(columns, rows)]


def _procedure(facts: Mapping[str, Any]) -> list[str]:
    parts, config, metrics = ["### Training procedure"], facts["config"], facts["metrics"]
    if config is None:
        return [*parts, "How this model was trained is not known here: its files do not say."]
    optimizer, schedule = config.get("optimizer") or {}, config.get("schedule") or {}
    adapter = config.get("adapter") or {}
    how = f"LoRA of rank {adapter['rank']}, merged into the weights" if adapter else "all weights"
    trained = metrics.get("trained_parameters")
    rows = [
        ["Objective", plain_text((config.get("objective") or {}).get("kind", "not stated"))],
        ["Trained", how + (f" ({trained:,} parameters)" if trained else "")],
        ["Steps", f"{metrics.get('steps', 0):,}, each of at most {config.get('batch_tokens', 0):,} tokens"],
        ["Tokens read", _count(metrics.get("tokens"))],
        [
            "Optimizer",
            f"{plain_text(optimizer.get('kind'))}, learning rate {optimizer.get('lr')}, {plain_text(schedule.get('kind'))} schedule",
        ],
        ["Seed", str(config.get("seed"))],
        ["Training loss at the end", _loss(metrics.get("loss"))],
        ["Held-out loss", _held_out(metrics)],
        ["Hardware", plain_text(metrics.get("device") or "not recorded")],
        ["Time", format_seconds(facts["seconds"]) if facts["seconds"] else "not recorded"],
        ["Energy", "not measured"],
    ]
    parts.append(markdown_table(["what", "value"], rows))
    if len(facts["curve"]) > 1:
        lines = [[step, _loss(loss, "–"), _loss(held, "–")] for step, loss, held in facts["curve"]]
        parts.append(markdown_table(["step", "training loss", "held-out loss"], lines))
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)
    fence = fence_for(text, 3)
    parts.append(
        f"<details><summary>The whole configuration</summary>\n\nPaths are those of the machine that trained it.\n\n{fence}yaml\n{text}{fence}\n\n</details>"
    )
    return parts


def _held_out(metrics: Mapping[str, Any]) -> str:
    before, after = metrics.get("val_loss_before"), metrics.get("val_loss")
    if after is None:
        return "not measured"
    return f"{before:.4f} before, {after:.4f} after" if before is not None else f"{after:.4f}"


def _loss(value: float | None, nothing: str = "not recorded") -> str:
    return nothing if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "not recorded" if value is None else f"{value:,}"
