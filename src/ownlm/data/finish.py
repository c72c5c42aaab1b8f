"""The last stage of a shard's documents: what was decided is applied, and the finished table is written.

Personal data is masked or replaced, in texts and in what they carry along, repeated paragraphs are cut, and each document
gets its cluster, its split or its reason. Counts and a few examples of every reason go beside the table, so that the report reads no document again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_json
from .documents import DECIDED, MESSAGE_BREAK, TableWriter, compact_json, pyarrow, read_groups, text_schema
from .personal.carried import COLUMNS, Carried
from .personal.options import KINDS, PersonalOptions, Span
from .personal.redact import Edit, edits
from .split import SPLITS
from .stages import PERSONAL, QUALITY, SIGNALS, TABLE, TEXT, Work, read_tables
from .store import Store, key_of
from .workers import Beat

if TYPE_CHECKING:
    import pyarrow as pa

FINISHED = "finished"
VERSION = 3
SUMMARY = "summary.json"

# Examples of each reason that a shard gives, and how much of each is shown.
EXAMPLES = 3
EXCERPT = 400


@dataclass(frozen=True)
class Decided:
    """What was decided of a shard's documents, in their order.

    Attributes:
        reasons: the names that ``reason`` counts.
        reason: int16[documents], or -1 for one that is kept.
        split: uint8[documents], of SPLITS.
        cluster: bytes[documents], the cluster's id.
        cuts: int64[k, 4], document, start and end in characters of what to cut, and the reason it is cut for, which is
            the document's too where nothing is left of it.
        shows: for each reason, the columns that explain it.
    """

    reasons: tuple[str, ...]
    reason: NDArray[np.int16]
    split: NDArray[np.uint8]
    cluster: NDArray[np.bytes_]
    cuts: NDArray[np.int64]
    shows: dict[str, tuple[str, ...]]

    def key(self) -> str:
        """Of all that is in it; reasons that no document has do not matter."""
        codes = np.concatenate([self.reason, self.cuts[:, 3]])
        used = {int(r): self.reasons[r] for r in np.unique(codes) if r >= 0}
        arrays = [a.tobytes().hex() for a in (self.reason, self.split, self.cluster, self.cuts)]
        return key_of(sorted(used.items()), arrays, self.shows)


@dataclass(frozen=True)
class FinishWork:
    """What a worker process gets to finish one shard."""

    work: Work
    decided: Decided
    key: str


def plan_finish(work: Work, decided: Decided) -> FinishWork:
    """The key of a shard's finished table."""
    options = work.recipe.personal_data.model_dump(mode="json")
    keys = [work.keys.get(stage) for stage in (TEXT, SIGNALS, PERSONAL, QUALITY)]
    return FinishWork(work, decided, key_of(VERSION, keys, decided.key(), options))


def finish_shard(finish: FinishWork, lost: dict[int, str], beat: Beat) -> None:
    """Writes a shard's finished table and its summary."""
    store = Store(finish.work.store)
    with store.new(FINISHED, finish.key) as folder:
        Finishing(finish, store).write(folder)


