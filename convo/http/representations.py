"""JSON representations of sessions, turns and messages, the same in every response, event and page."""

import json
from collections.abc import Sequence

from convo.history import with_inline_data
from convo.http.files import files_json
from convo.models import Feedback, Item, Message, Session, Turn
from convo.turns import TurnResult


def session_json(session: Session) -> dict[str, object]:
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


def message_json(message: Message, turn_number: int, *, loaded: Message | None = None) -> dict[str, object]:
    """Return a message as JSON. `loaded` is the same message with the data of its files already loaded."""
    loaded = loaded or with_inline_data([message])[0]
    return {
        "position": message.position,
        "id": message.item_id,
        "type": message.type,
        "role": message.role,
        "content": message.content,
        "item": _with_sorted_keys(loaded.item),
        "files": files_json(message) if message.item else [],
        "name": message.name or None,
        "agent": message.agent or None,
        "tokens": message.tokens,
        "turn": turn_number,
        "created_at": message.created_at,
    }


def _with_sorted_keys(item: Item | None) -> Item | None:
    # PostgreSQL doesn't keep the order of keys, so they are sorted here.
    return json.loads(json.dumps(item, sort_keys=True)) if item else None


def turn_json(turn: Turn) -> dict[str, object]:
    return {
        "id": str(turn.key),
        "number": turn.number,
        "kind": turn.kind,
        "status": turn.status,
        "agent": turn.agent,
        "model": turn.model or None,
        # The built-in responder wrote this reply, and no model was asked.
        "offline": turn.model == "offline",
        "error": turn.error,
        "usage": usage_json(turn),
        "feedback": feedback_json(turn),
        "created_at": turn.created_at,
        "started_at": turn.started_at,
        "first_token_at": turn.first_token_at,
        "finished_at": turn.finished_at,
    }


def feedback_json(turn: Turn) -> dict[str, object] | None:
    """Return the feedback on this turn, or None. For many turns, select it together with them."""
    feedback: Feedback | None = getattr(turn, "feedback", None)
    return None if feedback is None else feedback_value_json(feedback)


def feedback_value_json(feedback: Feedback) -> dict[str, object]:
    value = Feedback.Value(feedback.value).label
    return {"value": value, "note": feedback.note, "created_at": feedback.created_at}


def started_json(turn: Turn) -> dict[str, object]:
    """Return the facts known when a turn starts, the same in its live stream and in every replay."""
    return {"id": str(turn.key), "number": turn.number, "agent": turn.agent}


def usage_json(turn: Turn) -> dict[str, object]:
    return {
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
        "cached_tokens": turn.cached_tokens,
    }


def result_json(session_id: object, result: TurnResult) -> dict[str, object]:
    """Return the result of a turn, the same in a response and in the last event of a stream."""
    message = result.message
    number = result.turn.number
    return {
        "session": str(session_id),
        "turn": turn_json(result.turn),
        "message": message_json(message, number) if message else None,
        "messages": messages_json(result.messages, number),
    }


def messages_json(messages: Sequence[Message], turn_number: int | None = None) -> list[dict[str, object]]:
    """Return messages as JSON: those of this turn or, without a number, each with that of its own turn."""
    return [
        message_json(message, turn_number or message.turn.number, loaded=loaded)
        for message, loaded in zip(messages, with_inline_data(messages), strict=True)
    ]
