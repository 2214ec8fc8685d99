"""Renew, save and end turns."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from convo.models import AgentVersion, ItemOutline, Manifest, Session, Turn, UserMemory
from convo.sql import Columns, db_value, execute, fetch_all, insert_sql, placeholders

# The time by the database's clock, plus the seconds of the parameter, as `_seconds` writes them.
_TIME = {
    "postgresql": "STATEMENT_TIMESTAMP() + CAST(%s AS interval)",
    "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', %s)",
}
_ENDED = Columns(Turn, "id", "agent_version", "started_at", "first_token_at", "finished_at")
_JSON = {"postgresql": "CAST(%s AS jsonb)", "sqlite": "%s"}


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:+f} seconds"


@dataclass(frozen=True, kw_only=True)
class PromptRecord:
    """The record of a turn's prompt: the model, the agent's version, and the manifest without texts.

    It is stored with the first part of the reply that is, or at the turn's end: whatever a model wrote can be
    traced to the memories that it was given, and a short turn needs no statement of its own.
    """

    model: str
    agent_version: AgentVersion
    manifest: Manifest
    cache_hit: bool | None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A running turn's reply so far, and the record of its prompt until that is saved."""

    turn: Turn
    text: str
    chunks: list[ItemOutline]
    prompt: PromptRecord | None = None


class EndedTurn(NamedTuple):
    """The columns that the database has set, and whether a memory of the prompt was forgotten meanwhile."""

    row: Turn
    had_forgotten_memory: bool


def renew_leases(turn_ids: Collection[int], seconds: float) -> set[int]:
    """Renew the leases of these turns; return the ids of those that have not ended and may go on."""
    rows = fetch_all(
        f"UPDATE convo_turn SET lease_until = {_TIME[connection.vendor]}"
        f" WHERE id IN ({placeholders(turn_ids)}) AND status IN ('queued', 'running')"
        " RETURNING id, cancel_requested",
        [_seconds(seconds), *turn_ids],
    )
    return {turn_id for turn_id, cancel_requested in rows if not cancel_requested}


def save_drafts(drafts: Sequence[Draft]) -> None:
    """Save the drafts of running turns; those that have ended meanwhile stay as they are."""
    json_value = _JSON[connection.vendor]
    row = f"(%s, %s, {json_value}, {json_value}, %s)"
    values = [
        value
        for draft in drafts
        for value in (
            draft.turn.pk,
            draft.text,
            db_value(Turn, "chunks", draft.chunks),
            db_value(Turn, "manifest", draft.prompt and draft.prompt.manifest),
            draft.prompt and draft.prompt.agent_version.sha256,
        )
    ]
    execute(
        "WITH saved(id, draft, chunks, manifest, version)"
        f" AS (VALUES {', '.join([row] * len(drafts))})"
        " UPDATE convo_turn SET draft = saved.draft, chunks = saved.chunks,"
        " manifest = COALESCE(saved.manifest, convo_turn.manifest), agent_version_id = COALESCE("
        "(SELECT sha256 FROM convo_agentversion WHERE sha256 = saved.version), agent_version_id)"
        " FROM saved WHERE convo_turn.id = saved.id AND convo_turn.status = 'running'",
        values,
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

    `columns` are set as they are, except that an agent version which is not stored yet stays unset. The first
    token came `first_token_seconds` from now.
    """
    time, values = _TIME[connection.vendor], {**columns}
    version = values.pop("agent_version_id", None)
    keys = [db_value(UserMemory, "key", UUID(key)) for key in memory_keys]
    # Forgetting locks the session too, so that it sees the reply, or this statement sees what it forgot.
    is_forgotten = (
        "EXISTS (SELECT 1 FROM convo_usermemory WHERE person_id = %s AND status = 'forgotten'"
        f" AND key IN ({placeholders(keys)}))"
    )
    rows = fetch_all(
        f"UPDATE convo_turn SET {''.join(f'{name} = %s, ' for name in values)}"
        f"draft = '', lease_until = NULL, finished_at = {time},"
        f" first_token_at = COALESCE({time}, first_token_at), agent_version_id = COALESCE("
        "(SELECT sha256 FROM convo_agentversion WHERE sha256 = %s), agent_version_id)"
        " WHERE id = %s AND status IN ('queued', 'running')"
        f" RETURNING {_ENDED.sql('convo_turn')}, {is_forgotten if keys else 'FALSE'}",
        [
            *(db_value(Turn, name, value) for name, value in values.items()),
            *(_seconds(0), _seconds(first_token_seconds), version, turn_id),
            *((person_id, *keys) if keys else ()),
        ],
    )
    if not rows:
        return None
    ((*row, had_forgotten_memory),) = rows
    return EndedTurn(_ENDED.instance(row), bool(had_forgotten_memory))


def insert_ended_turn(
    session: Session, turn: Turn, *, started_seconds: float, first_token_seconds: float | None
) -> Turn:
    """Insert a turn that has ended, and its new session before it: in one statement on PostgreSQL.

    Return the columns that the database has set. The turn's times are counted from now. An agent version that
    is not stored yet stays unset.
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
    turn_sql += f" RETURNING {_ENDED.sql('convo_turn')}"
    if connection.vendor == "postgresql":
        turn_sql, turn_values = (
            f"WITH new_session AS ({session_sql}) {turn_sql}",
            [*session_values, *turn_values],
        )
    else:
        execute(session_sql, session_values)
    row = _ENDED.instance(*fetch_all(turn_sql, turn_values))
    turn.pk = row.pk
    session._state.adding = turn._state.adding = False
    return row
