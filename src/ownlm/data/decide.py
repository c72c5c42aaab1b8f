"""What becomes of each document, decided over all shards and without their texts.

In this order, and the first reason counts: a filter's rule, personal data whose policy is to drop, an evaluation set's
item, a copy of a document that is kept. So of several copies one always stays, unless all were dropped before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from .documents import pyarrow
from .duplicates.choose import REASONS, Choice, choose, find_clusters, preference, rank
from .duplicates.options import bands_of
from .duplicates.pairs import Pairs, find_pairs
from .duplicates.paragraphs import find_repeated_paragraphs
from .examples import cluster_examples, hit_examples
from .filters import columns_of, first_reason, rules_of
from .finish import Decided
from .personal.options import KINDS
from .recipe import Recipe
from .split import assign, empty_splits
from .stages import ARROW, CONTAMINATION, FINGERPRINTS, PERSONAL, QUALITY, SIGNALS, TABLE, TEXT, Work, read_tables
from .store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from .contamination.index import EvaluationIndex

Integers = NDArray[np.int64]

# Columns of the text table that are read to decide; the text is not among them.
ABOUT = ("id", "turns", "source", "file", "line", "begin", "group")
# What the names of reasons begin with.
FILTER, PERSONAL_DATA, CONTAMINATED, DUPLICATE = "filter/", "personal-data/", "contaminated/", "duplicate/"


@dataclass(frozen=True)
class Decisions:
    """What was decided.

    Attributes:
        by_shard: for each shard.
        duplicates: clusters of more than one document, the documents in them, and examples.
        contamination: for each evaluation set its items and hits, and the hits themselves.
        rules: the filters' expressions by name.
        empty: splits that were asked for and got no document.
    """

    by_shard: list[Decided]
    duplicates: dict[str, Any]
    contamination: dict[str, Any]
    rules: dict[str, str]
    empty: list[str]


def decide(
    recipe: Recipe,
    works: Sequence[Work],
    store: Store,
    index: EvaluationIndex | None,
    say: Callable[[str], None] = lambda _: None,
) -> Decisions:
    """Decides over all shards.

    Args:
        works: every shard's work, all of whose stages are done.
        index: the evaluation sets', or None.
        say: called with a line for the user now and then.

    Raises:
        ConfigError: a filter's expression is wrong.
    """
    deciding = _Deciding(recipe, works, store, index)
    deciding.filter()
    deciding.decontaminate()
    deciding.deduplicate()
    deciding.split()
    if deciding.empty:
        say(f"no document fell into {' and '.join(deciding.empty)}: there are few documents, or large clusters of them")
    return deciding.decisions()


class _Deciding:
    """The columns that decisions are made of: one entry a document, in the order of the shards."""

    def __init__(self, recipe: Recipe, works: Sequence[Work], store: Store, index: EvaluationIndex | None) -> None:
        pa = pyarrow()
        self.recipe, self.works, self.store, self.index = recipe, works, store, index
        tables = [read_tables(store.path(TEXT, work.keys[TEXT]) / TABLE, ABOUT) for work in works]
        self.about = pa.concat_tables([table for table in tables if table is not None])
        counts = [0 if table is None else table.num_rows for table in tables]
        self.offsets: Integers = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(counts, np.int64))])
        self.count = int(self.offsets[-1])
        self.turns = self.about.column("turns").to_numpy()
        self.reasons: list[str] = []
        self.reason = np.full(self.count, -1, np.int16)
        self.lengths = np.zeros(self.count, np.int64)
        self.quality: NDArray[np.float64] | None = np.full(self.count, np.nan) if recipe.quality is not None else None
        self.cuts = np.zeros((0, 4), np.int64)
        self.shows: dict[str, tuple[str, ...]] = {}
        self.rules: dict[str, str] = {}
        self.duplicates: dict[str, Any] = {
            "clusters": 0,
            "documents": 0,
            "exact": 0,
            "near": 0,
            "paragraphs": 0,
            "examples": [],
        }
        self.contamination: dict[str, Any] = {"sets": {}, "hits": []}

    def filter(self) -> None:
        """The filters' rules, and personal data for which documents are dropped; one shard at a time."""
        self.rules = rules_of(self.recipe.filters)
        codes = [self._code(FILTER + name) for name in self.rules]
        self.shows = {FILTER + name: columns_of(rule) for name, rule in self.rules.items()}
        policy = self.recipe.personal_data.policy_of
        dropping = [kind for kind in KINDS if policy(kind) == "drop"]
        kind_codes = [self._code(PERSONAL_DATA + kind.replace("_", "-")) for kind in dropping]
        for number, work in enumerate(self.works):
            begin, end = int(self.offsets[number]), int(self.offsets[number + 1])
            if begin == end:
                continue
            table = self._signals(work, begin, end)
            self.lengths[begin:end] = table.column("characters").to_numpy()
            if self.quality is not None:
                self.quality[begin:end] = table.column("quality").to_numpy()
            first = first_reason(table, self.rules)
            reason = np.array([*codes, -1], np.int16)[first]
            for kind, code in zip(dropping, kind_codes, strict=True):
                held = table.column(f"pii_{kind}").to_numpy() > 0
                reason[(reason < 0) & held] = code
            self.reason[begin:end] = reason

    def decontaminate(self) -> None:
        """Documents that hold an evaluation item are dropped, or the item is cut out, or it is only reported."""
        if self.index is None:
            return
        from .contamination.judge import LEAK, judge

        hits = self._hits()
        options = self.recipe.decontaminate
        verdicts = judge(hits, options) if hits.num_rows else pyarrow().array([], pyarrow().string())
        leaks = hits.filter(pyarrow().compute.equal(verdicts, LEAK))
        documents = leaks.column("document").to_numpy()
        if options.action != "report":
            # What is left of an answer after a cut is no answer, so conversations are dropped either way.
            dropped = (self.turns[documents] > 0) | (options.action == "drop")
            codes = {chosen.name: self._code(CONTAMINATED + chosen.name) for chosen in options.sets}
            reasons = np.array([codes[name] for name in leaks.column("set").to_pylist()], np.int64)
            for code in codes.values():
                mine = documents[dropped & (reasons == code)]
                self.reason[mine[self.reason[mine] < 0]] = code
            places = [leaks.column(name).to_numpy().astype(np.int64) for name in ("document", "start", "end")]
            self._cut(np.stack([*places, reasons], axis=1)[~dropped])
        self.contamination = hit_examples(self.index, options, hits, verdicts, leaks, self)

    def deduplicate(self) -> None:
        """Copies are dropped, and repeated paragraphs cut from what is kept."""
        options = self.recipe.duplicates
        by_id = rank(*(self.about.column(name) for name in ("id", "source", "file", "line", "begin")))
        self.cluster = np.arange(self.count)
        if FINGERPRINTS not in self.works[0].keys:
            return
        shards = [self.store.path(FINGERPRINTS, work.keys[FINGERPRINTS]) / ARROW for work in self.works]
        steps = 0 if options.near is None else bands_of(options.near, options.permutations)[0]
        with Progress("Comparing documents", unit="passes", total=steps) as progress:
            pairs = find_pairs(shards, options, progress)
        self.cluster = find_clusters(pairs, by_id)
        places = rank(*(self.about.column(name) for name in ("source", "file", "line", "begin")))
        order = preference(options, by_id, self.lengths, places, self.quality)
        choice = choose(pairs, order, self.reason < 0)
        for number, name in enumerate(REASONS):
            if number:
                code = self._code(DUPLICATE + name.removesuffix("-duplicate"))
                self.reason[choice.reason == number] = code
        if options.paragraphs is not None:
            # Conversations are left whole.
            cuts = find_repeated_paragraphs(shards, options, (self.reason < 0) & (self.turns == 0), by_id)
            self.duplicates["paragraphs"] = len(cuts.documents)
            reasons = np.full(len(cuts.documents), self._code(DUPLICATE + "paragraphs"))
            self._cut(np.stack([cuts.documents, cuts.starts, cuts.ends, reasons], axis=1))
        self._count_duplicates(pairs, choice)

    def split(self) -> None:
        """Clusters and groups go to one split as a whole."""
        self.cluster_ids = self.about.column("id").take(pyarrow().array(self.cluster))
        groups = self.about.column("group")
        self.splits = assign(self.cluster_ids, groups if groups.null_count < len(groups) else None, self.recipe.split)
        kept = self.splits[self.reason < 0]
        self.empty = empty_splits(kept, self.recipe.split) if len(kept) else []

    def decisions(self) -> Decisions:
        """What was decided, shard by shard."""
        clusters = np.array(self.cluster_ids.to_pylist(), dtype=np.bytes_)
        order = np.lexsort((self.cuts[:, 1], self.cuts[:, 0]))
        cuts = self.cuts[order]
        by_shard = []
        for begin, end in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True):
            inside = cuts[np.searchsorted(cuts[:, 0], begin) : np.searchsorted(cuts[:, 0], end)].copy()
            inside[:, 0] -= begin
            part = slice(begin, end)
            by_shard.append(
                Decided(tuple(self.reasons), self.reason[part], self.splits[part], clusters[part], inside, self.shows)
            )
        return Decisions(by_shard, self.duplicates, self.contamination, self.rules, self.empty)

    def place(self, document: int) -> dict[str, Any]:
        """Where a document stands, as the report names it."""
        row = self.about.slice(document, 1).to_pylist()[0]
        return {name: row[name] for name in ("id", "source", "file", "line")}

    def shard_of(self, document: int) -> tuple[Work, int]:
        """The shard that holds a document, and its number there."""
        shard = int(np.searchsorted(self.offsets, document, side="right")) - 1
        return self.works[shard], document - int(self.offsets[shard])

    def _code(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def _signals(self, work: Work, begin: int, end: int) -> pa.Table:
        """What filters may look at: signals, counts of personal data, the quality score and the source."""
        pa = pyarrow()
        table = read_tables(self.store.path(SIGNALS, work.keys[SIGNALS]) / TABLE)
        assert table is not None
        for name, counts in personal_counts(
            read_tables(self.store.path(PERSONAL, work.keys[PERSONAL]) / TABLE), end - begin
        ).items():
            table = table.append_column(name, pa.array(counts))
        if QUALITY in work.keys:
            quality = read_tables(self.store.path(QUALITY, work.keys[QUALITY]) / TABLE)
            assert quality is not None
            table = table.append_column("quality", quality.column("quality"))
        return table.append_column("source", self.about.column("source").slice(begin, end - begin))

    def _hits(self) -> pa.Table:
        """Every shard's hits, with documents numbered through."""
        pa = pyarrow()
        tables = []
        for number, work in enumerate(self.works):
            table = read_tables(self.store.path(CONTAMINATION, work.keys[CONTAMINATION]) / TABLE)
            if table is not None:
                place = table.schema.get_field_index("document")
                shifted = pa.compute.add(table.column("document"), int(self.offsets[number]))
                tables.append(table.set_column(place, "document", shifted))
        return pa.concat_tables(tables)

    def _cut(self, cuts: Integers) -> None:
        """Adds characters to cut, from documents that are kept, with the reason for each."""
        cuts = cuts[self.reason[cuts[:, 0]] < 0] if len(cuts) else cuts
        self.cuts = np.concatenate([self.cuts, cuts])

    def _count_duplicates(self, pairs: Pairs, choice: Choice) -> None:
        names = {name: int((choice.reason == number).sum()) for number, name in enumerate(REASONS) if number}
        sizes = np.bincount(self.cluster, minlength=self.count)
        large = sizes > 1
        self.duplicates |= {name.removesuffix("-duplicate"): count for name, count in names.items()}
        self.duplicates |= {"clusters": int(large.sum()), "documents": int(sizes[large].sum())}
        self.duplicates["examples"] = cluster_examples(self.cluster, sizes, choice, self)


def personal_counts(spans: pa.Table | None, documents: int) -> Mapping[str, NDArray[np.int64]]:
    """How many spans of each kind each document has, as columns ``pii_<kind>``."""
    counts = {f"pii_{kind}": np.zeros(documents, np.int64) for kind in KINDS}
    if spans is not None and spans.num_rows:
        kinds = np.array(spans.column("kind").cast("string").to_pylist(), object)
        places = spans.column("document").to_numpy()
        for kind in KINDS:
            counts[f"pii_{kind}"] = np.bincount(places[kinds == kind], minlength=documents).astype(np.int64)
    return counts
