"""From a recipe to a finished documents table: stages 1 to 7, and what became of every document.

    list -> shards -> [text, signals, personal data, fingerprints, contamination] -> decide -> [finish]

What stands in brackets is done a shard at a time, in worker processes, and kept by content; deciding looks at all
shards at once, but never at their texts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..files import read_json, remove_partial, write_json
from ..progress import Progress
from ..units import plural
from .decide import Decisions, decide
from .finish import FINISHED, SUMMARY, finish_shard, plan_finish
from .plan import Shard, plan_shards
from .recipe import Recipe
from .sources.fetch import fetch_source
from .sources.listing import content_key, list_units
from .sources.options import SourceOptions
from .sources.patterns import split_pattern
from .sources.records import Failure, Unit
from .stages import COUNTS, TABLE, TEXT, Work, plan_work, read_failures, work_on_shard
from .store import Store, key_of
from .workers import Task, run_tasks

if TYPE_CHECKING:
    from .contamination.index import EvaluationIndex

EVALUATION = "evaluation"
INDEX = "index.npz"
SEEN, FETCHED = "contents.json", ".fetched"


@dataclass(frozen=True)
class Documents:
    """What stages 1 to 7 made.

    Attributes:
        tables: the finished table of each shard, in order.
        sources: the source of each.
        keys: of every result that was used, as (stage, key).
        finished: the key of each finished table.
        decisions: what was decided over all shards.
        failures: everything that gave no document, in the shards' order.
        summary: counts over all shards, as JSON.
    """

    tables: list[Path]
    sources: list[str]
    keys: list[tuple[str, str]]
    finished: list[str]
    decisions: Decisions
    failures: list[dict[str, Any]]
    summary: dict[str, Any]


def prepare_documents(
    recipe: Recipe,
    store: Store,
    *,
    workers: int,
    strict: bool = False,
    refresh: bool = False,
    written: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Documents:
    """Reads, measures, deduplicates, decontaminates and splits what the recipe names.

    Args:
        store: where results of stages are kept.
        workers: worker processes.
        strict: whether the first thing that cannot be read is an error.
        refresh: whether databases and the hub are asked again; else what was fetched before is used.
        written: what a build writes beside the store, which is not read where that folder lies in a source's.
        say: called with a line for the user now and then.

    Raises:
        DataError: nothing could be read, or with ``strict`` anything at all.
        ConfigError: a path, column or expression of the recipe is wrong.
    """
    store.clean()
    recipe = _fetched(recipe, store, refresh, say)
    plan = _plan(recipe, store, written)
    if strict and plan.failures:
        raise _strict(plan.failures[0])
    _run_shards(plan, recipe, workers, strict)
    works, failures, index = plan.works, plan.failures, plan.index
    failures += [failure for work in works for failure in read_failures(store.path(TEXT, work.keys[TEXT]))]
    counts = [read_json(store.path(TEXT, work.keys[TEXT]) / COUNTS) for work in works]
    documents = sum(count["documents"] for count in counts)
    if not documents:
        first = failures[0] if failures else None
        where = f"{first['source']}: {first['file']}" if first else ", ".join(source.name for source in recipe.sources)
        message = f"no document could be read: {first['message']}" if first else "there is no document to read"
        raise DataError(message, where=where, hint="check the recipe's sources")
    say(f"{plural(documents, 'document')} read" + (f", {len(failures):,} not readable" if failures else ""))
    decisions = decide(recipe, works, store, index, say)
    finishes = [plan_finish(work, decided) for work, decided in zip(works, decisions.by_shard, strict=True)]
    missing = [finish for finish in finishes if not store.has(FINISHED, finish.key)]
    tasks = [Task(number, finish) for number, finish in enumerate(missing)]
    with Progress("Writing documents", unit="shards", total=len(tasks)) as progress:
        for done, _ in enumerate(run_tasks(finish_shard, tasks, workers, seconds=float("inf")), 1):
            progress.update(done)
    keys = [(stage, key) for work in works for stage, key in work.keys.items()]
    keys += [] if index is None else [(EVALUATION, key_of(index.fingerprint))]
    folders = [store.path(FINISHED, finish.key) for finish in finishes]
    summary = _summarise([read_json(folder / SUMMARY) for folder in folders], [w.shard.source for w in works], failures)
    summary["bytes"] = sum(count["bytes"] for count in counts)
    return Documents(
        [folder / TABLE for folder in folders],
        [work.shard.source for work in works],
        keys + [(FINISHED, finish.key) for finish in finishes],
        [finish.key for finish in finishes],
        decisions,
        failures,
        summary,
    )


def _fetched(recipe: Recipe, store: Store, refresh: bool, say: Callable[[str], None]) -> Recipe:
    """The recipe with files in place of queries and data sets of the hub, which are asked once."""
    folder = store.folder.with_name(FETCHED)
    remove_partial(folder)
    held = {str(path) for path in folder.glob("*")}
    sources = []
    for source in recipe.sources:
        sources.append(fetch_source(source, folder, refresh=refresh))
        if source.path is None and not refresh and sources[-1].path in held:
            say(f"{source.name}: using what was fetched before; --refresh asks again")
    return recipe.model_copy(update={"sources": tuple(sources)})


@dataclass(frozen=True)
class _Plan:
    """Every shard's work, what could not even be listed, the evaluation sets' index, and how a shard becomes work."""

    works: list[Work]
    failures: list[dict[str, Any]]
    index: EvaluationIndex | None
    plan: Callable[[Shard], Work]


def _plan(recipe: Recipe, store: Store, written: Sequence[str]) -> _Plan:
    """Lists the sources' files and looks at their contents."""
    from dataclasses import asdict

    seen = _Contents(store.folder / SEEN)
    shards: list[Shard] = []
    failures: list[dict[str, Any]] = []
    with Progress("Looking at the files", unit="files") as progress:
        looked = 0
        for source in recipe.sources:
            units, unreadable = list_units(source, recipe.limits)
            units = _not_written(units, source, store.folder.parent, written)
            contents, readable = [], []
            for unit in units:
                content = seen.key(unit)
                if isinstance(content, Failure):
                    unreadable.append(content)
                else:
                    readable.append(unit)
                    contents.append(content)
                looked += 1
                progress.update(looked)
            failures += [asdict(failure) for failure in unreadable]
            shards += plan_shards(source.name, readable, contents)
    seen.save()
    index = _evaluation(recipe, store)
    fingerprint = None if index is None else index.fingerprint
    evaluation = None if index is None else store.path(EVALUATION, key_of(index.fingerprint)) / INDEX
    quality = None
    if recipe.quality is not None:
        from .quality import QualityModel

        quality = QualityModel.load(Path(recipe.quality)).fingerprint

    def plan(shard: Shard) -> Work:
        return plan_work(recipe, shard, store.folder, evaluation, fingerprint, quality)

    return _Plan([plan(shard) for shard in shards], failures, index, plan)


