"""What each key has used on each day, for quotas."""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlalchemy import Insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from .database import Database
from .records import Usage
from .tables import USAGE

_COUNTS = ("requests", "prompt_tokens", "completion_tokens")


class UsageCounters:
    """Counters by key and day (UTC)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        key_id: str,
        *,
        requests: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        day: date | None = None,
    ) -> Usage:
        """Counts what was used; nothing is lost between processes that count at once.

        Args:
            key_id: with whose key; empty where keys are off.
            requests: may be negative, to give back what was counted too early; so may the tokens.
            prompt_tokens: read.
            completion_tokens: written.
            day: None for today.

        Returns:
            The day's counts with these among them.
        """
        more = {"requests": requests, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        row = {"key_id": key_id, "day": day or datetime.now(UTC).date(), **more}
        # The two databases have one statement for it, and the library a class for each.
        kind = sqlite.insert if self._database.is_sqlite else postgresql.insert
        adding: Insert = (statement := kind(USAGE).values(row)).on_conflict_do_update(
            index_elements=["key_id", "day"],
            set_={name: USAGE.c[name] + statement.excluded[name] for name in _COUNTS},
        )
        with self._database.writing() as connection:
            return Usage(**connection.execute(adding.returning(USAGE)).one()._mapping)

    def reserve(
        self, key_id: str, *, most: int, prompt_tokens: int, wanted: int, least: int, day: date | None = None
    ) -> int | None:
        """Counts a request with its prompt and what its answers may have, if that stays within a limit.

        Nothing comes in between looking and counting, whoever else counts at once. What the answers did not take is given
        back with ``add``.

        Args:
            key_id: with whose key.
            most: the day's limit, of prompts and answers together.
            prompt_tokens: read.
            wanted: the most that the answers may have.
            least: the fewest that will do.
            day: None for today.

        Returns:
            How many tokens were counted for the answers, at most ``wanted``; None where even ``least`` would pass the
            limit, and nothing is counted then.
        """
        row = {"key_id": key_id, "day": day or datetime.now(UTC).date(), **dict.fromkeys(_COUNTS, 0)}
        here = (USAGE.c.key_id == key_id, USAGE.c.day == row["day"])
        kind = sqlite.insert if self._database.is_sqlite else postgresql.insert
        with self._database.writing() as connection:
            connection.execute(kind(USAGE).values(row).on_conflict_do_nothing())
            used = Usage(**connection.execute(select(USAGE).where(*here).with_for_update()).one()._mapping)
            left = most - used.tokens - prompt_tokens
            if left < least:
                return None
            granted = min(wanted, left)
            counts = {"requests": 1, "prompt_tokens": prompt_tokens, "completion_tokens": granted}
            new = {name: USAGE.c[name] + count for name, count in counts.items()}
            connection.execute(update(USAGE).where(*here).values(new))
        return granted

    def of(self, key_id: str, day: date | None = None) -> Usage:
        """What a key has used on a day; None for today."""
        day = day or datetime.now(UTC).date()
        with self._database.reading() as connection:
            found = connection.execute(select(USAGE).where(USAGE.c.key_id == key_id, USAGE.c.day == day)).one_or_none()
        return Usage(**found._mapping) if found else Usage(key_id, day)
