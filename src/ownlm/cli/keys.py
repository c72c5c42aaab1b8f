"""``ownlm keys create``, ``list`` and ``revoke``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from ..errors import UserError, nearest
from .answer import Answer, columns
from .usage import whole_text

if TYPE_CHECKING:
    from ..store import ApiKey

STORE = typer.Option("--store", help="The store: sqlite:///FILE or postgresql://...; else store.db in $OWNLM_HOME.")
Role = Literal["use", "review", "admin"]


def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, to tell it from others.")] = "unnamed",
    role: Annotated[
        str,
        typer.Option(help="What it opens: use (the models), review (conversations as well) or admin (everything)."),
    ] = "use",
    requests_per_minute: Annotated[int | None, typer.Option(help="At most so many requests a minute.")] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(help="At most so many tokens a day, of prompts and answers.")
    ] = None,
    store: Annotated[str | None, STORE] = None,
) -> Answer:
    """Make an API key. It is shown once, and only its hash is kept."""
    from ..store import Store

    chosen: Role | None = next((known for known in get_args(Role) if known == role), None)
    if chosen is None:
        raise UserError(f"'{role}' is not a role", where="--role", hint=nearest(role, get_args(Role)))
    with Store.open(store) as opened:
        text, key = opened.keys.create(
            whole_text(name), chosen, requests_per_minute=requests_per_minute, tokens_per_day=tokens_per_day
        )
        where = opened.name
    said = f"A key for '{key.name}' with the role {key.role} and the id {key.id}, kept in {where}."
    said += "\nIt cannot be shown again: put it where its user will find it. Send it as 'Authorization: Bearer KEY'."
    return Answer({"key": text, **_data(key)}, said, output=text)


def list_keys(store: Annotated[str | None, STORE] = None) -> Answer:
    """List the API keys, the oldest first."""
    from ..store import Store

    with Store.open(store) as opened:
        keys = opened.keys.all()
    if not keys:
        return Answer({"keys": []}, "There are no keys. Make one with: ownlm keys create NAME")
    rows = [["ID", "NAME", "ROLE", "A MINUTE", "TOKENS A DAY", "CREATED", "LAST USED", ""]]
    for key in keys:
        limits = [f"{limit:,}" if limit else "any" for limit in (key.requests_per_minute, key.tokens_per_day)]
        moments = [_day(key.created), _day(key.last_used) or "never"]
        rows.append(
            [key.id, key.name, key.role, *limits, *moments, f"revoked {_day(key.revoked)}" if key.revoked else ""]
        )
    return Answer({"keys": [_data(key) for key in keys]}, columns(rows, indent=""))


def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as 'ownlm keys list' shows it.", metavar="ID")],
    store: Annotated[str | None, STORE] = None,
) -> Answer:
    """Make an API key good for nothing, from the next request on."""
    from ..store import Store

    with Store.open(store) as opened:
        key = opened.keys.revoke(key_id)
    return Answer(_data(key), f"The key {key.id} of '{key.name}' is revoked.")


def _data(key: ApiKey) -> dict[str, Any]:
    values = asdict(key)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _day(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else ""