def _not_written(units: list[Unit], source: SourceOptions, out: Path, written: Sequence[str]) -> list[Unit]:
    """The units without what the last build wrote, or every build would read the one before."""
    own = [out.resolve() / name for name in written]
    roots = [split_pattern(path)[0].resolve() for path in source.paths]
    if not any(out.resolve().is_relative_to(root) for root in roots):
        return units
    return [unit for unit in units if not any(Path(unit.path).resolve().is_relative_to(path) for path in own)]


def _evaluation(recipe: Recipe, store: Store) -> EvaluationIndex | None:
    """The index of the evaluation sets, kept for the workers."""
    options = recipe.decontaminate
    if not options.sets:
        return None
    from .contamination.index import EvaluationIndex
    from .contamination.sets import read_sets

    index = EvaluationIndex.build(read_sets(options), ngram=options.ngram, near=options.near)
    key = key_of(index.fingerprint)
    if not store.has(EVALUATION, key):
        with store.new(EVALUATION, key) as folder:
            index.save(folder / INDEX)
    return index


def _run_shards(plan: _Plan, recipe: Recipe, workers: int, strict: bool) -> None:
    """Runs whatever stage of whatever shard is missing; files that are gone by then leave the plan as failures."""
    todo = [work for work in plan.works if work.missing()]
    if strict:
        running = {work.keys[TEXT] for work in todo}
        for work in plan.works:
            if work.keys[TEXT] not in running and (found := read_failures(Path(work.store) / TEXT / work.keys[TEXT])):
                raise _strict(found[0])
    while todo:
        gone = _run(todo, recipe, workers, strict)
        todo = []
        for work, failures in gone:
            plan.failures.extend(failures)
            rest = work.shard.without({failure["file"] for failure in failures})
            again = [plan.plan(rest)] if rest.units else []
            place = plan.works.index(work)
            plan.works[place : place + 1] = again
            todo += [work for work in again if work.missing()]


