"""The data report: what was read, what was kept, and why the rest went, drawn from a build's manifest alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..units import format_bytes, format_count, format_number, plural
from .dataset_evidence import add_contamination, add_duplicates, add_failures, reason_samples
from .dataset_facts import (
    KINDS,
    POLICIES,
    SPLITS,
    Manifest,
    Stage,
    amount_of,
    amounts,
    as_count,
    by_frequency,
    discrepancies,
    dropped_late,
    format_share,
    hits_left_in,
    in_words,
    language_name,
    languages_in_words,
    length_name,
    not_looked_for,
    reason_name,
    rule_of,
    shortened,
    stages,
    typical_length,
    without_documents,
)
from .page import BarRow, Figure, Report
from .training import as_rows

SPLIT_COLORS = dict(zip(SPLITS, ("first", "second", "third"), strict=True))
KEPT_OR_DROPPED = (("first", "kept"), ("lost", "dropped"))
# More languages than this are folded away.
MOST_LANGUAGES = 15
# A recipe's values are settings; a longer one is a file of its own and is cut here.
MOST_OF_A_VALUE = 600
# A longer recipe is folded.
MOST_SETTINGS = 60


def dataset_report(manifest: Mapping[str, Any], folder: str = "") -> Report:
    """The report of one build.

    Args:
        manifest: the build's manifest.json.
        folder: the data set's folder, to be named under the title.
    """
    report = Report("Data report", subtitle=folder)
    for paragraph in _summary(manifest):
        report.summary(paragraph)
    report.figures(_key_figures(manifest))
    report.contents()
    _add_funnel(report, manifest)
    _add_reasons(report, manifest)
    _add_lengths_and_languages(report, manifest)
    _add_sources(report, manifest)
    _add_splits(report, manifest)
    add_duplicates(report, manifest)
    _add_personal_data(report, manifest)
    add_contamination(report, manifest)
    add_failures(report, manifest)
    _add_recipe(report, manifest)
    return report


def _summary(manifest: Manifest) -> list[str]:
    documents, sources = manifest["documents"], manifest["sources"]
    read, kept = documents["read"], documents["kept"]
    if not read:
        return ["Nothing was read: the sources hold no documents."]
    size = f", {format_bytes(manifest['bytes'])} of text"
    text = f"{plural(read, 'document')}{size}, were read from {plural(len(sources), 'source')}. "
    text += f"{kept:,} of them, {format_share(kept, read)}, were kept."
    lost = [stage for stage in stages(manifest) if stage.lost]
    if not lost:
        return [text + " Nothing was dropped."]
    return [
        text,
        f"Why the other {as_count(documents['dropped']):,} went: " + "; ".join(map(_loss_in_words, lost)) + ".",
    ]


def _loss_in_words(stage: Stage) -> str:
    """``1,204 filtered out (most often “too_short”, 610)``."""
    first, count = stage.reasons[0]
    name = f"“{shortened(reason_name(first), 60)}”"
    detail = f"most often {name}, {count:,}" if len(stage.reasons) > 1 else name
    return f"{stage.lost:,} {stage.loss[0].lower()}{stage.loss[1:]} ({detail})"


def _key_figures(manifest: Manifest) -> list[Figure]:
    documents, splits = manifest["documents"], manifest["splits"]
    unit = amounts(manifest)
    duplicates, failures = manifest["duplicates"], manifest["failures"]["count"]
    copies = duplicates["exact"] + duplicates["near"]
    hits = sum(found["hits"] for found in manifest["contamination"]["sets"].values())
    left_in = hits_left_in(manifest)
    spans = sum(kind["found"] for kind in manifest["personal_data"].values())
    held_out = sum(split["documents"] for name, split in splits.items() if name != "train")
    amount = amount_of(splits, unit, "train")
    figures = [
        Figure("Read", f"{documents['read']:,}", f"documents, {format_bytes(manifest['bytes'])} of text"),
        Figure("Kept", f"{documents['kept']:,}", f"documents, {format_share(documents['kept'], documents['read'])}"),
        Figure("To train on", format_count(amount), unit),
        Figure("Held out", f"{held_out:,}", "documents for validation and test"),
        Figure("Copies dropped", f"{copies:,}", f"{plural(duplicates['clusters'], 'cluster')} of copies"),
        Figure("Personal data", f"{spans:,}", "places found" if spans else "nothing found"),
    ]
    if manifest["contamination"]["sets"]:
        note = f"{left_in:,} of those listed left in" if left_in else "none left in" if hits else ""
        figures.append(Figure("Evaluation items found", f"{hits:,}", note, good=False if left_in else None))
    figures.append(Figure("Could not be read", f"{failures:,}", "files and records" if failures else ""))
    return figures


def _add_funnel(report: Report, manifest: Manifest) -> None:
    report.section("From read to kept")
    for sentence in discrepancies(manifest):
        report.note(f"These numbers do not add up, so the manifest may be damaged. {sentence}", warning=True)
    read = manifest["documents"]["read"]
    if not read:
        report.note("There is nothing to draw.")
        return
    rows = [BarRow("Read", [("first", 1)], [read, format_share(read, read), None])]
    splits = manifest["splits"]
    for stage in stages(manifest):
        bar = [("first", stage.left / read), ("lost", stage.lost / read)]
        if stage.name == "Kept":
            bar = [(_color(name), split["documents"] / read) for name, split in splits.items()] + bar[1:]
        rows.append(BarRow(stage.name, bar, [stage.left, format_share(stage.left, read), stage.lost or None]))
    for name, split in splits.items():
        share = split["documents"] / read
        rows.append(
            BarRow(
                name,
                [(_color(name), share)],
                [split["documents"], format_share(split["documents"], read), None],
                level=1,
            )
        )
    held_out = [(_color(name), name) for name in splits if name != "train"]
    legend = [("first", "left"), ("lost", "lost in this step"), *held_out]
    caption = "A document is dropped for the first reason that applies, in this order."
    report.bars("Documents", ["step", "left", "share of read", "lost here"], rows, legend, caption)


def _color(split: str) -> str:
    return SPLIT_COLORS.get(split, "fourth")


def _add_reasons(report: Report, manifest: Manifest) -> None:
    read, kept = manifest["documents"]["read"], manifest["documents"]["kept"]
    dropped = as_count(manifest["documents"]["dropped"])
    report.section("Why documents were dropped")
    if not dropped:
        report.note("No document was dropped.")
        return
    most = max(count for stage in stages(manifest) for _, count in stage.reasons) or 1
    rows = []
    for stage in stages(manifest):
        if not stage.reasons:
            continue
        rows.append(BarRow(stage.loss, values=[stage.lost, format_share(stage.lost, read)], level=-1))
        for reason, count in stage.reasons:
            samples = reason_samples(manifest, reason)
            values = [count, format_share(count, read)]
            fold = f"{plural(len(samples), 'sample')} of what it removed"
            bar = [("lost", count / most)]
            rows.append(BarRow(reason_name(reason), bar, values, _rule(manifest, reason), 0, fold, samples))
    rows.append(BarRow("Dropped in all", values=[dropped, format_share(dropped, read)], level=-1))
    rows.append(BarRow("Kept", values=[kept, format_share(kept, read)], level=-1))
    rows.append(BarRow("Read", values=[read, format_share(read, read)], level=-1))
    caption = "Under a filter's name stands its expression: documents for which it is true are dropped. "
    caption += "Personal data in the samples is masked."
    report.bars("Reasons", ["reason", "documents", "share of read"], rows, caption=caption)
    _add_idle_rules(report, manifest)


def _rule(manifest: Manifest, reason: str) -> str:
    return shortened(rule_of(manifest, reason), MOST_OF_A_VALUE)


def _add_idle_rules(report: Report, manifest: Manifest) -> None:
    dropped = manifest["documents"]["dropped"]
    idle = [name for name in manifest["rules"] if not dropped.get(f"filter/{name}")]
    if not idle:
        return
    with report.fold(f"{plural(len(idle), 'rule')} that removed nothing"):
        report.table(
            "Rules without effect", ["rule", "expression"], [[name, _rule(manifest, f"filter/{name}")] for name in idle]
        )


def _add_lengths_and_languages(report: Report, manifest: Manifest) -> None:
    report.section("Lengths and languages")
    lengths, languages = manifest["lengths"], manifest["languages"]
    bins = sorted({int(bin_) for counts in lengths.values() for bin_ in counts})
    if not bins:
        report.note("No document was measured.")
        return
    filled = [str(bin_) for bin_ in range(bins[0], bins[-1] + 1)]
    rows = _kept_and_dropped([(length_name(bin_), bin_) for bin_ in filled], lengths)
    caption = "By the number of words; each row spans twice the row above it."
    report.bars("Lengths", ["words", "kept", "dropped"], rows, KEPT_OR_DROPPED, caption, narrow=True)
    all_of = {
        code: languages["kept"].get(code, 0) + languages["dropped"].get(code, 0)
        for code in [*languages["kept"], *languages["dropped"]]
    }
    ordered = [code for code, _ in by_frequency(all_of)]
    rows = _kept_and_dropped([(language_name(code), code) for code in ordered], languages)
    columns = ["language", "kept", "dropped"]
    # One or two beyond the limit are not worth a fold.
    shown = len(rows) if len(rows) <= MOST_LANGUAGES + 2 else MOST_LANGUAGES
    caption = "As identified from the text, which errs on short texts and on related languages."
    report.bars("Languages", columns, rows[:shown], KEPT_OR_DROPPED, caption, narrow=True)
    if rows[shown:]:
        with report.fold(f"{len(rows) - shown} more languages"):
            report.bars(
                "Less frequent languages", columns, rows[shown:], KEPT_OR_DROPPED, "At the same scale.", narrow=True
            )
    unread = stages(manifest)[0].lost
    if unread:
        report.note(f"Without the {unread:,} that could not be read.")
    if late := dropped_late(manifest):
        report.note(f"Dropped later, when tokens were written: {late:,} of those shown as kept.")


def _kept_and_dropped(names: Sequence[tuple[str, str]], counts: Mapping[str, Mapping[str, int]]) -> list[BarRow]:
    """Rows of (label, key) with a bar for those kept and those dropped, the longest as wide as there is room."""
    pairs = [(counts["kept"].get(key, 0), counts["dropped"].get(key, 0)) for _, key in names]
    most = max(map(sum, pairs), default=0) or 1
    return [
        BarRow(label, [("first", kept / most), ("lost", dropped / most)], [kept, dropped])
        for (label, _), (kept, dropped) in zip(names, pairs, strict=True)
    ]


def _add_sources(report: Report, manifest: Manifest) -> None:
    report.section("By source")
    sources, unit = manifest["sources"], amounts(manifest)
    whole = amount_of(manifest["splits"], unit)
    rows = []
    for name, source in sources.items():
        documents, amount = source["documents"], amount_of(source["splits"], unit)
        counts = [documents["read"], documents["kept"], as_count(documents["dropped"]), amount]
        drawn = [_plain(source.get("weight", 1.0)), _plain(source.get("epochs"))]
        bar = [("first", amount / whole)] if whole else ()
        rows.append(BarRow(name, bar, [*counts, format_share(amount, whole), *drawn]))
    total = manifest["documents"]
    sums = [total["read"], total["kept"], as_count(total["dropped"]), whole, format_share(whole, whole)]
    rows.append(BarRow("All", values=[*sums, "", ""], level=-1))
    columns = ["source", "read", "kept", "dropped", unit, "share", "weight", "most epochs"]
    caption = (
        f"The bar is the share of all {unit} kept. A weight is how often a source is drawn, in proportion to its size."
    )
    report.bars("Documents by source", columns, rows, caption=caption)
    table = [
        [name, typical_length(source["lengths"]["kept"]) or "–", languages_in_words(source["languages"]["kept"]) or "–"]
        for name, source in sources.items()
    ]
    note = "The document in the middle, when those kept are ordered by length, has so many words."
    report.table("What the documents kept are like", ["source", "words, typically", "languages"], table, note)


def _plain(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _add_splits(report: Report, manifest: Manifest) -> None:
    report.section("Splits", "Documents of one cluster of copies are always in the same split.")
    splits, unit = manifest["splits"], amounts(manifest)
    kept, whole = manifest["documents"]["kept"], amount_of(manifest["splits"], unit)
    rows = [
        BarRow(
            name,
            [(_color(name), split["documents"] / kept)] if kept else (),
            [split["documents"], format_share(split["documents"], kept), split["tokens"], split["characters"]],
        )
        for name, split in splits.items()
    ]
    tokens = whole if unit == "tokens" else None
    sums = [sum(split["documents"] for split in splits.values()), format_share(kept, kept), tokens]
    rows.append(BarRow("All", values=[*sums, amount_of(splits, "characters")], level=-1))
    report.bars("Splits", ["split", "documents", "share", "tokens", "characters"], rows)
    empty = without_documents(manifest)
    if empty and kept:
        report.note(
            f"Nothing is held out for {in_words(empty)}." if "train" not in empty else "There is nothing to train on."
        )
    tokenizer = manifest.get("tokenizer")
    if tokenizer is None:
        report.note("The recipe names no tokenizer, so no tokens were written or counted.")
    else:
        text = f"Tokens are those of the tokenizer “{tokenizer['kind']}”, which has {tokenizer['vocab_size']:,} ids"
        rate = tokenizer.get("bytes_per_token")
        report.note(text + (f": {format_number(float(rate))} bytes of text a token." if rate else "."))


def _add_personal_data(report: Report, manifest: Manifest) -> None:
    report.section(
        "Personal data and secrets", "Found in all documents read, those dropped for another reason among them."
    )
    kinds = manifest["personal_data"]
    if not kinds:
        report.note("None was found.")
        _note_what_was_not_looked_for(report, manifest)
        return
    most = max(kind["found"] for kind in kinds.values()) or 1
    found = sorted(kinds.items(), key=lambda item: (-item[1]["found"], item[0]))
    rows = [
        BarRow(
            KINDS.get(name, name),
            [("first", kind["found"] / most)],
            [kind["found"], kind["documents"], POLICIES.get(kind["policy"], kind["policy"])],
        )
        for name, kind in found
    ]
    rows.append(BarRow("All", values=[sum(kind["found"] for _, kind in found), None, ""], level=-1))
    report.bars("By kind", ["kind", "places", "documents", "what became of them"], rows)
    report.note("A document may hold several kinds, so the documents are not added up.")
    left_in = [KINDS.get(name, name) for name, kind in found if kind["policy"] == "keep" and kind["found"]]
    if left_in:
        report.note(f"By the recipe, these were left in the documents: {'; '.join(left_in)}.", warning=True)
    _note_what_was_not_looked_for(report, manifest)


def _note_what_was_not_looked_for(report: Report, manifest: Manifest) -> None:
    if left_out := not_looked_for(manifest):
        report.note(f"Not looked for: {'; '.join(left_out)}.")


def _add_recipe(report: Report, manifest: Manifest) -> None:
    text = "Everything that decided this build. The same recipe and the same files give the same bytes."
    report.section("Recipe", text)
    rows = [(shortened(key, 200), shortened(value, MOST_OF_A_VALUE)) for key, value in as_rows(manifest["recipe"])]
    with report.fold(plural(len(rows), "setting"), opened=len(rows) <= MOST_SETTINGS):
        report.table("All settings", ["key", "value"], rows)
