"""What is done to one shard on its own: extraction, signals, personal data, fingerprints, contamination.

Each stage is a pure function of the shard's content and the options that its key holds. ``work_on_shard`` runs those
whose results are not there yet, in a worker process.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..errors import DamagedError
from ..files import read_json, write_json, write_text
from .documents import (
    TableWriter,
    compact_json,
    document_id,
    join_messages,
    pyarrow,
    read_groups,
    text_column,
    text_schema,
)
from .duplicates.options import DuplicateOptions
from .plan import Shard
from .recipe import Recipe
from .signals.measurement import fingerprint as signals_fingerprint
from .sources.records import Failure, RawDocument
from .store import Store, key_of
from .workers import Beat

if TYPE_CHECKING:
    import pyarrow as pa

TEXT, SIGNALS, PERSONAL, FINGERPRINTS, CONTAMINATION, QUALITY = (
    "text",
    "signals",
    "personal",
    "fingerprints",
    "contamination",
    "quality",
)
# Raised when a stage would give another result for the same content and options.
VERSIONS = {TEXT: 2, SIGNALS: 1, PERSONAL: 3, FINGERPRINTS: 1, CONTAMINATION: 1, QUALITY: 1}
# Whose new versions may give other results as well.
LIBRARIES = {
    TEXT: ("charset-normalizer", "fastwarc", "ftfy", "pypdfium2", "python-docx", "resiliparse", "trafilatura"),
    PERSONAL: ("phonenumbers", "python-stdnum"),
}

TABLE = "table.parquet"
ARROW = "table.arrow"
FAILURES = "failures.jsonl"
COUNTS = "counts.json"


@dataclass(frozen=True)
class Work:
    """A shard's stages: what a worker process gets.

    Attributes:
        recipe: the whole recipe.
        shard: what to read.
        store: the folder of finished results.
        keys: of each stage that the recipe asks for, in their order.
        evaluation: the folder of the evaluation sets' index, or None.
    """

    recipe: Recipe
    shard: Shard
    store: Path
    keys: dict[str, str]
    evaluation: Path | None

    def missing(self) -> list[str]:
        """The stages whose results are not there, or damaged."""
        store = Store(self.store)
        return [stage for stage, key in self.keys.items() if not store.has(stage, key)]


def plan_work(
    recipe: Recipe, shard: Shard, store: Path, evaluation: Path | None, fingerprint: str | None, quality: str | None
) -> Work:
    """The keys of a shard's stages.

    Args:
        fingerprint: the evaluation index's, or None.
        quality: the quality model's, or None.
    """
    columns = next(source.columns for source in recipe.sources if source.name == shard.source)
    reading = [dump(columns), dump(recipe.limits), dump(recipe.extract)]
    text = _key(TEXT, shard.source, shard.identity, reading)
    keys = {TEXT: text}
    keys[SIGNALS] = _key(SIGNALS, text, signals_fingerprint(recipe.signals))
    keys[PERSONAL] = _key(PERSONAL, text, dump(recipe.personal_data, without={"policy"}))
    if needs_fingerprints(recipe.duplicates):
        keys[FINGERPRINTS] = _key(FINGERPRINTS, text, _fingerprinting(recipe.duplicates))
    if fingerprint is not None:
        keys[CONTAMINATION] = _key(CONTAMINATION, text, fingerprint)
    if quality is not None:
        keys[QUALITY] = _key(QUALITY, text, quality)
    return Work(recipe, shard, store, keys, evaluation)


def needs_fingerprints(options: DuplicateOptions) -> bool:
    """Whether any kind of duplicate is looked for."""
    return options.exact or options.near is not None or options.paragraphs is not None


def _fingerprinting(options: DuplicateOptions) -> list[Any]:
    """What decides the fingerprints: a threshold does not."""
    from .duplicates.fingerprint import algorithm

    near = None if options.near is None else [options.ngram, options.permutations]
    paragraphs = None if options.paragraphs is None else options.paragraphs.min_words
    return [algorithm(options), near, paragraphs]


def dump(options: Config, without: set[str] | None = None) -> dict[str, Any]:
    """Options as JSON."""
    return options.model_dump(mode="json", exclude=without or set())


def _key(stage: str, *parts: Any) -> str:
    return key_of(stage, VERSIONS[stage], [_version(name) for name in LIBRARIES.get(stage, ())], parts)


@functools.cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def work_on_shard(work: Work, lost: dict[int, str], beat: Beat) -> dict[str, Any]:
    """Runs the stages of a shard whose results are missing.

    Args:
        lost: places of documents that hung or crashed a worker before.
        beat: called with the place of each document.

    Returns:
        the shard's counts: documents, failures, bytes of text. Or ``gone``: the failures of files that could be read
        when they were listed and no longer can. Then nothing is kept, since a result stands for the files' contents.
    """
    store = Store(work.store)
    if not store.has(TEXT, work.keys[TEXT]):
        try:
            extract(work, store, lost, beat)
        except _GoneError as gone:
            return {"gone": gone.failures}
    table = store.path(TEXT, work.keys[TEXT]) / TABLE
    for stage in work.missing():
        with store.new(stage, work.keys[stage]) as folder:
            try:
                STAGES[stage](work, table, folder)
            except OSError as error:
                if "checksum" not in str(error).lower() and "corrupt" not in str(error).lower():
                    raise
                raise DamagedError(
                    "this file is damaged", where=str(table), hint="remove it and run the same command again"
                ) from None
    return read_json(store.path(TEXT, work.keys[TEXT]) / COUNTS)


class _GoneError(Exception):
    def __init__(self, failures: list[dict[str, Any]]) -> None:
        super().__init__()
        self.failures = failures


def extract(work: Work, store: Store, lost: dict[int, str], beat: Beat) -> None:
    """Reads a shard's files and writes the table of their texts, and what could not be read."""
    extraction = Extraction(work, lost, beat)
    with store.new(TEXT, work.keys[TEXT]) as folder:
        with TableWriter(folder / TABLE, text_schema()) as writer:
            for row in extraction.rows():
                writer.add(row, len(row["text"]))
            documents = writer.rows
        if gone := [dataclasses.asdict(each) for each in extraction.failures if each.reason == "unreadable"]:
            raise _GoneError(gone)
        lines = [compact_json(dataclasses.asdict(failure)) for failure in extraction.failures]
        write_text(folder / FAILURES, "".join(line + "\n" for line in lines))
        counts = {"documents": documents, "failures": len(lines), "bytes": extraction.bytes}
        write_json(folder / COUNTS, counts)


