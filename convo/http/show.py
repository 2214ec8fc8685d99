"""How sessions, turns and messages look in JSON: the same in every answer, event and page."""

import json
from collections.abc import Sequence
from typing import Any

from convo.models import Message, Session, Turn
from convo.turns import Result


def session_json(session: Session) -> dict[str, Any]:
    return {
        "id": str(session.pk),
        "ref": session.ref,
        "user": session.person.ref or None,
        "agent": session.agent,
        "title": session.title,
        "metadata": session.metadata,
        "state": session.state,
        "is_active": session.state == Session.State.OPEN,
        "message_count": session.message_count,
        "turn_count": session.turn_count,
        "token_count": session.token_count,
        "created_at": session.created_at,
        "last_activity": session.last_activity,
    }


def message_json(message: Message, turn_number: int) -> dict[str, Any]:
    return {
        "position": message.position,
        "id": message.item_id,
        "type": message.type,
        "role": message.role,
        "content": message.content,
        "item": _steady(message.item),
        "name": message.name or None,
        "agent": message.agent or None,
        "tokens": message.tokens,
        "turn": turn_number,
        "created_at": message.created_at,
    }


def _steady(item: dict[str, Any] | None) -> dict[str, Any] | None:
    """The item with its keys in one order: PostgreSQL keeps another one than it was given."""
    return json.loads(json.dumps(item, sort_keys=True)) if item else None


def turn_json(turn: Turn) -> dict[str, Any]:
    return {
        "id": str(turn.key),
        "number": turn.number,
        "kind": turn.kind,
        "status": turn.status,
        "agent": turn.agent,
        "model": turn.model or None,
        # Answers of the built-in responder are marked: no model was asked.
        "offline": turn.model == "offline",
        "error": turn.error,
        "usage": usage_json(turn),
        "created_at": turn.created_at,
        "started_at": turn.started_at,
        "first_token_at": turn.first_token_at,
        "finished_at": turn.finished_at,
    }


def started_json(turn: Turn) -> dict[str, Any]:
    """What is known of a turn when it starts: the same in its live stream and in every replay."""
    return {"id": str(turn.key), "number": turn.number, "agent": turn.agent}


def usage_json(turn: Turn) -> dict[str, Any]:
    return {
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
        "cached_tokens": turn.cached_tokens,
    }


def result_json(session_id: object, result: Result) -> dict[str, Any]:
    """A turn's answer: whole responses and the last event of a stream are the same."""
    message = result.message
    number = result.turn.number
    return {
        "session": str(session_id),
        "turn": turn_json(result.turn),
        "message": message_json(message, number) if message else None,
        "messages": messages_json(result.messages, number),
    }


def messages_json(messages: Sequence[Message], turn_number: int) -> list[dict[str, Any]]:
    return [message_json(message, turn_number) for message in messages]
