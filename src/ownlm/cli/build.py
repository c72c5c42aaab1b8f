"""``ownlm data build`` and ``ownlm data quality train``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import describe, editor_schema, parse_override
from ..errors import UserError
from ..units import format_count, plural
from .answer import Answer, columns


def build(
    recipe: Annotated[
        Path | None, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE.yaml", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Keys to set, such as duplicates.near=0.7.", metavar="KEY=VALUE")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The data set's folder.", metavar="DIR")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one a core unless said.", metavar="N", min=1)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first thing that cannot be read.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask databases and the hub again.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove kept results of stages that this build does not use.")
    ] = False,
    help_recipe: Annotated[bool, typer.Option("--help-recipe", help="Print every key of a recipe.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print a recipe's JSON Schema, for editors.")] = False,
) -> Answer:
    """Prepare a data set: read, clean, deduplicate, split and tokenize what a recipe names.

    The same command again continues an interrupted build; a changed threshold or a new file costs only itself.
    """
    from ..data.recipe import Recipe, read_recipe

    if help_recipe:
        rows = describe(Recipe)
        lines = [
            f"{key}: {kind}" + (f" = {default}" if default else "") + f"\n    {text}"
            for key, kind, default, text in rows
        ]
        keys = [dict(zip(("key", "type", "default", "description"), row, strict=True)) for row in rows]
        return Answer({"keys": keys}, output="\n".join(lines))
    if schema:
        made = editor_schema(Recipe)
        return Answer(made, output=json.dumps(made, indent=2))
    if recipe is None:
        raise UserError("there is no recipe", where="ownlm data build", hint="name a YAML file; see --help-recipe")
    if out is None:
        raise UserError("there is no folder to build into", where="ownlm data build", hint="add --out DIR")
    from ..progress import say
    from ..tokens.build import build_dataset

    read = read_recipe(recipe, dict(parse_override(text) for text in overrides or []))
    manifest = build_dataset(
        read,
        out,
        tokenizer=_tokenizer_folder(read.tokenizer),
        workers=workers or os.cpu_count() or 1,
        strict=strict,
        refresh=refresh,
        prune=prune,
        say=say,
    )
    wanted = ("documents", "splits", "duplicates", "pii", "contamination", "failures", "sources")
    data = {key: manifest[key] for key in wanted}
    data |= {"manifest": out / "manifest.json", "report": out / "report.html", "seconds": manifest["seconds"]}
    return Answer(data, _summary(manifest, out))


def train_quality(
    good: Annotated[
        list[Path], typer.Option("--good", help="Files or folders of texts to have more of.", metavar="PATH")
    ],
    bad: Annotated[
        list[Path], typer.Option("--bad", help="Files or folders of texts to have less of.", metavar="PATH")
    ],
    out: Annotated[Path, typer.Option(help="The model's folder.", metavar="DIR")],
) -> Answer:
    """Train a small model that scores how much a text is like good examples and unlike bad ones.

    Name its folder as `quality` in a recipe, and filter by the score: `drop: {poor: quality < 0.3}`.
    """
    from ..data.quality import train_quality_files

    result = train_quality_files(good, bad, out)
    auc = result["auc"]
    text = f"{out}: on held-out texts it ranks a good one above a bad one {auc:.1%} of the time"
    return Answer({"quality": out} | result, text)


def _tokenizer_folder(tokenizer: Any) -> Path | None:
    """A tokenizer that is named, as a folder; None for one that is to be trained, or none at all."""
    if not isinstance(tokenizer, str):
        return None
    from ..model.registry import find_model

    return find_model(tokenizer)


def _summary(manifest: Mapping[str, Any], out: Path) -> str:
    documents = manifest["documents"]
    lines = [f"{documents['kept']:,} of {plural(documents['read'], 'document')} kept, in {out}"]
    if documents["dropped"]:
        ranked = sorted(documents["dropped"].items(), key=lambda item: (-item[1], item[0]))
        lines += ["", "Dropped:", columns([[f"{count:,}".rjust(9), reason] for reason, count in ranked[:12]])]
        if len(ranked) > 12:
            lines.append(f"  and {len(ranked) - 12} more, in the report")
    rows = [
        [
            name,
            plural(split["documents"], "document"),
            "" if split["tokens"] is None else f"{format_count(split['tokens'])} tokens",
        ]
        for name, split in manifest["splits"].items()
    ]
    lines += ["", "Splits:", columns(rows)]
    if manifest["personal_data"]:
        rows = [
            [kind.replace("_", " "), f"{found['found']:,} in {plural(found['documents'], 'document')}", found["policy"]]
            for kind, found in manifest["personal_data"].items()
        ]
        lines += ["", "Personal data, and what becomes of it:", columns(rows)]
    if sets := manifest["contamination"]["sets"]:
        rows = [
            [
                name,
                f"found {plural(found['hits'], 'time')}",
                f"{plural(found['items'], 'item')}, {found['unchecked']:,} unchecked",
            ]
            for name, found in sets.items()
        ]
        lines += ["", "Evaluation sets:", columns(rows)]
    if count := manifest["failures"]["count"]:
        lines += ["", f"Not readable: {count:,}, each named with the reason in {out / 'failures.jsonl'}"]
    lines += ["", f"Report: {out / 'report.html'}"]
    if manifest["tokenizer"]:
        lines.append(f"Next:   ownlm data show {out}")
    return "\n".join(lines)
