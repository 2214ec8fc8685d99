"""Renew, save and end turns."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.utils.dateparse import parse_datetime

from convo.models import Session, Turn, UserMemory
from convo.sql import fetch_all, insert_sql

# The time by the database's clock, plus the seconds of the parameter, as `_seconds` writes them.
_TIME = {
    "postgresql": "STATEMENT_TIMESTAMP() + CAST(%s AS interval)",
    "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', %s)",
}
_JSON = {"postgresql": "CAST(%s AS jsonb)", "sqlite": "%s"}


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:+f} seconds"


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value)


def _moment(value: Any) -> datetime | None:
    # SQLite returns a moment as text, without its time zone.
    moment = parse_datetime(value) if isinstance(value, str) else value
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


class DraftColumns(NamedTuple):
    """The columns of a running turn that a checkpoint saves; a manifest of None leaves the stored one."""

    turn_id: int
    draft: str
    chunks: object
    manifest: object
    agent_version: str | None


class EndedTurn(NamedTuple):
    """What the database knows of a turn that has just ended."""

    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    agent_version: str | None
    had_forgotten_memory: bool


def renew_leases(turn_ids: Collection[int], seconds: float) -> set[int]:
    """Renew the leases of these turns; return the ids of those that have not ended and may go on."""
    rows = fetch_all(
        f"UPDATE convo_turn SET lease_until = {_TIME[connection.vendor]}"
        f" WHERE id IN ({_placeholders(turn_ids)}) AND status IN ('queued', 'running')"
        " RETURNING id, cancel_requested",
        [_seconds(seconds), *turn_ids],
    )
    return {turn_id for turn_id, cancel_requested in rows if not cancel_requested}


def save_drafts(drafts: Sequence[DraftColumns]) -> None:
    """Save the drafts of running turns; those that have ended meanwhile stay as they are."""
    json_value = _JSON[connection.vendor]
    row = f"(%s, %s, {json_value}, {json_value}, %s)"
    params = [
        param
        for draft in drafts
        for param in (*draft[:2], _json(draft.chunks), _json(draft.manifest), draft.agent_version)
    ]
    fetch_all(
        "WITH saved(id, draft, chunks, manifest, version)"
        f" AS (VALUES {', '.join([row] * len(drafts))})"
        " UPDATE convo_turn SET draft = saved.draft, chunks = saved.chunks,"
        " manifest = COALESCE(saved.manifest, convo_turn.manifest), agent_version_id = COALESCE("
        "(SELECT sha256 FROM convo_agentversion WHERE sha256 = saved.version), agent_version_id)"
        " FROM saved WHERE convo_turn.id = saved.id AND convo_turn.status = 'running'",
        params,
    )


def end_turn(
    turn_id: int,
    columns: Mapping[str, object],
    *,
    first_token_seconds: float | None,
    person_id: int,
    memory_keys: Collection[str],
) -> EndedTurn | None:
    """End a turn of a locked session, and return None if it had ended before.

    `columns` are set as they are, except that an agent version which is not stored yet stays unset, and that
    a mapping or list is stored as JSON. The first token came `first_token_seconds` from now.
    """
    time, params = _TIME[connection.vendor], dict(columns)
    version = params.pop("agent_version_id", None)
    values = [_json(value) if isinstance(value, dict | list) else value for value in params.values()]
    # Forgetting locks the session too, so that it sees the reply, or this statement sees what it forgot.
    is_forgotten = (
        "EXISTS (SELECT 1 FROM convo_usermemory WHERE person_id = %s AND status = 'forgotten'"
        f" AND key IN ({_placeholders(memory_keys)}))"
    )
    rows = fetch_all(
        f"UPDATE convo_turn SET {''.join(f'{name} = %s, ' for name in params)}"
        f"draft = '', lease_until = NULL, finished_at = {time},"
        f" first_token_at = COALESCE({time}, first_token_at), agent_version_id = COALESCE("
        "(SELECT sha256 FROM convo_agentversion WHERE sha256 = %s), agent_version_id)"
        " WHERE id = %s AND status IN ('queued', 'running')"
        " RETURNING started_at, first_token_at, finished_at, agent_version_id,"
        f" {is_forgotten if memory_keys else 'FALSE'}",
        [
            *(*values, _seconds(0), _seconds(first_token_seconds), version, turn_id),
            *([person_id, *map(_memory_key, memory_keys)] if memory_keys else ()),
        ],
    )
    if not rows:
        return None
    ((started, first_token, finished, stored_version, had_forgotten_memory),) = rows
    moments = _moment(started), _moment(first_token), _moment(finished)
    return EndedTurn(*moments, stored_version, bool(had_forgotten_memory))


def _memory_key(key: str) -> object:
    return UserMemory._meta.get_field("key").get_db_prep_value(UUID(key), connection)


def insert_ended_turn(
    session: Session, turn: Turn, *, started_seconds: float, first_token_seconds: float | None
) -> EndedTurn:
    """Insert a turn that has ended, and its new session before it: in one statement on PostgreSQL.

    The turn's times are counted from now. An agent version that is not stored yet stays unset.
    """
    time = _TIME[connection.vendor]
    session_sql, session_values = insert_sql([session])
    turn_sql, turn_values = insert_sql(
        [turn],
        started_at=(time, [_seconds(started_seconds)]),
        first_token_at=(time, [_seconds(first_token_seconds)]),
        finished_at=(time, [_seconds(0)]),
        agent_version=(
            "(SELECT sha256 FROM convo_agentversion WHERE sha256 = %s)",
            [turn.agent_version_id],
        ),
    )
    turn_sql += " RETURNING id, started_at, first_token_at, finished_at, agent_version_id"
    if connection.vendor == "postgresql":
        turn_sql, turn_values = (
            f"WITH new_session AS ({session_sql}) {turn_sql}",
            [*session_values, *turn_values],
        )
    else:
        fetch_all(session_sql, session_values)
    ((turn.pk, started, first_token, finished, version),) = fetch_all(turn_sql, turn_values)
    session._state.adding = turn._state.adding = False
    return EndedTurn(_moment(started), _moment(first_token), _moment(finished), version, False)


def _placeholders(values: Collection[object]) -> str:
    return ", ".join(["%s"] * len(values))
