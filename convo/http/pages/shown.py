"""A transcript as people read it: a question, the reply that counts, and the other ones beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.utils.safestring import SafeString

from convo import agents, history
from convo.http.files import shown_files
from convo.http.pages import markdown
from convo.http.pages.account import Account, account
from convo.models import Feedback, Message, Session, Turn


@dataclass(frozen=True, kw_only=True)
class Said:
    """A message, a reply's words as HTML, and the images and files that belong to it."""

    message: Message
    html: SafeString | None
    files: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A question and its reply: what was said, who answered, and what the model saw."""

    turn: Turn
    said: Sequence[Said]
    who: str
    account: Account | None
    siblings: Sequence[int] = ()
    feedback: Feedback | None = None

    @property
    def question(self) -> Message | None:
        """What was asked, to ask it otherwise."""
        asked = (one.message for one in self.said if one.message.role == "user")
        return next(asked, None)

    @property
    def end(self) -> int:
        """The last position of it, to go on from elsewhere."""
        return self.said[-1].message.position if self.said else 0

    @property
    def answered(self) -> bool:
        return any(one.message.role == "assistant" for one in self.said)

    @property
    def live(self) -> bool:
        return not self.turn.ended

    @property
    def place(self) -> int:
        """Which of the alternatives it is, counted from one."""
        return self.siblings.index(self.turn.number) + 1 if self.turn.number in self.siblings else 0

    @property
    def before(self) -> int | None:
        return self.siblings[self.place - 2] if self.place > 1 else None

    @property
    def after(self) -> int | None:
        return self.siblings[self.place] if 0 < self.place < len(self.siblings) else None

    @property
    def offline(self) -> bool:
        return self.turn.model == "offline"


def exchanges(session: Session, messages: Sequence[Message]) -> list[Exchange]:
    """These messages as exchanges, and in its place the one whose reply is being written."""
    groups = [list(group) for _, group in groupby(messages, key=lambda row: _asked_in(row.turn))]
    answering = [rows[-1].turn for rows in groups]
    siblings = history.alternatives_of(session, answering)
    thought = {row.turn_id: row for row in Feedback.objects.filter(turn__in=answering)}
    found = [
        _exchange(turn, rows, siblings[turn.pk], thought.get(turn.pk))
        for turn, rows in zip(answering, groups, strict=True)
    ]
    return _with_running(session, found)


def title_of(agent: str) -> str:
    known = agents.everyone().get(agent)
    return known.title if known else agent


def _asked_in(turn: Turn) -> int:
    """The turn that asked what this one answers."""
    return turn.asks_id or turn.pk


def _exchange(
    turn: Turn, messages: Sequence[Message], siblings: Sequence[int] = (), feedback: Feedback | None = None
) -> Exchange:
    return Exchange(
        turn=turn,
        said=[_said(message) for message in messages],
        who=title_of(turn.agent),
        account=account(turn.manifest) if turn.manifest and turn.ended else None,
        siblings=siblings,
        feedback=feedback,
    )


def _said(message: Message) -> Said:
    is_reply = message.type == "message" and message.role == "assistant"
    html = markdown.html(message.content) if is_reply else None
    return Said(message=message, html=html, files=shown_files(message))


def _with_running(session: Session, found: list[Exchange]) -> list[Exchange]:
    """The same with another answer that is being written: it stands where it will be, with its question."""
    running = Turn.objects.running().filter(session=session).select_related("asks").first()
    if running is None or running.asks is None or any(one.turn.pk == running.pk for one in found):
        return found
    question = history.question_rows(running.asks)
    beside = [one.turn.parent_id == running.parent_id for one in found]
    kept = found[: beside.index(True)] if True in beside else found
    return [*kept, _exchange(running, question)]
