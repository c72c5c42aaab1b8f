"""What people said about answers."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ..errors import UserError, nearest
from .database import Database
from .records import Feedback, Rating
from .redaction import Redaction, cleaned
from .tables import FEEDBACK, MESSAGES

_RATINGS = ("up", "down")
# What a whole number of a database holds.
_MOST_ANSWERS = 2**31


class FeedbackBook:
    """The feedback of a store: one entry for each answer and key, the last word counts."""

    def __init__(self, database: Database, redaction: Redaction) -> None:
        self._database = database
        self._redaction = redaction

    def add(
        self,
        conversation_id: str,
        rating: Rating,
        *,
        answer: int = 0,
        reason: str = "",
        correction: str = "",
        key_id: str = "",
    ) -> Feedback:
        """Writes what was said about an answer, personal data redacted, durably before it returns.

        What was said with the same key about the same answer before is replaced.

        Args:
            conversation_id: of the conversation that the answer is in.
            rating: ``up`` or ``down``.
            answer: the answer's index.
            reason: why.
            correction: what the answer should have been.
            key_id: with whose key; empty where keys are off.

        Returns:
            What was kept. A reason or correction that the policy on personal data drops is empty.

        Raises:
            UserError: there is no such answer here, or the rating is no rating.
        """
        if rating not in _RATINGS:
            raise UserError(f"'{rating}' is not a rating", where="rating", hint=nearest(str(rating), _RATINGS))
        texts = self._redaction({"reason": reason, "correction": correction}) or {"reason": "", "correction": ""}
        entry = Feedback(cleaned(conversation_id), answer, rating, **texts, key_id=key_id, created=datetime.now(UTC))
        kind = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement = kind(FEEDBACK).values(vars(entry))
        new = {name: statement.excluded[name] for name in ("rating", "reason", "correction", "created")}
        writing = statement.on_conflict_do_update(index_elements=["conversation_id", "answer", "key_id"], set_=new)
        there = MESSAGES.c.conversation_id == entry.conversation_id, MESSAGES.c.answer == answer
        missing = UserError(f"no answer {answer} of this conversation is kept here", where=entry.conversation_id[:200])
        if not 0 <= answer < _MOST_ANSWERS:
            raise missing
        try:
            with self._database.writing() as connection:
                if connection.execute(select(MESSAGES.c.position).where(*there)).first() is None:
                    raise missing
                connection.execute(writing)
        except IntegrityError:
            # A purge has come between the two.
            raise missing from None
        return entry

    def of(self, conversation_id: str) -> list[Feedback]:
        """All feedback on a conversation, the oldest first."""
        return self._read(select(FEEDBACK).where(FEEDBACK.c.conversation_id == cleaned(conversation_id)))

    def all(self, *, rating: Rating | None = None, since: datetime | None = None) -> list[Feedback]:
        """Feedback, the oldest first.

        Args:
            rating: only this one.
            since: only what was said then or later; with its time zone.
        """
        chosen = select(FEEDBACK)
        if rating is not None:
            chosen = chosen.where(FEEDBACK.c.rating == rating)
        if since is not None:
            chosen = chosen.where(FEEDBACK.c.created >= since)
        return self._read(chosen)

    def count(self) -> int:
        """How much there is."""
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(FEEDBACK)).scalar_one()

    def _read(self, chosen: object) -> list[Feedback]:
        ordered = chosen.order_by(FEEDBACK.c.created, FEEDBACK.c.conversation_id, FEEDBACK.c.answer, FEEDBACK.c.key_id)  # type: ignore[attr-defined]
        with self._database.reading() as connection:
            return [Feedback(**row._mapping) for row in connection.execute(ordered)]