def _run(todo: Sequence[Work], recipe: Recipe, workers: int, strict: bool) -> list[tuple[Work, list[dict[str, Any]]]]:
    """Runs the missing stages of shards, the largest first; gives those that lost files, with the failures."""
    todo = sorted(todo, key=lambda work: -work.shard.size)
    gone = []
    tasks = [Task(number, work) for number, work in enumerate(todo)]
    total = sum(work.shard.size for work in todo)
    with Progress("Reading and measuring", unit="MB", total=_megabytes(total)) as progress:
        done = 0
        for number, counts in run_tasks(work_on_shard, tasks, workers, recipe.limits.seconds):
            done += todo[number].shard.size
            progress.update(_megabytes(done))
            work = todo[number]
            if "gone" in counts:
                gone.append((work, counts["gone"]))
            if strict and (counts.get("gone") or counts["failures"]):
                raise _strict((counts.get("gone") or read_failures(Path(work.store) / TEXT / work.keys[TEXT]))[0])
    return gone


def _megabytes(size: int) -> int:
    return -(-size // 10**6)


def _strict(failure: dict[str, Any]) -> DataError:
    line = f":{failure['line']}" if failure["line"] else ""
    return DataError(
        failure["message"], where=f"{failure['file']}{line}", hint="leave out --strict to go on without it"
    )


def _summarise(
    shards: Sequence[dict[str, Any]], sources: Sequence[str], failures: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Sums the shards' summaries, over all and by source."""
    total = _sum(shards)
    unread = Counter(f"unreadable/{failure['reason']}" for failure in failures)
    total["dropped"] = _rising(Counter(total["dropped"]) + unread)
    by_source: dict[str, Any] = {}
    for name in dict.fromkeys([*sources, *(failure["source"] for failure in failures)]):
        of_source = _sum([shard for shard, source in zip(shards, sources, strict=True) if source == name])
        lost = Counter(f"unreadable/{f['reason']}" for f in failures if f["source"] == name)
        of_source["dropped"] = _rising(Counter(of_source["dropped"]) + lost)
        del of_source["examples"]
        by_source[name] = of_source
    return total | {"sources": by_source}


def _sum(shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, Any] = {
        name: Counter() for name in ("kept", "dropped", "characters", "bytes_kept", "personal", "personal_documents")
    }
    nested: dict[str, dict[str, Counter[str]]] = {
        name: {"kept": Counter(), "dropped": Counter()} for name in ("languages", "lengths")
    }
    examples: dict[str, list[dict[str, Any]]] = {}
    for shard in shards:
        for name, counter in counts.items():
            counter.update(shard[name])
        for name, states in nested.items():
            for state, counter in states.items():
                counter.update(shard[name][state])
        for reason, found in shard["examples"].items():
            examples.setdefault(reason, []).extend(found)
    chosen = {
        reason: sorted(found, key=lambda e: (e["id"], e["file"], e["line"]))[:3]
        for reason, found in sorted(examples.items())
    }
    sums = {name: _rising(counter) for name, counter in counts.items()}
    parts = {name: {state: _rising(c) for state, c in states.items()} for name, states in nested.items()}
    return sums | parts | {"chats": sum(shard["chats"] for shard in shards), "examples": chosen}


def _rising(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items()))


class _Contents:
    """The content keys of files, kept by name, size and time of change, so that an unchanged file is not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known: dict[str, list[Any]] = read_json(path)
        except DataError:
            self._known = {}
        self._now: dict[str, list[Any]] = {}

    def key(self, unit: Unit) -> str | Failure:
        """The unit's content key, or why it cannot be read."""
        try:
            stat = Path(unit.path).stat()
            # ASCII, since a path need not be UTF-8.
            name = json.dumps([unit.source, unit.name, unit.path, unit.begin, unit.end])
            mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
            held = self._known.get(name)
            content = held[1] if held and held[0] == mark else content_key(unit)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return Failure(unit.source, unit.name, 0, "unreadable", f"this file cannot be read: {reason}")
        self._now[name] = [mark, content]
        return content

    def save(self) -> None:
        """Keeps what was seen now."""
        write_json(self._path, self._now)