class Extraction:
    """Records in, rows of the text table out, and a named failure for whatever gave none.

    Attributes:
        failures: in the order in which they were met.
        bytes: of all texts.
    """

    def __init__(self, work: Work, lost: dict[int, str], beat: Beat) -> None:
        self._work, self._lost, self._beat = work, lost, beat
        self._place = 0
        self.failures: list[Failure] = []
        self.bytes = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of every document."""
        self._load()
        for unit in self._work.shard.units:
            for record in self._records(unit):
                row = record if isinstance(record, Failure) else self._row(record)
                if isinstance(row, Failure):
                    self.failures.append(row)
                else:
                    self.bytes += len(row["text"].encode())
                    yield row
        self._beat(-1)

    def _load(self) -> None:
        """Loads what every text needs, so that the first document's time is its own."""
        from .extract.content import extract_text

        extract_text(b"nothing", "text/plain", None, self._work.recipe.extract)

    def _records(self, unit: Any) -> Iterator[RawDocument | Failure]:
        """A unit's records; it ends early where reading on is what hung before."""
        from .sources.reader import read_unit

        source = next(s for s in self._work.recipe.sources if s.name == unit.source)
        records = read_unit(unit, source, self._work.recipe.limits)
        while True:
            place = self._next()
            if reason := self._lost.get(place):
                yield Failure(unit.source, unit.name, 0, reason, LOST[reason])
                return
            record = next(records, None)
            if record is None:
                return
            yield record

    def _row(self, record: RawDocument) -> dict[str, Any] | Failure:
        from .extract.content import ExtractError, extract_text
        from .extract.repair import repair

        place = self._next()
        if reason := self._lost.get(place):
            return Failure(record.source, record.file, record.line, reason, LOST[reason])
        options = self._work.recipe.extract
        title, messages = record.title, None
        if record.messages is not None:
            repaired = [{**m, "content": repair(str(m.get("content") or ""), options)} for m in record.messages]
            text, messages = join_messages(repaired), compact_json(repaired)
        else:
            try:
                found = extract_text(record.content or "", record.media, record.charset, options)
            except ExtractError as error:
                return Failure(record.source, record.file, record.line, error.reason, error.message)
            text, title = found.text, record.title or found.title
        if not text.strip():
            return Failure(record.source, record.file, record.line, "empty", "there is no text in it")
        metadata = compact_json(record.metadata) if record.metadata else None
        if not all(map(_is_unicode, (messages, title, record.url, record.group, metadata))):
            message = "half a character stands in what belongs to its text"
            return Failure(record.source, record.file, record.line, "not-utf8", message)
        return {
            "id": document_id(text, messages),
            "text": text,
            "messages": messages,
            "turns": len(record.messages or ()),
            "source": record.source,
            "file": record.file,
            "begin": record.begin,
            "end": record.end,
            "line": record.line,
            "title": title,
            "url": record.url,
            "group": record.group,
            "metadata": metadata,
        }

    def _next(self) -> int:
        self._place += 1
        self._beat(self._place)
        return self._place


