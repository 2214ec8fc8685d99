"""What a request says that its session does not hold yet: clients like to send all they know, every time.

New is what follows the last message of the request that is the transcript's last one. Where none is, the
user's and the tools' messages at the request's end are new; where those were asked already and the request
lacks the answer, another answer is wanted.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

from convo.errors import InvalidInput, InvalidRequest
from convo.history import Draft, alike
from convo.http.openai_api.chat.messages import SYSTEM, drafts_of
from convo.models import Message, Session, Turn

# So far back the transcript is read for its last message and the question before it.
_NEWEST = 200
_CALL, _OUTPUT = "function_call", "function_call_output"
_SPOKEN = {"message", _CALL, _OUTPUT}

Said = Draft | Message
Group = list[Draft]


@dataclass(frozen=True)
class News:
    """What is to be asked: something new, or the question of an earlier turn once more."""

    drafts: Sequence[Draft]
    again: Turn | None = None
    version: tuple[int, int] = (0, 0)


class _Likeness(NamedTuple):
    """By this a message is known again."""

    role: str
    text: str
    calls: tuple[str, ...]


def news(session: Session, messages: Sequence[Mapping[str, Any]]) -> News:
    """What these messages, which may repeat the conversation, want to know of it."""
    groups = spoken(messages)
    if session.last_position == 0:
        # Nothing was ever said here: all of it is new, and nothing can be counted twice.
        found = News(_flat(groups), version=session.version)
        check_pairs(found.drafts, [])
        return found
    shown = Message.objects.transcript(session).select_related("turn").order_by("-position")
    rows = [row for row in reversed(shown[:_NEWEST]) if row.type in _SPOKEN and row.role not in SYSTEM]
    drafts = _flat(_new(groups, rows))
    if drafts:
        check_pairs(drafts, rows)
        return News(drafts, version=session.version)
    turn = rows[-1].turn
    is_imported = turn.kind == Turn.Kind.RECORDED and rows[-1].role == Message.Role.ASSISTANT
    # An answer that was made elsewhere is part of its turn: the question is asked anew, beside it.
    return News(_flat(_run(groups)) if is_imported else (), again=turn, version=session.version)


def spoken(messages: Sequence[Mapping[str, Any]]) -> list[Group]:
    """What is said in these messages, each as the items that are stored of it; system messages say how."""
    at = [index for index, message in enumerate(messages) if message["role"] not in SYSTEM]
    if not at:
        raise InvalidRequest("Nothing is asked: a message of role user is needed.", param="messages")
    if messages[at[-1]]["role"] == Message.Role.ASSISTANT:
        raise InvalidRequest(
            "Nothing is asked: in a session the last message is one of role user or tool.",
            param=f"messages[{at[-1]}].role",
        )
    return [drafts_of(messages[index], f"messages[{index}]") for index in at]


def check_pairs(drafts: Iterable[Draft], rows: Iterable[Message]) -> None:
    """A tool's result without the call that asked for it would poison every later prompt."""
    calls = {row.call_id for row in rows if row.type == _CALL}
    answered = {row.call_id for row in rows if row.type == _OUTPUT}
    for draft in drafts:
        call_id = draft.call_id
        if draft.type == _CALL:
            calls.add(call_id)
        if draft.type == _OUTPUT and call_id not in calls - answered:
            why = "has its result already" if call_id in answered else "is none that was made here"
            raise InvalidInput(f"The tool call '{call_id}' {why}.", param="messages")
        if draft.type == _OUTPUT:
            answered.add(call_id)


def _new(groups: list[Group], rows: list[Message]) -> list[Group]:
    last = _last_message(rows)
    likes = [_likeness(group) for group in groups]
    sought = _likeness(last) if last else None
    for end in range(len(groups), 0, -1):
        if sought and _is_told(sought, likes[max(end - len(last), 0) : end]):
            return groups[end:]
    run = _run(groups)
    before = rows[: len(rows) - len(last)] if last and last[0].role == Message.Role.ASSISTANT else rows
    asked = [_likeness([row]) for row in _trailing(before)]
    begins = likes[len(likes) - len(run) :][: len(asked)]
    return run[len(asked) :] if begins == asked else run


def _last_message(rows: list[Message]) -> list[Message]:
    """What the transcript ends with: of a model, all of its last words and calls."""
    if not rows or rows[-1].role != Message.Role.ASSISTANT:
        return rows[-1:]
    last = rows[-1]
    of_it = takewhile(lambda row: row.role == last.role and row.turn_id == last.turn_id, reversed(rows))
    return list(of_it)[::-1]


def _is_told(sought: _Likeness, likes: Sequence[_Likeness]) -> bool:
    """Do these messages end with the one sought? Some clients split what a model said at once."""
    text = ""
    calls: tuple[str, ...] = ()
    for like in reversed(likes):
        text, calls = f"{like.text} {text}".strip(), (*like.calls, *calls)
        if _Likeness(like.role, text, calls) == sought:
            return True
        if like.role != Message.Role.ASSISTANT or not sought.text.endswith(text):
            return False
    return False


def _run(groups: list[Group]) -> list[Group]:
    """The user's and the tools' messages at the end."""
    return list(takewhile(lambda group: group[0].role != Message.Role.ASSISTANT, reversed(groups)))[::-1]


def _trailing(rows: list[Message]) -> list[Message]:
    return list(takewhile(lambda row: row.role != Message.Role.ASSISTANT, reversed(rows)))[::-1]


def _likeness(said: Sequence[Said]) -> _Likeness:
    words = [_words(part) for part in said if part.type != _CALL]
    text = " ".join(unicodedata.normalize("NFC", " ".join(words)).split())
    return _Likeness(said[0].role, text, tuple(part.call_id for part in said if part.type != "message"))


def _words(said: Said) -> str:
    """What this says; of an image or a file, which one it is."""
    item = alike(said.item) or {}
    parts = item.get("output" if said.type == _OUTPUT else "content", said.content)
    if isinstance(parts, str):
        return parts
    names = ("text", "refusal", "image_url", "file_id", "file_data")
    return " ".join(str(part[name]) for part in parts for name in names if part.get(name))


def _flat(groups: Iterable[Group]) -> list[Draft]:
    return [draft for group in groups for draft in group]
