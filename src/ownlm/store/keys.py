"""API keys: made once, shown once, kept as a hash, revoked at will.

A key is ``ownlm_ID_SECRET``. The id finds its row, the secret has 256 bits from the operating system. A text that nobody
can guess needs no slow hash and no salt (NIST SP 800-63B, 5.1.2.2, for look-up secrets of 112 bits and more), so what is
kept is the SHA-256 of the whole key, compared in constant time.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import string
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, or_, select, update

from ..errors import StorageError, UserError, nearest
from .database import Database
from .records import ROLES, ApiKey, Role
from .redaction import cleaned
from .tables import KEYS

_ID_LETTERS = string.ascii_lowercase + string.digits
_SECRET_LETTERS = string.ascii_letters + string.digits
_ID_LENGTH = 12
# 62 ** 43 is more than 2 ** 256.
_SECRET_LENGTH = 43
_KEY = re.compile(rf"ownlm_([a-z0-9]{{{_ID_LENGTH}}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}", re.ASCII)
# A key's last use is written again only when this old, so that not every request writes.
_USED_EVERY = timedelta(minutes=1)
# The largest number every database holds.
_MOST = 2**63 - 1
_COLUMNS = [column for column in KEYS.c if column.name != "hash"]


class Keys:
    """The keys of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        role: Role = "use",
        *,
        requests_per_minute: int | None = None,
        tokens_per_day: int | None = None,
    ) -> tuple[str, ApiKey]:
        """Makes a key.

        Args:
            name: whose it is; names need not differ.
            role: see ``ApiKey``.
            requests_per_minute: None for no limit.
            tokens_per_day: None for no limit.

        Returns:
            The key, which cannot be had again, and what is kept of it.

        Raises:
            UserError: an empty name, an unknown role, a limit that is no positive number.
        """
        if not name.strip() or not name.isprintable() or len(name) > 200:
            raise UserError("a key needs a name of 1 to 200 printable characters", where="name")
        if role not in ROLES:
            raise UserError(f"'{role}' is not a role", where="role", hint=nearest(role, ROLES))
        limits = {"requests_per_minute": requests_per_minute, "tokens_per_day": tokens_per_day}
        for limit, value in limits.items():
            if value is not None and not 1 <= value <= _MOST:
                raise UserError(f"a limit is a positive number (got {value})", where=limit)
        key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
        text = f"ownlm_{key_id}_{''.join(secrets.choice(_SECRET_LETTERS) for _ in range(_SECRET_LENGTH))}"
        made = ApiKey(key_id, name, role, requests_per_minute, tokens_per_day, datetime.now(UTC))
        row = {"id": key_id, "name": name, "role": role, "hash": _hash(text), "created": made.created, **limits}
        with self._database.writing() as connection:
            connection.execute(insert(KEYS).values(row))
        return text, made

    def find(self, text: str) -> ApiKey | None:
        """Whose key a text is; None where it is none, or was revoked.

        Takes as long for an unknown id as for a wrong secret. Notes that the key was used.
        """
        match = _KEY.fullmatch(text)
        with self._database.reading() as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.id == (match[1] if match else ""))).one_or_none()
        # Hashed in any case; compared as bytes, since a text may hold characters that are not ASCII.
        same = hmac.compare_digest(_hash(text).encode(), (row.hash if row else "-" * 64).encode())
        if row is None or not same or row.revoked is not None:
            return None
        now = datetime.now(UTC)
        if row.last_used is None or now - row.last_used > _USED_EVERY:
            self._note_use(row.id, now)
        return _key(row)

    def all(self) -> list[ApiKey]:
        """Every key, also those that were revoked, the oldest first."""
        with self._database.reading() as connection:
            return [_key(row) for row in connection.execute(select(*_COLUMNS).order_by(KEYS.c.created, KEYS.c.id))]

    def revoke(self, key_id: str) -> ApiKey:
        """Makes a key good for nothing from now on; one that was revoked before stays as it was.

        Raises:
            UserError: there is no key of this id.
        """
        key_id = cleaned(key_id)
        with self._database.writing() as connection:
            revoking = update(KEYS).where(KEYS.c.id == key_id, KEYS.c.revoked.is_(None))
            connection.execute(revoking.values(revoked=datetime.now(UTC)))
            row = connection.execute(select(*_COLUMNS).where(KEYS.c.id == key_id)).one_or_none()
        if row is None:
            known = [key.id for key in self.all()]
            hint = nearest(key_id, known) if known else "make one with: ownlm keys create NAME"
            # A whole key given in place of its id is not repeated.
            shown = key_id if len(key_id) <= _ID_LENGTH else "this"
            raise UserError(f"there is no key with the id '{shown}'", where=self._database.name, hint=hint)
        return _key(row)

    def _note_use(self, key_id: str, now: datetime) -> None:
        # The condition again: many requests may have seen the old moment at once, and one write is enough.
        old = or_(KEYS.c.last_used.is_(None), KEYS.c.last_used < now - _USED_EVERY)
        # A key is good, whether or not that can be written now: on a full disk, or while another program writes.
        with contextlib.suppress(StorageError), self._database.writing_now() as connection:
            connection.execute(update(KEYS).where(KEYS.c.id == key_id, old).values(last_used=now))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _key(row: object) -> ApiKey:
    return ApiKey(**{column.name: getattr(row, column.name) for column in _COLUMNS})
