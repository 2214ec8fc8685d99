"""What must hold for a temporary chat: its words are in the cache alone, and no table has any of them."""

import json
from collections.abc import Iterable, Iterator

from django.db.models import Q

from convo.models import (
    Asked,
    Attached,
    Evidence,
    Idempotency,
    IndexedMessage,
    Message,
    Session,
    Summary,
    Turn,
)


def words_kept(session: Session) -> Iterator[str]:
    """The places in the tables where this chat's words are, or may be."""
    if session.title:
        yield "the title"
    messages = Message.objects.filter(session=session)
    worded = messages.filter(~Q(content="") | ~Q(name=""))
    yield from _places("position", worded.values_list("position", flat=True))
    items = messages.exclude(item=None).values_list("position", "item")
    yield from _places(
        "position", (position for position, item in items if item and item.keys() != {"call_id"})
    )
    turns = Turn.objects.filter(session=session)
    worded_turns = turns.filter(~Q(draft="") | ~Q(gist="") | ~Q(pieces=[]))
    yield from _places("turn", worded_turns.values_list("number", flat=True))
    waiting = turns.exclude(input=[]).values_list("number", "input")
    yield from _places("turn", (number for number, drafts in waiting if any(drafts)))
    for name, rows in (
        ("a summary", Summary.objects.filter(session=session)),
        ("the index", IndexedMessage.objects.filter(session=session)),
        ("an attachment", Attached.objects.filter(message__session=session)),
        ("a memory", Evidence.objects.filter(message__session=session)),
        ("a request", Asked.objects.filter(turn__session=session)),
    ):
        if rows.exists():
            yield name
    answers = Idempotency.objects.filter(turn__session=session, body__isnull=False)
    if not all(map(_only_places, answers.values_list("body", flat=True))):
        yield "an answer under a key"


def _places(name: str, numbers: Iterable[int]) -> Iterator[str]:
    return (f"{name} {number}" for number in numbers)


def _only_places(body: object) -> bool:
    told = json.loads(str(body))
    return isinstance(told, list) and all(isinstance(position, int) for position in told)
