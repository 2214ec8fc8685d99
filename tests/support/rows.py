"""Rows with values of every sort, for tests that hold statements against the ORM."""

import random
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from convo import database
from convo.models import Message, Person, Session, Turn

ITEM = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}", "z": [1, None]}
MANIFEST: Any = {"total": 3, "parts": [{"part": "question", "why": "it's 100 % \\ new", "tokens": 3}]}
TEXTS = ["", "Hello", "Ünïcode 🎈", "It's 100 %", "NULL", "''"]


@pytest.fixture
def session(alice: Any) -> Session:
    person = Person.objects.get_or_create_by_ref(alice, "ann")
    return Session.objects.create(owner=alice, person=person, agent="assistant")


def new_rows(
    session: Session, choose: random.Random, *, number: int = 1, positions: range = range(0)
) -> tuple[Turn, list[Message]]:
    """A turn and its messages, not stored yet, with values of every sort; equal for equal seeds."""
    turn = Turn(
        session=session,
        number=number,
        kind=choose.choice(Turn.Kind.values),
        status=choose.choice(["complete", "partial"]),
        agent=choose.choice(TEXTS),
        input=choose.choice([[], [{"role": "user"}]]),
        error=choose.choice([None, {"code": "x"}]),
        manifest=choose.choice([None, {"budget": 1}]),
        input_tokens=choose.choice([None, 0, 7]),
        cost=choose.choice([None, "0.25"]),
        cache_hit=choose.choice([None, True, False]),
        lease_until=choose.choice([None, database.seconds_from_now(9)]),
        finished_at=choose.choice([None, Now(), timezone.now()]),
    )
    messages = [
        Message(
            session=session,
            turn=turn,
            position=position,
            item_id=f"msg_{position}",
            role=choose.choice(Message.Role.values),
            content=choose.choice(TEXTS),
            name=choose.choice(TEXTS),
            item=choose.choice([None, ITEM]),
            tokens=choose.randint(0, 9),
            thread=choose.choice(["", "", "", "other"]),
            active=choose.random() < 0.8,
            erased_at=choose.choice([None, None, None, None, timezone.now()]),
        )
        for position in positions
    ]
    return turn, messages
