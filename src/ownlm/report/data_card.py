"""The data card: a data set's README in the Hugging Face Hub's format, from a build's manifest alone.

It states what the manifest states and shows no text of the documents. The licence, and what only people know, are left
to the owner.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import yaml

from ..units import format_bytes, plural
from .dataset_facts import (
    KINDS,
    POLICIES,
    Manifest,
    amount_of,
    amounts,
    as_count,
    by_frequency,
    dropped_late,
    format_share,
    hits_left_in,
    in_words,
    is_language_code,
    language_name,
    length_name,
    not_looked_for,
    reason_name,
    stages,
    without_documents,
)
from .markdown import fence_for, inline_code, markdown_table, plain_text

# The hub's sizes: https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
_NAMES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
SIZES = tuple((10 ** (3 + power), name) for power, name in enumerate(_NAMES))
# Languages of fewer of the documents kept are not named in the header: identification errs.
LEAST_SHARE = 0.01
MASKED_SECRET = re.compile(r"\*{4,}")
FILES = (
    ("documents/*.parquet", "a row for every document that could be read, with its signals"),
    ("manifest.json", "the counts that this card is made from"),
    ("report.html", "the same with samples of what was dropped; it quotes documents, so look it over before sharing"),
    ("failures.jsonl", "every entry that could not be read"),
)
COLUMNS = (
    ("text", "the document; null where it was dropped"),
    ("messages", "a conversation's messages as JSON, else null"),
    ("source, file, line", "where it was read"),
    ("split", "train, validation or test; null where it was dropped"),
    ("reason", "why it was dropped; null where it was kept"),
    ("cluster", "the same for documents that are copies of each other"),
)


def data_card(manifest: Mapping[str, Any]) -> str:
    """The card as Markdown with a YAML header, to be written as ``README.md`` into the data set's folder."""
    names = [plain_text(name) for name in manifest["sources"]]
    parts = [
        _header(manifest),
        f"# Documents from {in_words(names[:5] + ([f'{len(names) - 5} more sources'] if names[5:] else []))}",
        *_what_it_is(manifest),
        "## How it was made",
        *_sources(manifest),
        *_filters(manifest),
        *_duplicates(manifest),
        *_personal_data(manifest),
        *_decontamination(manifest),
        *_splits(manifest),
        *_composition(manifest),
        *_sensitive_information(manifest),
        *_limits(manifest),
        *_licence(manifest),
        *_again(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _header(manifest: Manifest) -> str:
    kept = manifest["languages"]["kept"]
    whole = sum(kept.values())
    languages = [code for code, count in by_frequency(kept) if is_language_code(code) and count >= LEAST_SHARE * whole]
    licence = manifest["recipe"].get("license")
    chat = (manifest["recipe"].get("tokens") or {}).get("kind") == "chat"
    values: dict[str, Any] = {"language": languages} if languages else {}
    if licence:
        values["license"] = licence
    values |= {
        "size_categories": [_size(manifest["documents"]["kept"])],
        "task_categories": ["text-generation"],
        "tags": ["ownlm", *(["conversational"] if chat else [])],
        # One split, since a table holds all documents and its column `split` says where each belongs.
        "configs": [{"config_name": "default", "data_files": [{"split": "documents", "path": "documents/*.parquet"}]}],
    }
    comment = "" if licence else "# license: name the licence here before you share this, for example cc-by-4.0\n"
    return f"---\n{comment}{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def _size(documents: int) -> str:
    if documents < SIZES[0][0]:
        return f"n<{SIZES[0][1]}"
    for (_, name), (high, above) in pairwise(SIZES):
        if documents < high:
            return f"{name}<n<{above}"
    return f"n>{SIZES[-1][1]}"


def _what_it_is(manifest: Manifest) -> list[str]:
    documents, splits, unit = manifest["documents"], manifest["splits"], amounts(manifest)
    amount = amount_of(splits, unit)
    text = f"{plural(documents['kept'], 'document')} with {amount:,} {unit}, to train language models on: "
    text += f"what was kept of {documents['read']:,} read from {plural(len(manifest['sources']), 'source')} "
    text += f"({format_bytes(manifest['bytes'])} of text), prepared with ownlm."
    return [
        "## What it is",
        text,
        markdown_table(["file", "what it holds"], [[inline_code(name), what] for name, what in FILES]),
        "The columns of the documents that matter most:",
        markdown_table(["column", "what it holds"], [[inline_code(name), what] for name, what in COLUMNS]),
    ]


def _sources(manifest: Manifest) -> list[str]:
    recipes = {str(source.get("name")): source for source in manifest["recipe"].get("sources", [])}
    rows = []
    for name, source in manifest["sources"].items():
        documents = source["documents"]
        counts = [documents["read"], documents["kept"], as_count(documents["dropped"])]
        rows.append([plain_text(name), _origin(recipes.get(name, {})), *counts])
    total = manifest["documents"]
    rows.append(["all", "", total["read"], total["kept"], as_count(total["dropped"])])
    steps = [[stage.name, stage.left, stage.lost] for stage in stages(manifest)]
    return [
        "### Sources",
        markdown_table(["source", "where from", "read", "kept", "dropped"], rows),
        "A document was dropped for the first reason that applied, in this order:",
        markdown_table(["step", "documents left", "dropped in it"], [["Read", total["read"], ""], *steps]),
    ]


def _origin(source: Mapping[str, Any]) -> str:
    if source.get("dataset"):
        revision = f" at {inline_code(source['revision'])}" if source.get("revision") else ""
        return f"data set {inline_code(source['dataset'])}{revision}"
    return "database query" if source.get("query") else "files"


def _filters(manifest: Manifest) -> list[str]:
    rules, dropped = manifest["rules"], manifest["documents"]["dropped"]
    if not rules:
        return ["### Filters", "No filter was applied."]
    rows = [[inline_code(name), inline_code(rule), dropped.get(f"filter/{name}", 0)] for name, rule in rules.items()]
    text = "A document was dropped when a rule's expression over its signals was true. One to which several rules "
    text += "apply is counted once."
    return ["### Filters", text, markdown_table(["rule", "expression", "documents dropped"], rows)]


def _duplicates(manifest: Manifest) -> list[str]:
    found, options = manifest["duplicates"], manifest["recipe"].get("duplicates") or {}
    sentences = []
    if options.get("near"):
        sentences.append(
            f"Documents whose Jaccard index with a kept one, over sets of {options.get('ngram', 5)} words in a row, is "
            f"{options['near']} or more were dropped as near-copies."
        )
    sentences.append(
        f"Found: {plural(found['clusters'], 'cluster')} of copies with {plural(found['documents'], 'document')}. "
        f"Dropped as exact copies: {found['exact']:,}; as near-copies: {found['near']:,}. "
        f"Repeated paragraphs cut from documents: {found['paragraphs']:,}."
    )
    return ["### Duplicates", " ".join(sentences)]


def _personal_data(manifest: Manifest) -> list[str]:
    kinds = manifest["personal_data"]
    if not kinds:
        return ["### Personal data", "Personal data and secrets were looked for, and none was found."]
    text = (
        "Personal data and secrets were looked for by their form and, where they have them, their check digits, in all "
    )
    text += "documents read. A document may hold several kinds."
    rows = [
        [
            KINDS.get(name, plain_text(name)),
            kind["found"],
            kind["documents"],
            POLICIES.get(kind["policy"], plain_text(kind["policy"])),
        ]
        for name, kind in sorted(kinds.items(), key=lambda item: (-item[1]["found"], item[0]))
    ]
    return ["### Personal data", text, markdown_table(["kind", "places", "documents", "what became of them"], rows)]


def _decontamination(manifest: Manifest) -> list[str]:
    sets = manifest["contamination"]["sets"]
    if not sets:
        return ["### Decontamination", "No evaluation set was named, so no items were looked for."]
    action = (manifest["recipe"].get("decontaminate") or {}).get("action")
    actions = {
        "drop": "documents with a hit were dropped",
        "cut": "the matched text was cut out",
        "report": "hits were only reported",
    }
    text = "Items of these evaluation sets were looked for in the documents"
    text += f"; {actions[action]}." if action in actions else "."
    dropped = manifest["documents"]["dropped"]
    rows = [
        [
            plain_text(name),
            *(found[key] for key in ("items", "unchecked", "hits", "documents")),
            dropped.get(f"contaminated/{name}", 0),
        ]
        for name, found in sets.items()
    ]
    columns = ["set", "items", "not checked", "hits", "documents with a hit", "documents dropped for it"]
    note = "Items that are too short or too common were not checked. A document may have been dropped for an earlier "
    note += "reason."
    return ["### Decontamination", text, markdown_table(columns, rows), note]


def _splits(manifest: Manifest) -> list[str]:
    text = "Documents were divided by a hash of their cluster of copies, so that the members of a cluster that was "
    text += "found are in one split."
    if (manifest["recipe"].get("split") or {}).get("group") is True:
        text += " Records with the same group, where the sources name one, are in one split too."
    return ["### Split", text]


def _composition(manifest: Manifest) -> list[str]:
    splits, unit, kept = manifest["splits"], amounts(manifest), manifest["documents"]["kept"]
    rows = [
        [plain_text(n), s["documents"], format_share(s["documents"], kept), s["tokens"], s["characters"]]
        for n, s in splits.items()
    ]
    tokens = amount_of(splits, "tokens") if unit == "tokens" else None
    rows.append(["all", kept, format_share(kept, kept), tokens, amount_of(splits, "characters")])
    parts = ["## Composition", markdown_table(["split", "documents", "share", "tokens", "characters"], rows)]
    if tokenizer := manifest.get("tokenizer"):
        kind, size = plain_text(tokenizer["kind"]), tokenizer["vocab_size"]
        parts.append(f"Tokens are those of the tokenizer “{kind}”, which has {size:,} ids.")
    whole = amount_of(splits, unit)
    rows = [
        [
            plain_text(name),
            source["documents"]["kept"],
            amount,
            format_share(amount, whole),
            f"{source.get('weight', 1):g}",
        ]
        for name, source in manifest["sources"].items()
        for amount in [amount_of(source["splits"], unit)]
    ]
    parts.append(markdown_table(["source", "documents", unit, f"share of {unit}", "weight in the mix"], rows))
    languages = manifest["languages"]["kept"]
    counted = sum(languages.values())
    rows = [[plain_text(language_name(code)), n, format_share(n, counted)] for code, n in by_frequency(languages)]
    parts.append(markdown_table(["language, as identified", "documents", "share"], rows))
    lengths = sorted(manifest["lengths"]["kept"].items(), key=lambda item: int(item[0]))
    rows = [[length_name(bits), n, format_share(n, counted)] for bits, n in lengths]
    parts.append(markdown_table(["words", "documents", "share"], rows))
    if late := dropped_late(manifest):
        parts.append(f"The last two tables count {late:,} documents more: they were dropped later, as too long.")
    return parts


def _sensitive_information(manifest: Manifest) -> list[str]:
    kinds = manifest["personal_data"]
    sentences = []
    left = [
        KINDS.get(name, plain_text(name)) for name, kind in kinds.items() if kind["policy"] == "keep" and kind["found"]
    ]
    changed = [
        KINDS.get(name, plain_text(name)) for name, kind in kinds.items() if kind["policy"] != "keep" and kind["found"]
    ]
    if changed:
        sentences.append(f"What was found of these kinds does not stand in the documents kept: {'; '.join(changed)}.")
    if left:
        sentences.append(f"**What was found of these kinds was left in the documents: {'; '.join(left)}.**")
    if missing := not_looked_for(manifest):
        sentences.append(f"Not looked for: {'; '.join(missing)}.")
    sentences.append(
        "What does not have a usual form is not found, and other sensitive matters, such as health or beliefs, are not "
        "looked for: treat the documents as if they could still hold personal data."
    )
    return ["## Personal and sensitive information", " ".join(sentences)]


def _limits(manifest: Manifest) -> list[str]:
    failures, sets = manifest["failures"]["count"], manifest["contamination"]["sets"]
    limits = [
        "All counts and decisions were made by programs; this card records no review by people.",
        "The filters count what can be counted in a text. They do not judge whether it is true, fair or fit for a purpose.",
        "Languages are identified from the text, which errs on short texts and on related languages.",
    ]
    near = (manifest["recipe"].get("duplicates") or {}).get("near")
    limits.append(
        f"Documents less alike than a Jaccard index of {near} count as different."
        if near
        else "Near-copies were not dropped."
    )
    if sets:
        unchecked = sum(found["unchecked"] for found in sets.values())
        limit = "Only the evaluation sets named above were looked for"
        limits.append(limit + (f", and {unchecked:,} of their items were not." if unchecked else "."))
    else:
        limits.append(
            "Nothing is known of evaluation items in the documents, so scores on public tests may be too high."
        )
    if left_in := hits_left_in(manifest):
        limits.append(
            f"Of the hits listed in the manifest, {left_in:,} stand in documents that were not dropped for them."
        )
    if failures:
        reasons = in_words(
            [
                f"{plain_text(reason_name('unreadable/' + r))} ({n:,})"
                for r, n in by_frequency(manifest["failures"]["reasons"])
            ]
        )
        limits.append(
            f"{plural(failures, 'entry') if failures == 1 else f'{failures:,} entries'} could not be read: {reasons}."
        )
    if empty := [plain_text(name) for name in without_documents(manifest)]:
        limits.append(f"There are no documents for {in_words(empty)}.")
    return ["## Known limits", "\n".join(f"- {limit}" for limit in limits)]


def _licence(manifest: Manifest) -> list[str]:
    if licence := manifest["recipe"].get("license"):
        return ["## Licence", f"{plain_text(licence)}, as stated in the recipe."]
    text = (
        "None is stated. Before sharing this data set, find out what its sources allow, name the licence at the top of "
    )
    return ["## Licence", text + "this file, and say here whom to credit."]


def _again(manifest: Manifest) -> list[str]:
    recipe = yaml.safe_dump(dict(manifest["recipe"]), sort_keys=False, allow_unicode=True, width=100)
    fence = fence_for(recipe, 3)
    text = "Save this as `recipe.yaml` and run `ownlm data build recipe.yaml --out DIR`. The same recipe and the same "
    text += "input give the same bytes. Paths are those of the machine that built it; look them over before sharing."
    if MASKED_SECRET.search(recipe):
        text += " Secrets are masked and must be put in again."
    return ["## How to make it again", text, f"{fence}yaml\n{recipe}{fence}"]