def _is_unicode(text: str | None) -> bool:
    """Whether UTF-8 can write a text; JSON can hold half of a surrogate pair."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return False
    return True


LOST = {
    "time-limit": "it took longer than the time a document may take (limits.seconds)",
    "crashed": "it crashed the parser, or took all memory",
}


def measure_signals(work: Work, table: Path, folder: Path) -> None:
    """One row of signals a document."""
    from .signals.measurement import measure

    _write_parquet(folder / TABLE, (measure(text_column(g), work.recipe.signals) for g in read_groups(table, ["text"])))


def find_personal(work: Work, table: Path, folder: Path) -> None:
    """Every span of personal data, with the number of its document in the shard."""
    from .personal.carried import COLUMNS
    from .personal.find import find_all_spans

    _write_parquet(folder / TABLE, _numbered(table, lambda g: find_all_spans(g, work.recipe.personal_data), COLUMNS))


def find_contamination(work: Work, table: Path, folder: Path) -> None:
    """Every place where an evaluation set's item is found."""
    from .contamination.index import EvaluationIndex
    from .contamination.scan import scan

    assert work.evaluation is not None
    index = EvaluationIndex.load(work.evaluation)
    _write_parquet(folder / TABLE, _numbered(table, lambda g: scan(text_column(g), index)))


def score_quality(work: Work, table: Path, folder: Path) -> None:
    """The quality model's score of each document."""
    from .quality import QualityModel

    pa = pyarrow()
    model = QualityModel.load(Path(work.recipe.quality or ""))
    scores = (pa.table({"quality": model.score(text_column(g))}) for g in read_groups(table, ["text"]))
    _write_parquet(folder / TABLE, scores)


def take_fingerprints(work: Work, table: Path, folder: Path) -> None:
    """What deduplication compares, in a file that is read in place."""
    from .duplicates.fingerprint import fingerprint, schema

    pa = pyarrow()
    with pa.OSFile(str(folder / ARROW), "wb") as sink, pa.ipc.new_file(sink, schema(work.recipe.duplicates)) as writer:
        for group in read_groups(table, ["text"]):
            writer.write_batch(fingerprint(text_column(group), work.recipe.duplicates))


STAGES: dict[str, Callable[[Work, Path, Path], None]] = {
    SIGNALS: measure_signals,
    PERSONAL: find_personal,
    FINGERPRINTS: take_fingerprints,
    CONTAMINATION: find_contamination,
    QUALITY: score_quality,
}


def read_failures(folder: Path) -> list[dict[str, Any]]:
    """What a shard's extraction could not read."""
    return [json.loads(line) for line in (folder / FAILURES).read_text().split("\n") if line]


def _numbered(table: Path, find: Callable[[pa.Table], pa.Table], columns: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Tables whose column ``document`` counts from the shard's beginning, not the row group's."""
    pa = pyarrow()
    import pyarrow.compute as pc

    first = 0
    for group in read_groups(table, ["text", *columns]):
        found = find(group)
        place = found.schema.get_field_index("document")
        shifted = pc.add(found.column("document").cast(pa.int64()), first)
        yield found.set_column(place, pa.field("document", pa.int64()), shifted)
        first += group.num_rows


def _write_parquet(path: Path, tables: Iterator[pa.Table]) -> None:
    """Writes tables of one schema as row groups; where there is none, no file."""
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd", write_page_checksum=True)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    finally:
        if writer is not None:
            writer.close()


def read_tables(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A stage's whole table, or None where the shard had no document."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    return pq.read_table(
        path, columns=None if columns is None else list(columns), page_checksum_verification=True, use_threads=False
    )
