"""What models were found to do, evaluation by evaluation."""

from __future__ import annotations

import math
import uuid
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, insert, select

from .database import Database
from .records import Evaluation, StoredScore
from .redaction import cleaned
from .tables import EVALUATIONS, SCORES

_NUMBERS = ("value", "low", "high", "best")


class EvaluationBook:
    """The evaluations of a store. Each is written whole or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, evaluation: Evaluation) -> Evaluation:
        """Writes an evaluation, durably before it returns, and gives it back with its id and time."""
        key, created = evaluation.id or uuid.uuid4().hex, evaluation.created or datetime.now(UTC)
        row = {
            "id": key,
            "model": cleaned(evaluation.model),
            "release": evaluation.release,
            "asked": evaluation.asked,
            "conditions": cleaned(dict(evaluation.conditions)),
            "created": created,
        }
        scores = [
            {"evaluation_id": key, "position": position, **_packed(score)}
            for position, score in enumerate(evaluation.scores)
        ]
        with self._database.writing() as connection:
            connection.execute(insert(EVALUATIONS).values(row))
            if scores:
                connection.execute(insert(SCORES), scores)
        return Evaluation(**{**row, "scores": tuple(evaluation.scores)})

    def all(self, *, model: str | None = None, since: datetime | None = None) -> list[Evaluation]:
        """Evaluations with their scores, the oldest first.

        Args:
            model: only of this one.
            since: only those made then or later; with its time zone.
        """
        chosen = select(EVALUATIONS)
        if model is not None:
            chosen = chosen.where(EVALUATIONS.c.model == cleaned(model))
        if since is not None:
            chosen = chosen.where(EVALUATIONS.c.created >= since)
        with self._database.reading() as connection:
            heads = connection.execute(_ordered(chosen)).mappings().all()
            picked = select(SCORES).where(SCORES.c.evaluation_id.in_(chosen.with_only_columns(EVALUATIONS.c.id)))
            rows = connection.execute(picked.order_by(SCORES.c.evaluation_id, SCORES.c.position)).mappings().all()
        scores: dict[str, list[StoredScore]] = {}
        for row in rows:
            scores.setdefault(row["evaluation_id"], []).append(_unpacked(row))
        return [Evaluation(**head, scores=tuple(scores.get(head["id"], ()))) for head in heads]

    def last(self, model: str, asked: str) -> Evaluation | None:
        """The newest evaluation of a model for which the same was asked, without its scores; None where there is none."""
        chosen = select(EVALUATIONS).where(EVALUATIONS.c.model == cleaned(model), EVALUATIONS.c.asked == asked)
        newest = chosen.order_by(EVALUATIONS.c.created.desc(), EVALUATIONS.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            found = connection.execute(newest).mappings().one_or_none()
        return None if found is None else Evaluation(**found, scores=())

    def models(self) -> list[str]:
        """The names of all models that were evaluated."""
        with self._database.reading() as connection:
            return sorted(connection.execute(select(EVALUATIONS.c.model).distinct()).scalars())

    def count(self) -> int:
        """How many there are."""
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(EVALUATIONS)).scalar_one()


def _ordered(chosen: Select[Any]) -> Select[Any]:
    return chosen.order_by(EVALUATIONS.c.created, EVALUATIONS.c.id)


def _packed(score: StoredScore) -> dict[str, Any]:
    values = {**vars(score), "task": cleaned(score.task), "metric": cleaned(score.metric)}
    # SQLite keeps no NaN, and reads its own null back as none.
    numbers = {name: None if values[name] is None or math.isnan(values[name]) else values[name] for name in _NUMBERS}
    return values | numbers | {"influences": zlib.compress(score.influences) if score.influences else None}


def _unpacked(row: Mapping[Any, Any]) -> StoredScore:
    values = {name: row[name] for name in row if name not in ("evaluation_id", "position")}
    numbers = {name: math.nan if values[name] is None else values[name] for name in ("value", "low", "high")}
    kept = values["influences"]
    return StoredScore(**(values | numbers | {"influences": zlib.decompress(kept) if kept else b""}))