class Finishing:
    """Rows of the text table in, rows of the finished table out."""

    def __init__(self, finish: FinishWork, store: Store) -> None:
        self._recipe = finish.work.recipe
        self._decided = finish.decided
        keys = finish.work.keys
        self._text = store.path(TEXT, keys[TEXT]) / TABLE
        pa = pyarrow()
        signals = read_tables(store.path(SIGNALS, keys[SIGNALS]) / TABLE)
        if signals is not None and QUALITY in keys:
            quality = read_tables(store.path(QUALITY, keys[QUALITY]) / TABLE)
            assert quality is not None
            signals = signals.append_column("quality", quality.column("quality"))
        self._signals = signals if signals is not None else pa.table({})
        self._spans = spans_of(read_tables(store.path(PERSONAL, keys[PERSONAL]) / TABLE))
        self._personal = _hiding(self._recipe.personal_data)
        self._cuts: dict[int, list[tuple[int, int]]] = {}
        self._cut_for: dict[int, int] = {}
        for document, start, end, code in self._decided.cuts.tolist():
            self._cuts.setdefault(document, []).append((start, end))
            self._cut_for[document] = min(code, self._cut_for.get(document, code))
        self._summary = Summary()

    def write(self, folder: Path) -> None:
        """Writes the table and the summary into ``folder``."""
        pa = pyarrow()
        decided = [pa.field(name, pa.type_for_alias(kind)) for name, kind, _ in DECIDED]
        schema = pa.schema([*text_schema(), *self._signals.schema, *decided])
        with TableWriter(folder / TABLE, schema) as writer:
            first = 0
            for group in read_groups(self._text):
                writer.add_table(self._finish_group(group, first, schema))
                first += group.num_rows
        write_json(folder / SUMMARY, self._summary.as_json())

    def _finish_group(self, group: pa.Table, first: int, schema: pa.Schema) -> pa.Table:
        pa = pyarrow()
        end = first + group.num_rows
        signals = self._signals.slice(first, group.num_rows)
        finished = [
            self._finish_document(number, row, signals, number - first)
            for number, row in enumerate(_rows(group), first)
        ]
        reasons = [document.pop("reason") for document in finished]
        splits = [None if r else SPLITS[s] for r, s in zip(reasons, self._decided.split[first:end], strict=True)]
        columns = {name: group.column(name) for name in group.column_names}
        for name in ("text", *COLUMNS):
            columns[name] = pa.array([document[name] for document in finished], schema.field(name).type)
        columns |= {name: signals.column(name) for name in signals.column_names}
        columns["cluster"] = pa.array([c.decode() for c in self._decided.cluster[first:end].tolist()], pa.string())
        columns["split"] = pa.array(splits, pa.string())
        columns["reason"] = pa.array(reasons, pa.string())
        return pa.table(columns, schema=schema)

    def _finish_document(self, number: int, row: dict[str, Any], signals: pa.Table, place: int) -> dict[str, Any]:
        """The document's text, what it carries along, and its reason, as they leave the build."""
        code = int(self._decided.reason[number])
        reason = self._decided.reasons[code] if code >= 0 else None
        spans = self._spans.get(number, [])
        changes, new = self._edits(number, row, spans)
        text, messages = row["text"], new["messages"]
        if reason is None and changes:
            text, messages = apply_edits(text, messages, changes)
            if number in self._cut_for and messages is None:
                # The blank lines before a last paragraph that was cut, and behind a first one.
                text = text.strip("\n")
            if not text.strip():
                reason = self._decided.reasons[self._cut_for[number]]
        split = None if reason else SPLITS[int(self._decided.split[number])]
        self._summary.count(row, signals, place, reason, split, spans, text)
        if reason is not None:
            shown = {
                name: _plain(signals.column(name)[place].as_py())
                for name in self._decided.shows.get(reason, ())
                if name in signals.column_names
            }
            self._summary.example(reason, row, excerpt(row["text"], spans), shown)
            text = messages = None
        return {**new, "text": text, "messages": messages, "reason": reason}

    def _edits(self, number: int, row: dict[str, Any], spans: list[Span]) -> tuple[list[Edit], dict[str, Any]]:
        """Of the text: paragraphs to cut, and personal data to write over, but for what stands in a cut paragraph.

        And what is carried along, with personal data written over.
        """
        text = row["text"]
        new = {name: row[name] for name in COLUMNS}
        written: list[Edit] = []
        if spans:
            # One text behind the other, as their characters are numbered.
            carried = Carried(row) if spans[-1].end > len(text) else None
            whole = text if carried is None else f"{text}\n{carried.text}"
            written = edits(whole, spans, self._personal)
            if carried is not None:
                new |= carried.edited(written, len(text) + 1)
        cuts = self._cuts.get(number, [])
        outside = [e for e in written if not any(start <= e.start and e.end <= end for start, end in cuts)]
        own = [edit for edit in outside if edit.start < len(text)]
        return sorted([*own, *(Edit(start, end, "") for start, end in cuts)]), new


def _hiding(options: PersonalOptions) -> PersonalOptions:
    """The options with kinds masked that drop their document: its title stays in the table and is to tell nothing."""
    hidden = {kind: "mask" for kind in KINDS if options.policy_of(kind) == "drop"}
    return options.model_copy(update={"policy": {**options.policy, **hidden}})


