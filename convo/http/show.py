"""How sessions, turns and messages look in JSON: the same in every answer, event and page."""

import json
from collections.abc import Sequence
from typing import Any

from convo.history import inlined
from convo.http.files import shown_files
from convo.models import Feedback, Message, Session, Turn
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
        "storage": session.storage,
        "is_active": session.state == Session.State.OPEN,
        "message_count": session.message_count,
        "turn_count": session.turn_count,
        "token_count": session.token_count,
        "created_at": session.created_at,
        "last_activity": session.last_activity,
    }


def message_json(message: Message, turn_number: int, *, whole: Message | None = None) -> dict[str, Any]:
    """A message; whoever tells of many gives it along `whole`, with the data that its item refers to."""
    whole = whole or inlined([message])[0]
    return {
        "position": message.position,
        "id": message.item_id,
        "type": message.type,
        "role": message.role,
        "content": message.content,
        "item": _steady(whole.item),
        "files": shown_files(message),
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
        "feedback": feedback_json(turn),
        "created_at": turn.created_at,
        "started_at": turn.started_at,
        "first_token_at": turn.first_token_at,
        "finished_at": turn.finished_at,
    }


def feedback_json(turn: Turn) -> dict[str, Any] | None:
    """What somebody thinks of this reply; whoever tells of many turns has selected it with them."""
    found: Feedback | None = getattr(turn, "feedback", None)
    return None if found is None else opinion_json(found)


def opinion_json(feedback: Feedback) -> dict[str, Any]:
    value = Feedback.Value(feedback.value).label
    return {"value": value, "note": feedback.note, "created_at": feedback.created_at}


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
    whole = zip(messages, inlined(messages), strict=True)
    return [message_json(message, turn_number, whole=row) for message, row in whole]


def each_json(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages of several turns, each under the number of its own."""
    whole = zip(messages, inlined(messages), strict=True)
    return [message_json(message, message.turn.number, whole=row) for message, row in whole]
