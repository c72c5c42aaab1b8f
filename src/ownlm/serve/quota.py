"""How many tokens a key may use in a day: what a request may take is set aside when it is accepted, and settled at its end.

So requests that run side by side cannot use together what each alone might. A server that is killed leaves what its
requests had set aside counted until the day's end.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta

from ..errors import OwnlmError
from ..store.records import ApiKey
from ..store.store import Store
from .errors import ApiError

# Seconds after which a request may be tried again that only waits for what others have set aside.
SOON = 5

log = logging.getLogger(__name__)


class Quotas:
    """The quotas of a server's keys.

    Args:
        store: where use is counted; None counts nothing.
    """

    def __init__(self, store: Store | None) -> None:
        self.store = store
        # What requests under way here have set aside, by key.
        self.held: Counter[str] = Counter()

    def of(self, key: ApiKey | None) -> Quota:
        """For one request; a key of None is that of a server without keys."""
        return Quota(self, key)


class Quota:
    """What one request takes of its key's tokens."""

    def __init__(self, quotas: Quotas, key: ApiKey | None) -> None:
        self._quotas, self._key = quotas, key
        self._day: date | None = None
        self._prompt = self._granted = 0

    @property
    def bounded(self) -> bool:
        """Whether there is a limit to keep to."""
        return self._quotas.store is not None and self._key is not None and self._key.tokens_per_day is not None

    async def begin(self, prompt_tokens: int, *, wanted: int = 0, least: int = 0) -> int:
        """Counts a request and its prompt, and sets tokens aside for its answers.

        Args:
            prompt_tokens: of all its prompts.
            wanted: the most that its answers may have, all together.
            least: no fewer will do.

        Returns:
            How many its answers may have.

        Raises:
            ApiError: 429; what is left of the day's tokens does not suffice.
            StorageError: the store does not answer.
        """
        if self._quotas.store is None or self._key is None:
            return wanted
        if self._key.tokens_per_day is None:
            # Nobody waits for a number that nothing depends on.
            self._day, self._prompt = datetime.now(UTC).date(), prompt_tokens
            counts = {"requests": 1, "prompt_tokens": prompt_tokens}
            asyncio.get_running_loop().run_in_executor(None, functools.partial(self._count, self._day, **counts))
            return wanted
        setting_aside = asyncio.ensure_future(asyncio.to_thread(self._begin, prompt_tokens, wanted, least))
        try:
            granted = await asyncio.shield(setting_aside)
        except asyncio.CancelledError:
            # The thread goes on; what it sets aside is given back.
            setting_aside.add_done_callback(self._undo)
            raise
        if granted is None:
            raise await self._refusal(prompt_tokens + least)
        self._quotas.held[self._key.id] += granted
        return granted

    def end(self, completion_tokens: int) -> None:
        """Counts what was written instead of what was set aside for it; waits for the store."""
        self._settle(completion_tokens=completion_tokens - self._granted)

    def cancel(self) -> None:
        """Gives everything back: the request was not accepted; waits for the store."""
        self._settle(requests=-1, prompt_tokens=-self._prompt, completion_tokens=-self._granted)

    def _begin(self, prompt_tokens: int, wanted: int, least: int) -> int | None:
        assert self._quotas.store is not None and self._key is not None
        assert self._key.tokens_per_day is not None
        day, sizes = datetime.now(UTC).date(), {"prompt_tokens": prompt_tokens, "wanted": wanted, "least": least}
        granted = self._quotas.store.usage.reserve(self._key.id, most=self._key.tokens_per_day, day=day, **sizes)
        if granted is not None:
            self._day, self._prompt, self._granted = day, prompt_tokens, granted
        return granted

    def _undo(self, begun: asyncio.Future[int | None]) -> None:
        if not begun.cancelled() and begun.exception() is None and self._day is not None:
            asyncio.get_running_loop().run_in_executor(None, self.cancel)

    def _settle(self, **counts: int) -> None:
        """Counts this, on the day on which the request began, and only once."""
        if self._quotas.store is None or self._key is None or self._day is None:
            return
        day, self._day = self._day, None
        self._count(day, **counts)
        self._quotas.held[self._key.id] -= self._granted

    def _count(self, day: date, **counts: int) -> None:
        assert self._quotas.store is not None and self._key is not None
        try:
            self._quotas.store.usage.add(self._key.id, day=day, **counts)
        except OwnlmError as error:
            fields = {"key": self._key.id, **counts, "error": str(error)}
            log.error("what a request used could not be counted", extra={"fields": fields})

    async def _refusal(self, need: int) -> ApiError:
        assert self._quotas.store is not None and self._key is not None
        most, held = self._key.tokens_per_day or 0, self._quotas.held[self._key.id]
        message = f"this key may use {most:,} tokens a day, and what is left does not suffice"
        used = await asyncio.to_thread(self._quotas.store.usage.of, self._key.id)
        if held and used.tokens - held + need <= most:
            message += " while other requests of this key are under way"
            return ApiError(429, message, code="insufficient_quota", retry_after=SOON)
        headers = {"x-should-retry": "false"}
        return ApiError(429, message, code="insufficient_quota", retry_after=_until_tomorrow(), headers=headers)


def _until_tomorrow() -> int:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(1, math.ceil((midnight - now).total_seconds()))
