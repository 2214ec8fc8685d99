"""Ids as clients see them: a prefix for the kind of object, then the UUID of its row."""

import re
from uuid import UUID

from convo.models import Session, Turn

CONVERSATION, RESPONSE, COMPLETION = "conv", "resp", "chatcmpl"
_HEX = re.compile(r"[0-9a-f]{32}")


def conversation_id(session: Session) -> str:
    return f"{CONVERSATION}_{session.pk.hex}"


def response_id(turn: Turn) -> str:
    return f"{RESPONSE}_{turn.key.hex}"


def completion_id(turn: Turn) -> str:
    return f"{COMPLETION}-{turn.key.hex}"


def uuid_of(kind: str, text: str) -> UUID | None:
    """Return the UUID in an id of this kind, or None for any other text."""
    prefix = f"{kind}-" if kind == COMPLETION else f"{kind}_"
    if not text.startswith(prefix) or not _HEX.fullmatch(text, len(prefix)):
        return None
    return UUID(text[len(prefix) :])