class Summary:
    """A shard's counts, and examples of what was dropped."""

    def __init__(self) -> None:
        self.kept: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.personal: Counter[str] = Counter()
        self.personal_documents: Counter[str] = Counter()
        self.languages: dict[str, Counter[str]] = {"kept": Counter(), "dropped": Counter()}
        self.lengths: dict[str, Counter[int]] = {"kept": Counter(), "dropped": Counter()}
        self.characters: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.chats = 0
        self._examples: dict[str, list[dict[str, Any]]] = {}

    def count(
        self,
        row: dict[str, Any],
        signals: pa.Table,
        place: int,
        reason: str | None,
        split: str | None,
        spans: list[Span],
        text: str,
    ) -> None:
        """Counts one document; ``text`` is what is kept of it."""
        if reason is None:
            self.kept[split or ""] += 1
            self.characters[split or ""] += len(text)
            self.bytes[split or ""] += len(text.encode())
            self.chats += row["messages"] is not None
        else:
            self.dropped[reason] += 1
        state = "kept" if reason is None else "dropped"
        self.languages[state][signals.column("language")[place].as_py()] += 1
        # Powers of two: a bin holds documents of that many words up to twice as many.
        self.lengths[state][int(signals.column("words")[place].as_py()).bit_length()] += 1
        kinds = Counter(span.kind for span in spans)
        self.personal.update(kinds)
        self.personal_documents.update(kinds.keys())

    def example(self, reason: str, row: dict[str, Any], excerpt: str, shown: dict[str, Any]) -> None:
        """Keeps the documents with the smallest ids: the same ones whatever the order."""
        held = self._examples.setdefault(reason, [])
        if len(held) == EXAMPLES and row["id"] > held[-1]["id"]:
            return
        place = {name: row[name] for name in ("id", "source", "file", "line")}
        held.append({**place, "shown": shown, "excerpt": excerpt})
        held.sort(key=lambda example: (example["id"], example["file"], example["line"]))
        del held[EXAMPLES:]

    def as_json(self) -> dict[str, Any]:
        """Sorted, so that equal summaries are equal bytes."""
        return {
            "kept": dict(sorted(self.kept.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "characters": dict(sorted(self.characters.items())),
            "bytes_kept": dict(sorted(self.bytes.items())),
            "chats": self.chats,
            "personal": dict(sorted(self.personal.items())),
            "personal_documents": dict(sorted(self.personal_documents.items())),
            "languages": {state: dict(sorted(counts.items())) for state, counts in self.languages.items()},
            "lengths": {
                state: {str(size): n for size, n in sorted(counts.items())} for state, counts in self.lengths.items()
            },
            "examples": dict(sorted(self._examples.items())),
        }


def apply_edits(text: str, messages: str | None, edits: Sequence[Edit]) -> tuple[str, str | None]:
    """A document with characters replaced, and its messages with the same characters replaced.

    Args:
        text: the document; for a conversation, its messages' contents with an empty line between.
        messages: the conversation as JSON, or None.
        edits: start, end and replacement, in order, not overlapping; in characters of ``text``.
    """
    if messages is None:
        return _replaced(text, edits, 0, len(text)), None
    edited = []
    start = 0
    for message in json.loads(messages):
        end = start + len(str(message.get("content") or ""))
        edited.append({**message, "content": _replaced(text, edits, start, end)})
        start = end + len(MESSAGE_BREAK)
    return MESSAGE_BREAK.join(message["content"] for message in edited), compact_json(edited)


def _replaced(text: str, edits: Sequence[Edit], start: int, end: int) -> str:
    """``text[start:end]`` with the edits that touch it; one that reaches further is applied where it begins."""
    parts = []
    at = start
    for begin, stop, replacement in edits:
        if stop <= start or begin >= end:
            continue
        parts.append(text[at : max(begin, at)])
        parts.append(replacement if begin >= start else "")
        at = min(max(stop, at), end)
    parts.append(text[at:end])
    return "".join(parts)


def spans_of(table: pa.Table | None) -> dict[int, list[Span]]:
    """The spans of personal data of each document of a shard that has some; a shard without documents has no table."""
    from .personal.find import spans_by_document

    return {} if table is None else spans_by_document(table)


def hidden(text: str, spans: Sequence[Span], begin: int = 0) -> str:
    """A part of a document without the personal data in it; the part begins at the character ``begin``."""
    changes = [Edit(span.start - begin, span.end - begin, KINDS[span.kind].placeholder) for span in spans]
    return _replaced(text, changes, 0, len(text))


def excerpt(text: str, spans: Sequence[Span]) -> str:
    """The beginning of a text for the report, in which personal data never stands."""
    near = [span for span in spans if span.start < 2 * EXCERPT]
    shown = hidden(text[: max([EXCERPT, *(span.end for span in near)])], near)
    return shown[:EXCERPT] + ("…" if len(text) > EXCERPT else "")


def _rows(group: pa.Table) -> Iterator[dict[str, Any]]:
    wanted = group.select(["id", "text", "source", "file", "line", *COLUMNS])
    yield from wanted.to_pylist()


def _plain(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
