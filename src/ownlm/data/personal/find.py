"""Where personal data stands in a column of texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .carried import COLUMNS, Carried
from .characters import Characters, Found, to_characters
from .identities import find_national_ids
from .internet import find_emails, find_ip_addresses, find_spelled_emails
from .keys import find_secrets
from .money import find_cards, find_ibans
from .options import KINDS, Kind, PersonalOptions, Span
from .people import find_addresses, find_people
from .phones import find_phones

if TYPE_CHECKING:
    import pyarrow as pa

_PLACEHOLDER = re.compile(
    rb"\[(?:%b)(?:_[0-9]{1,9})?\]" % b"|".join(row.placeholder[1:-1].encode() for row in KINDS.values())
)

Finder = Callable[[Characters, PersonalOptions], Iterable[Found]]


def find_spans(texts: pa.LargeStringArray, options: PersonalOptions) -> pa.Table:
    """Finds the personal data of every text.

    What two kinds would claim goes to the more certain, which is the earlier in ``KINDS``; of two of one kind, to the
    longer. A text's spans depend on that text alone.

    Args:
        texts: the documents; a null has none.
        options: what to look for. Values that are allowed are left out.

    Returns:
        A row a span, by document and place, none overlapping: document int32, kind dictionary<string>, start int32 and
        end int32 in characters, detail string (the country, the card's brand, the key's issuer; never the value).

    Raises:
        MissingExtra: a library of the extra 'data' is not installed.
    """
    documents = [text or "" for text in texts.to_pylist()]
    original = to_characters(documents)
    # What an earlier redaction has left says nothing about what stands beside it.
    left = [Found(*match.span(), "secret", "") for match in _PLACEHOLDER.finditer(original.flat)]
    found, text = _search(original.without(left), options)
    new = found
    while new:
        # With what was found taken out, a neighbour may stand out that could not be told from it before.
        near = text.around(new)
        new = near.in_whole(_search(near.text, options)[0])
        text = text.without(new)
        found += new
    found.sort()
    allowed = _Allowed(options.allow)
    starts = np.array([place.start for place in found], np.int64)
    numbers = np.searchsorted(original.starts, starts, side="right") - 1
    rows = []
    for place, document, offset in zip(found, numbers.tolist(), original.starts[numbers].tolist(), strict=True):
        start, end = place.start - offset, place.end - offset
        if not allowed(place.kind, documents[document][start:end]):
            rows.append((document, place.kind, start, end, place.detail))
    return _table(rows)


def find_all_spans(documents: pa.Table, options: PersonalOptions) -> pa.Table:
    """Finds the personal data of every document: in its text, and in what it carries along.

    Args:
        documents: their column ``text``, and those of ``carried.COLUMNS``.
        options: what to look for.

    Returns:
        As ``find_spans``; in what is carried along, the first character is numbered one more than the text is long.
    """
    import pyarrow as pa

    texts = pa.chunked_array(documents.column("text"), pa.large_string()).combine_chunks()
    rows = documents.select(COLUMNS).to_pylist()
    carried = pa.array([Carried(row).text for row in rows], pa.large_string())
    found = [find_spans(texts, options).to_pylist(), find_spans(carried, options).to_pylist()]
    lengths = [len(text or "") for text in texts.to_pylist()] if found[1] else []
    for row in found[1]:
        offset = lengths[row["document"]] + 1
        row["start"], row["end"] = row["start"] + offset, row["end"] + offset
    every = sorted(itertools.chain(*found), key=lambda row: (row["document"], row["start"]))
    return _table([(row["document"], row["kind"], row["start"], row["end"], row["detail"]) for row in every])


def _search(text: Characters, options: PersonalOptions) -> tuple[list[Found], Characters]:
    """What one search finds, and the texts with that blanked."""
    found: list[Found] = []
    for kind in options.kinds():
        new = _without_overlaps(_FINDERS[kind](text, options))
        text = text.without(new)
        found += new
    return found, text


def spans_by_document(table: pa.Table) -> dict[int, list[Span]]:
    """The rows of ``find_spans`` as spans, for each document that has any."""
    spans: dict[int, list[Span]] = {}
    columns = (table[name].to_pylist() for name in ("document", "kind", "start", "end", "detail"))
    for document, kind, start, end, detail in zip(*columns, strict=True):
        spans.setdefault(document, []).append(Span(kind, start, end, detail))
    return spans


def _find_emails(text: Characters, options: PersonalOptions) -> Iterable[Found]:
    yield from find_emails(text)
    if options.obfuscated:
        yield from find_spelled_emails(text)


_FINDERS: dict[Kind, Finder] = {
    "secret": lambda text, options: find_secrets(text),
    "email": _find_emails,
    "iban": lambda text, options: find_ibans(text),
    "card": lambda text, options: find_cards(text),
    "national_id": lambda text, options: find_national_ids(text),
    "ip_address": lambda text, options: find_ip_addresses(text),
    "phone": lambda text, options: find_phones(text, options.regions),
    "address": lambda text, options: find_addresses(text),
    "person": lambda text, options: find_people(text),
}


def _without_overlaps(found: Iterable[Found]) -> list[Found]:
    kept: list[Found] = []
    for place in sorted(found, key=lambda f: (f.start, -f.end)):
        if not kept or place.start >= kept[-1].end:
            kept.append(place)
        elif place.end - place.start > kept[-1].end - kept[-1].start:
            kept[-1] = place
    return kept


def _table(rows: Sequence[tuple[int, Kind, int, int, str]]) -> pa.Table:
    import pyarrow as pa

    columns: list[list] = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(5)]
    number = {kind: i for i, kind in enumerate(KINDS)}
    kinds = pa.DictionaryArray.from_arrays(pa.array([number[kind] for kind in columns[1]], pa.int8()), list(KINDS))
    types = (pa.int32(), None, pa.int32(), pa.int32(), pa.string())
    arrays = [kinds if kind is None else pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=["document", "kind", "start", "end", "detail"])


class _Allowed:
    """Whether a value is one that is never counted."""

    def __init__(self, allow: Iterable[str]) -> None:
        self._values = frozenset(_plain(value) for value in allow)
        # Telephone numbers and the like are the same however they are spaced.
        self._digits = frozenset(digits for value in allow if len(digits := _digits(value)) >= 6)
        self._domains = tuple(
            value.lower().lstrip("@") for value in allow if re.fullmatch(r"@?[\w-]+(\.[\w-]+)+", value)
        )

    def __call__(self, kind: Kind, value: str) -> bool:
        if _plain(value) in self._values:
            return True
        if kind == "email":
            domain = value.lower().rpartition("@")[2]
            return any(domain == allowed or domain.endswith("." + allowed) for allowed in self._domains)
        if kind == "phone":
            # With the country's code or without.
            return any(_digits(value).endswith(own) or own.endswith(_digits(value)) for own in self._digits)
        return kind in ("card", "national_id") and _digits(value) in self._digits


def _plain(value: str) -> str:
    return re.sub(r"\s+", " ", value.strip()).casefold()


def _digits(value: str) -> str:
    return re.sub(r"\(0\)|\D", "", value).lstrip("0")
