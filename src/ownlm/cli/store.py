"""``ownlm store show`` and ``purge``."""

from __future__ import annotations

from typing import Annotated

import typer

from .answer import Answer
from .keys import STORE


def show(store: Annotated[str | None, STORE] = None) -> Answer:
    """Show where the store is and how much it holds."""
    from ..store import Store

    with Store.open(store) as opened:
        keys = sum(key.revoked is None for key in opened.keys.all())
        counts = {"keys": keys, "conversations": opened.conversations.count(), "feedback": opened.feedback.count()}
        counts["evaluations"] = opened.evaluations.count()
        name = opened.name
    said = (
        f"{name}: {counts['conversations']:,} conversations, {counts['feedback']:,} entries of feedback, {keys:,} keys, "
        f"{counts['evaluations']:,} evaluations"
    )
    return Answer({"store": name, **counts}, said)


def purge(
    days: Annotated[float, typer.Option(help="Remove what is older than so many days.")],
    store: Annotated[str | None, STORE] = None,
) -> Answer:
    """Remove old conversations for good, with their feedback. Keys and counts of usage stay."""
    from ..store import Store

    with Store.open(store) as opened:
        gone = opened.purge(days)
    data = {"conversations": gone.conversations, "feedback": gone.feedback}
    return Answer(data, f"Removed {gone.conversations:,} conversations and {gone.feedback:,} entries of feedback.")
