"""Find the messages that are new to a session: most clients send the whole conversation every time.

New is everything after the transcript's last message, if the request contains that message. Otherwise the
user and tool messages at the request's end are new; if the session has them already and the request lacks the
answer, the client asks for another answer.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from convo import history
from convo.conf import conf
from convo.errors import InvalidContinuation, InvalidRequest
from convo.history import NewMessage, TranscriptMessage
from convo.history.files import with_hashes
from convo.history.tool_pairs import CALL, RESULT, invalid_results
from convo.models import Message, Session
from convo.openai_api.chat.messages import SYSTEM_ROLES, SentMessage, drafts_of, sent_messages
from convo.unicode import normalize

# The transcript is read back to this question: its last message, and the question before that, come later.
_QUESTIONS = 2
_SPOKEN_TYPES = {"message", CALL, RESULT}

StoredOrNew = NewMessage | TranscriptMessage
M = TypeVar("M", SentMessage, TranscriptMessage)


@dataclass(frozen=True)
class NewInput:
    """The new messages to ask with, or the earlier turn to answer once more."""

    drafts: Sequence[NewMessage]
    turn_to_regenerate: int | None = None  # its primary key
    version: tuple[int, int] = (0, 0)


class _Likeness(NamedTuple):
    """The features by which a repeated message is recognised."""

    role: str
    text: str
    calls: tuple[tuple[str, ...], ...]


def find_new_input(session: Session, messages: Sequence[Mapping[str, Any]]) -> NewInput:
    """Find the new messages of this request, which may repeat the conversation."""
    sent = messages_to_ask(messages)
    if session.last_position == 0:
        # The session never had a message: all of these are new, and none can be counted twice.
        drafts = drafts_of(sent)
        check_results(None, drafts)
        return NewInput(drafts, version=session.version)
    rows = _newest_messages(session)
    drafts = drafts_of(_new_messages(sent, rows))
    if drafts:
        check_results(session, drafts)
        return NewInput(drafts, version=session.version)
    is_recorded = not rows[-1].from_model_turn and rows[-1].role == Message.Role.ASSISTANT
    # A recorded answer is part of its question's turn: the question is asked again in a branch beside it.
    return NewInput(
        drafts_of(_trailing(sent)) if is_recorded else (),
        turn_to_regenerate=rows[-1].turn,
        version=session.version,
    )


def _newest_messages(session: Session) -> list[TranscriptMessage]:
    # Most often the cache has all of them, and the prompt needs the same ones.
    newest_messages, _ = history.look_up_newest(session.pk, session.version)
    messages = history.recent_messages(
        session.pk, newest_messages, pairs=_QUESTIONS, budget=sys.maxsize, model=conf().default_model
    )
    return [
        message for message in messages if message.type in _SPOKEN_TYPES and message.role not in SYSTEM_ROLES
    ]


def messages_to_ask(messages: Sequence[Mapping[str, Any]]) -> list[SentMessage]:
    """Return all messages except system messages, and refuse messages that ask nothing."""
    sent = [message for message in sent_messages(messages) if message.role not in SYSTEM_ROLES]
    if not sent:
        raise InvalidRequest("There is no question: send a message with the role user.", param="messages")
    if sent[-1].role == Message.Role.ASSISTANT:
        raise InvalidRequest(
            "There is no question: in a session the last message must have the role user or tool.",
            param=f"{sent[-1].path}.role",
        )
    return sent


def check_results(session: Session | None, drafts: Sequence[NewMessage]) -> None:
    """Refuse a tool's result without the call that asked for it: it would poison every later prompt."""
    for _, reason in invalid_results(session, drafts):
        raise InvalidContinuation(reason, param="messages")


def _new_messages(sent: Sequence[SentMessage], rows: list[TranscriptMessage]) -> Sequence[SentMessage]:
    # The last message stands near the end, so that few of a thousand are converted to be compared.
    last_message = _last_message(rows)
    last_likeness = _likeness(last_message) if last_message else None
    for end in range(len(sent), 0, -1):
        if last_likeness and _ends_with(last_likeness, sent[max(end - len(last_message), 0) : end]):
            return sent[end:]
    tail = _trailing(sent)
    ends_with_reply = bool(last_message) and last_message[0].role == Message.Role.ASSISTANT
    rows_before_reply = rows[: -len(last_message)] if ends_with_reply else rows
    questions = [_likeness([row]) for row in _trailing(rows_before_reply)]
    tail_start = [_likeness(message.drafts) for message in tail[: len(questions)]]
    return tail[len(questions) :] if tail_start == questions else tail


def _last_message(rows: list[TranscriptMessage]) -> list[TranscriptMessage]:
    """Return the transcript's last message. A model's text and calls of one turn count as one message."""
    if not rows or rows[-1].role != Message.Role.ASSISTANT:
        return rows[-1:]
    last = rows[-1]
    same_reply = takewhile(lambda row: row.role == last.role and row.turn == last.turn, reversed(rows))
    return list(same_reply)[::-1]


def _ends_with(last_likeness: _Likeness, sent: Sequence[SentMessage]) -> bool:
    """Return whether these messages end with the last one, which some clients split into several."""
    text = ""
    calls: tuple[tuple[str, ...], ...] = ()
    for message in reversed(sent):
        if message.role != last_likeness.role:
            return False
        likeness = _likeness(message.drafts)
        text, calls = f"{likeness.text} {text}".strip(), (*likeness.calls, *calls)
        if (text, calls) == (last_likeness.text, last_likeness.calls):
            return True
        if message.role != Message.Role.ASSISTANT or not last_likeness.text.endswith(text):
            return False
    return False


def _trailing(messages: Sequence[M]) -> list[M]:
    # These are the messages after the last one of an assistant.
    return list(takewhile(lambda message: message.role != Message.Role.ASSISTANT, reversed(messages)))[::-1]


def _likeness(messages: Sequence[StoredOrNew]) -> _Likeness:
    texts = [_text_of(message) for message in messages if message.type != CALL]
    text = " ".join(normalize("NFC", " ".join(texts)).split())
    return _Likeness(
        messages[0].role,
        text,
        tuple(_call_identity(message) for message in messages if message.type != "message"),
    )


def _call_identity(message: StoredOrNew) -> tuple[str, ...]:
    """Identify a call or a result. A call's id is not enough, because another call may have the same."""
    if message.type != CALL:
        return (message.call_id,)
    arguments = str((message.item or {}).get("arguments", ""))
    # Clients send the same arguments with other spaces, or with their keys in another order.
    with suppress(ValueError, RecursionError):
        arguments = json.dumps(json.loads(arguments), sort_keys=True)
    return (message.call_id, message.name, arguments)


def _text_of(message: StoredOrNew) -> str:
    """Return the text of this message; an image or a file is represented by its data or id."""
    item = with_hashes(message.item) or {}
    parts = item.get("output" if message.type == RESULT else "content", message.content)
    if isinstance(parts, str):
        return parts
    names = ("text", "refusal", "image_url", "file_id", "file_data")
    return " ".join(str(part[name]) for part in parts for name in names if part.get(name))
