"""Examples for the report: clusters of duplicates, and evaluation items that were found, beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .documents import pyarrow, read_groups, text_column
from .finish import excerpt, hidden, spans_of
from .personal.options import Span
from .recipe import Recipe
from .stages import PERSONAL, TABLE, TEXT, Work, read_tables
from .store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from .contamination.index import EvaluationIndex
    from .contamination.options import DecontaminationOptions
    from .duplicates.choose import Choice

# Clusters shown, and documents of each; hits shown.
CLUSTERS, MEMBERS, HITS = 8, 4, 200


class Corpus(Protocol):
    """Where documents stand."""

    recipe: Recipe
    store: Store
    reason: NDArray[np.int16]

    def place(self, document: int) -> dict[str, Any]:
        """How the report names a document."""

    def shard_of(self, document: int) -> tuple[Work, int]:
        """Its shard, and its number there."""


def cluster_examples(
    cluster: NDArray[np.int64], sizes: NDArray[np.int64], choice: Choice, corpus: Corpus
) -> list[dict[str, Any]]:
    """The clusters that the most copies were dropped from, with the beginnings of some of their documents.

    Args:
        cluster: int64[documents], each document's cluster, named by one of its documents.
        sizes: int64[documents], the size of the cluster of that name.
        choice: who is kept, and for whom.
        corpus: where the documents stand.
    """
    copies = np.bincount(cluster[choice.of >= 0], minlength=len(cluster))
    names = np.flatnonzero(sizes > 1)
    names = names[np.lexsort((-sizes[names], -copies[names]))][: 20 * CLUSTERS].tolist()
    ids = {name: corpus.place(name)["id"] for name in names}
    # Of equal size the smallest ids, whatever the order of files.
    largest = sorted(ids, key=lambda name: (-int(copies[name]), -int(sizes[name]), ids[name]))[:CLUSTERS]
    shown = []
    for name in largest:
        documents = []
        for document in _one_and_its_copies(np.flatnonzero(cluster == name), choice, corpus)[:MEMBERS]:
            kept = bool(corpus.reason[document] < 0)
            jaccard = round(float(choice.jaccard[document]), 4) if choice.of[document] >= 0 else None
            text = beginning(corpus, document)
            documents.append({**corpus.place(document), "kept": kept, "jaccard": jaccard, "excerpt": text})
        shown.append({"cluster": ids[name], "size": int(sizes[name]), "documents": documents})
    return shown


def _one_and_its_copies(members: NDArray[np.int64], choice: Choice, corpus: Corpus) -> list[int]:
    """The document of a cluster that the most others were dropped for, and these, the most different first; a cluster
    can be a long chain, whose other documents would explain nothing."""
    kept, counts = np.unique(choice.of[members], return_counts=True)
    kept, counts = kept[kept >= 0], counts[kept >= 0]
    if not len(kept):
        return sorted(members.tolist(), key=lambda document: tuple(corpus.place(document).values()))
    most = kept[counts == counts.max()].tolist()
    chosen = min(most, key=lambda document: tuple(corpus.place(document).values()))
    copies = members[choice.of[members] == chosen].tolist()
    copies.sort(key=lambda document: (float(choice.jaccard[document]), *corpus.place(document).values()))
    return [chosen, *copies]


def hit_examples(
    index: EvaluationIndex,
    options: DecontaminationOptions,
    hits: pa.Table,
    verdicts: pa.Array,
    leaks: pa.Table,
    corpus: Corpus,
) -> dict[str, Any]:
    """For each evaluation set what was found of it, and the strongest hits with the text that was matched."""
    from .contamination.judge import item_text, not_checkable

    unchecked = [index.items[number].set for number, _ in not_checkable(index, options)]
    names = [item.set for item in index.items]
    found, documents = leaks.column("set").to_pylist(), leaks.column("document").to_pylist()
    sets = {}
    for chosen in options.sets:
        mine = {document for name, document in zip(found, documents, strict=True) if name == chosen.name}
        sets[chosen.name] = {
            "items": names.count(chosen.name),
            "unchecked": unchecked.count(chosen.name),
            "hits": found.count(chosen.name),
            "documents": len(mine),
        }
    rows = hits.append_column("verdict", verdicts).to_pylist()
    rows = [row for row in rows if row["verdict"] != "weak"]
    for row in rows:
        row["place"] = corpus.place(row["document"])
    rows.sort(
        key=lambda row: (
            row["verdict"] != "leak",
            -row["score"],
            row["place"]["id"],
            row["set"],
            row["item"],
            row["start"],
            row["place"]["file"],
            row["place"]["line"],
        )
    )
    rows = rows[:HITS]
    shown = []
    items = _items_shown([item_text(index, row["number"]) for row in rows], corpus)
    for row, text in zip(rows, items, strict=True):
        place = row["place"]
        shown.append(
            {
                "set": row["set"],
                "item": row["item"],
                "document": place["id"],
                "source": place["source"],
                "file": place["file"],
                "line": place["line"],
                "score": round(float(row["score"]), 4),
                "verdict": row["verdict"],
                "matched": hidden(row["matched"], _spans(corpus, row["document"]), row["start"]),
                "item_text": text,
                "dropped": bool(corpus.reason[row["document"]] >= 0),
            }
        )
    return {"sets": sets, "hits": shown}


def _items_shown(texts: list[str], corpus: Corpus) -> list[str]:
    """Evaluation items' texts with personal data hidden: the documents they stand in have the same."""
    from .personal.find import find_spans

    spans = spans_of(find_spans(pyarrow().array(texts, pyarrow().large_string()), corpus.recipe.personal_data))
    return [hidden(text, spans.get(number, [])) for number, text in enumerate(texts)]


def _spans(corpus: Corpus, document: int) -> list[Span]:
    work, number = corpus.shard_of(document)
    return spans_of(read_tables(corpus.store.path(PERSONAL, work.keys[PERSONAL]) / TABLE)).get(number, [])


def beginning(corpus: Corpus, document: int) -> str:
    """The first words of a document, with personal data hidden."""
    work, number = corpus.shard_of(document)
    spans = _spans(corpus, document)
    first = 0
    for group in read_groups(corpus.store.path(TEXT, work.keys[TEXT]) / TABLE, ["text"]):
        if number < first + group.num_rows:
            return excerpt(text_column(group)[number - first].as_py(), spans)
        first += group.num_rows
    raise AssertionError("a document stands in its shard")
