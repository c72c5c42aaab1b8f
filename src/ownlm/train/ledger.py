"""The token ledger: every token of every source is trained, masked, truncated, dropped with a reason, or not yet seen.

A token counts once, as a *target*: the first token of a document has nothing before it, so it is context and counts as
masked, as do questions in a conversation. So for every source

    tokens = trained + masked + truncated + dropped + unseen

where ``tokens`` is what the source holds times the passes the run plans over it; what was dropped is in no pass, and
counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class SourceCount:
    """What became of one source's tokens.

    Attributes:
        documents: documents the source holds, dropped ones included.
        tokens: all tokens times the planned passes, and those dropped or truncated once.
        trained: targets with a share in the loss.
        masked: tokens read as context only.
        truncated: tokens cut away, which happens only where data.too_long says so.
        dropped: reason -> {"documents", "tokens"}.
        unseen: what the run has not come to yet.
    """

    documents: int
    tokens: int
    trained: int = 0
    masked: int = 0
    truncated: int = 0
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    unseen: int = 0


class Ledger:
    """Counts by source; ``add`` moves tokens from unseen to trained and masked."""

    def __init__(self, sources: Mapping[str, SourceCount]) -> None:
        self.sources = dict(sources)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ledger:
        """What ``as_json`` gave."""
        return cls({name: SourceCount(**count) for name, count in value["sources"].items()})

    def add(self, source: str, trained: int, masked: int) -> None:
        """These tokens of a source have been read by the model."""
        count = self.sources[source]
        count.trained += trained
        count.masked += masked
        count.unseen -= trained + masked

    def drop(self, source: str, tokens: int, reason: str) -> None:
        """These tokens of a source were read and not trained on; their documents count where they are read again."""
        count = self.sources[source]
        part = count.dropped.setdefault(reason, {"documents": 0, "tokens": 0})
        part["tokens"] += tokens
        count.unseen -= tokens

    def check(self) -> None:
        """Every token is accounted for; a failure is our own mistake."""
        for name, count in self.sources.items():
            dropped = sum(part["tokens"] for part in count.dropped.values())
            found = count.trained + count.masked + count.truncated + dropped + count.unseen
            assert found == count.tokens and count.unseen >= 0, f"the ledger of {name} does not add up: {count}"

    def as_json(self) -> dict[str, Any]:
        """{"sources": {name: counts}, "total": counts}."""
        total = {
            key: sum(getattr(count, key) for count in self.sources.values())
            for key in ("documents", "tokens", "trained", "masked", "truncated", "unseen")
        }
        dropped: dict[str, dict[str, int]] = {}
        for count in self.sources.values():
            for reason, part in count.dropped.items():
                sofar = dropped.setdefault(reason, {"documents": 0, "tokens": 0})
                for key in sofar:
                    sofar[key] += part[key]
        return {
            "sources": {name: asdict(count) for name, count in self.sources.items()},
            "total": {**total, "dropped": dropped},
        }

    def lines(self) -> list[str]:
        """The ledger in sentences, for the terminal."""
        result = []
        for name, count in self.sources.items():
            parts = [f"{count.unseen:,} to come"] if count.unseen else []
            parts += [f"{count.trained:,} trained"] if count.trained else []
            parts += [f"{count.masked:,} context only"] if count.masked else []
            parts += [f"{count.truncated:,} cut away"] if count.truncated else []
            parts += [
                f"{part['tokens']:,} dropped in {part['documents']:,} documents ({reason})"
                for reason, part in count.dropped.items()
            ]
            result.append(f"{name}: {count.tokens:,} tokens in {count.documents:,} documents: {', '.join(parts)}")
        return result
