"""The store's front door."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import TracebackType

from sqlalchemy import delete, func, select, text

from ..data.personal.options import PersonalOptions
from ..errors import UserError
from ..files import home
from .conversations import Conversations
from .database import Database
from .evaluations import EvaluationBook
from .feedback import FeedbackBook
from .keys import Keys
from .records import Purged
from .redaction import Redaction
from .tables import CONVERSATIONS, FEEDBACK
from .usage import UsageCounters
from .versions import bring_up

# What one transaction of a purge removes; SQLite's other writers wait for so much and no longer.
_PURGED_AT_ONCE = 500


def default_url() -> str:
    """``store.db`` in ``$OWNLM_HOME``."""
    return str(home() / "store.db")


class Store:
    """A database of ownlm's; use ``Store.open``. Every method may be called from any thread.

    Attributes:
        name: what may be said of the URL: without user, host and password.
        keys: API keys.
        usage: what each key has used.
        conversations: with their answers.
        feedback: on those answers.
        evaluations: of models.
    """

    def __init__(self, database: Database, redaction: Redaction) -> None:
        self._database = database
        self.name = database.name
        self.keys = Keys(database)
        self.usage = UsageCounters(database)
        self.conversations = Conversations(database, redaction)
        self.feedback = FeedbackBook(database, redaction)
        self.evaluations = EvaluationBook(database)

    @classmethod
    def open(cls, url: str | None = None, *, redact: bool | PersonalOptions = True) -> Store:
        """Opens a store; an empty one gets its tables, an older one is brought to this version.

        Args:
            url: ``sqlite:///FILE``, a path, or ``postgresql://USER:PASSWORD@HOST/NAME``; None for ``default_url``.
            redact: whether personal data is masked in what is written, or how it is looked for and dealt with.

        Raises:
            UserError: the URL is wrong, a newer ownlm wrote the store, or it is another program's.
            MissingExtra: the database's driver is not installed.
            StorageError: the database cannot be reached, or the file not be made.
            DamagedError: the file is damaged, or no database.
        """
        options = redact if isinstance(redact, PersonalOptions) else PersonalOptions() if redact else None
        database = Database(url or default_url())
        try:
            bring_up(database)
        except BaseException:
            database.close()
            raise
        return cls(database, Redaction(options))

    def check(self) -> None:
        """Asks the database for a sign of life.

        Raises:
            StorageError: there is none.
        """
        with self._database.reading() as connection:
            connection.execute(text("SELECT 1"))

    def purge(self, days: float, *, now: datetime | None = None) -> Purged:
        """Removes conversations older than so many days for good, with their feedback.

        The texts are overwritten in a SQLite file and taken out of its log. PostgreSQL gives their room away again as
        its vacuum comes by; they may be in its backups and logs.

        Args:
            days: the age, at least 0.
            now: the moment to count from; None for now.
        """
        if not 0 <= days < 1e6:
            raise UserError(f"an age is a number of days, 0 or more (got {days})", where="days")
        limit = (now or datetime.now(UTC)) - timedelta(days=days)
        old = select(CONVERSATIONS.c.id).where(CONVERSATIONS.c.created < limit).limit(_PURGED_AT_ONCE)
        conversations = feedback = 0
        while True:
            with self._database.writing() as connection:
                # Locked, so that feedback that comes in now waits and finds nothing to be about.
                ids = connection.execute(old.with_for_update()).scalars().all()
                said = select(func.count()).select_from(FEEDBACK).where(FEEDBACK.c.conversation_id.in_(ids))
                feedback += connection.execute(said).scalar_one()
                connection.execute(delete(CONVERSATIONS).where(CONVERSATIONS.c.id.in_(ids)))
            conversations += len(ids)
            if len(ids) < _PURGED_AT_ONCE:
                break
        if conversations:
            self._database.empty_log()
        return Purged(conversations, feedback)

    def close(self) -> None:
        """Closes every connection; what was acknowledged is written already."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
