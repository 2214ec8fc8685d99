"""Temporary chats, and the text that no table may hold."""

from typing import Any

from django.db import connection

from convo import turns
from convo.models import ME, Session

# A word that nothing else in the house says.
SECRET = "quetzalcoatlus"

# A view of the index of words on SQLite, which can't be read as a whole; its tables can.
UNREADABLE = "convo_terms"


def new_chat(owner: Any, storage: str = "ephemeral", **fields: Any) -> Session:
    return turns.store_session(turns.new_session(owner, ME, storage=storage, **fields))[0]


def told(secret: str = SECRET) -> list[str]:
    """The tables that hold this word, in whatever column."""
    with connection.cursor() as cursor:
        names = set(connection.introspection.table_names(cursor)) - {UNREADABLE}
        return sorted(name for name in names if _holds(cursor, name, secret))


def _holds(cursor: Any, table: str, secret: str) -> bool:
    cursor.execute(f'SELECT * FROM "{table}"')
    return any(secret in _text(value) for row in cursor.fetchall() for value in row)


def _text(value: Any) -> str:
    raw = bytes(value) if isinstance(value, memoryview | bytes) else None
    return raw.decode("latin-1") if raw is not None else str(value)
