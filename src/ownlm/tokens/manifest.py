"""manifest.json: what a build read, kept and dropped, in numbers that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.pipeline import Documents
from ..data.recipe import Recipe, TokenizerTraining
from ..data.split import SPLITS
from ..files import read_json
from .tokenize import COUNTS, TokenWork
from .tokenizer import load_tokenizer

FORMAT = 1
# Failures that stand in the manifest; all of them are in failures.jsonl.
FIRST_FAILURES = 100


def make_manifest(
    recipe: Recipe, documents: Documents, works: Sequence[TokenWork], tokenizer: Path | None
) -> dict[str, Any]:
    """The manifest of a build.

    Args:
        recipe: the build's.
        documents: what the stages up to the split made.
        works: each shard's tokens; empty where the recipe has no tokenizer.
        tokenizer: its folder, or None.
    """
    tokens = [read_json(work.folder / COUNTS) for work in works]
    whole = _Part(documents.summary, tokens)
    policy = recipe.personal_data.policy_of
    found, held = documents.summary["personal"], documents.summary["personal_documents"]
    failures = documents.failures
    return {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "documents": whole.documents(),
        "bytes": documents.summary["bytes"],
        "splits": whole.splits(),
        "sources": _sources(recipe, documents, tokens),
        "languages": whole.states("languages"),
        "lengths": whole.states("lengths"),
        "duplicates": documents.decisions.duplicates,
        "pii": found,
        "personal_data": {k: {"found": found[k], "documents": held[k], "policy": policy(k)} for k in found},
        "contamination": documents.decisions.contamination,
        "failures": {
            "count": len(failures),
            "reasons": dict(sorted(Counter(failure["reason"] for failure in failures).items())),
            "first": failures[:FIRST_FAILURES],
        },
        "examples": documents.summary["examples"],
        "rules": documents.decisions.rules,
        "tokenizer": _about_tokenizer(recipe, documents, whole, tokenizer),
    }


class _Part:
    """Counts of all shards, or of one source's: the documents' summary, and what tokenizing counted."""

    def __init__(self, summary: dict[str, Any], tokens: Sequence[dict[str, Any]]) -> None:
        self._summary = summary
        self._tokens = tokens

    def documents(self) -> dict[str, Any]:
        """Read, kept and dropped; what tokenizing dropped was kept until then."""
        late = Counter[str]()
        for shard in self._tokens:
            late.update(shard["dropped"])
        dropped = Counter(self._summary["dropped"]) + late
        kept = sum(self._summary["kept"].values()) - late.total()
        return {"read": kept + dropped.total(), "kept": kept, "dropped": dict(sorted(dropped.items()))}

    def splits(self) -> dict[str, dict[str, int | None]]:
        """Documents, tokens and characters of each split that has documents."""
        result: dict[str, dict[str, int | None]] = {}
        for split in SPLITS:
            counts = [shard["splits"][split] for shard in self._tokens if split in shard["splits"]]
            documents = sum(count["kept"] for count in counts) if self._tokens else self._summary["kept"].get(split, 0)
            if documents:
                tokens = sum(count["tokens"] for count in counts) if self._tokens else None
                characters = self._summary["characters"].get(split, 0) - self._late("characters")[split]
                result[split] = {"documents": documents, "tokens": tokens, "characters": characters}
        return result

    def states(self, name: str) -> dict[str, dict[str, int]]:
        """Documents that were kept, and that were dropped, by language or by length."""
        late = self._late(name)
        kept, dropped = Counter(self._summary[name]["kept"]) - late, Counter(self._summary[name]["dropped"]) + late
        return {"kept": dict(sorted(kept.items())), "dropped": dict(sorted(dropped.items()))}

    def bytes(self) -> int:
        """UTF-8 bytes of what is kept."""
        return sum(self._summary["bytes_kept"].values()) - self._late("bytes").total()

    def _late(self, name: str) -> Counter[str]:
        """What the documents' summary counts as kept, and tokenizing dropped."""
        late = Counter[str]()
        for shard in self._tokens:
            late.update(shard["late"][name])
        return late


def _sources(recipe: Recipe, documents: Documents, tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sources = {}
    for source in recipe.sources:
        summary = documents.summary["sources"].get(source.name)
        if summary is None:
            continue
        mine = [shard for shard, name in zip(tokens, documents.sources, strict=bool(tokens)) if name == source.name]
        part = _Part(summary, mine)
        sources[source.name] = {
            "documents": part.documents(),
            "splits": part.splits(),
            "languages": part.states("languages"),
            "lengths": part.states("lengths"),
            "weight": source.weight,
            "epochs": source.epochs,
        }
    return sources


def _about_tokenizer(recipe: Recipe, documents: Documents, whole: _Part, folder: Path | None) -> dict[str, Any] | None:
    if folder is None:
        return None
    splits = whole.splits().values()
    tokens = sum(split["tokens"] or 0 for split in splits)
    kind = recipe.tokenizer.kind if isinstance(recipe.tokenizer, TokenizerTraining) else str(recipe.tokenizer)
    return {
        "kind": kind,
        "vocab_size": load_tokenizer(folder).vocab_size,
        "bytes_per_token": round(whole.bytes() / tokens, 4) if tokens else None,
    }
