"""The store: API keys, what was used, conversations, feedback and evaluations, in SQLite or PostgreSQL.

``Store.open(url)`` is the way in; ``store.keys``, ``store.usage``, ``store.conversations``, ``store.feedback`` and
``store.evaluations`` are its parts, and what they give back are the frozen records of ``records``. A call that writes
returns once the database says that the write is durable, so what was acknowledged outlives the process. All of it may be
called from many threads
and from many processes at once.
"""

from __future__ import annotations

from ..errors import MissingExtra

try:
    from .records import (
        Answer,
        ApiKey,
        Conversation,
        Evaluation,
        Feedback,
        Purged,
        Rating,
        Role,
        StoredScore,
        Usage,
    )
    from .store import Store, default_url
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] not in ("sqlalchemy", "alembic"):
        raise
    raise MissingExtra("the store", "serve") from None

__all__ = [
    "Answer",
    "ApiKey",
    "Conversation",
    "Evaluation",
    "Feedback",
    "Purged",
    "Rating",
    "Role",
    "Store",
    "StoredScore",
    "Usage",
    "default_url",
]
