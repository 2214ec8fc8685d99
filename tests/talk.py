"""Short words for the tests of turns: ask in a session, and read what was said."""

from collections.abc import Iterable
from typing import Any

from asgiref.sync import async_to_sync

from convo import history, turns
from convo.history import NewMessage
from convo.models import Message, Session
from convo.turns import Claim, TurnResult


def user(text: str) -> list[NewMessage]:
    return [NewMessage(role="user", content=text)]


def begin(session: Session, text: str = "hello", **options: Any) -> Claim:
    return turns.begin(session, user(text), **options)


def finish(claim: Claim) -> TurnResult:
    """Run a claimed turn to its end."""
    return async_to_sync(turns.answer)(claim)


def ask(session: Session, text: str = "hello", **options: Any) -> TurnResult:
    return finish(begin(session, text, **options))


def said(session: Session) -> list[str]:
    """The transcript, as "u:hello" and "a:hi"."""
    return [f"{row.role[0]}:{row.content}" for row in Message.objects.transcript(session)]


def delete_last(session: Session) -> None:
    """Delete the newest message of the transcript."""
    history.delete_message(session.pk, Message.objects.transcript(session).latest("position").position)


def questions(messages: Iterable[dict[str, Any]]) -> list[str]:
    """What the user says in a prompt."""
    return [message["content"] for message in messages if message["role"] == "user"]
