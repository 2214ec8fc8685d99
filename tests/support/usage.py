"""Turns of other days, counted."""

import random
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib.auth.models import User

from convo import usage
from convo.models import ME, Person, Session, Turn

Status = Turn.Status

CODES = ["upstream_timeout", "upstream_error", "server_error"]


def ago(days: int) -> date:
    return usage.today() - timedelta(days=days)


def noon(days: int, **later: float) -> datetime:
    return datetime.combine(ago(days), time(12), UTC) + timedelta(**later)


def session_of(owner: User, ref: str = ME) -> Session:
    return Session.objects.create(
        owner=owner, person=Person.objects.get_or_create_by_ref(owner, ref), agent="assistant"
    )


def turn(
    session: Session, begun: datetime, *, waited: int | None = 300, took: int = 2000, **fields: Any
) -> Turn:
    """A turn that ended, with these milliseconds to its first token and to its end."""
    number = session.turns.count() + 1
    known = {
        "status": Status.COMPLETE,
        "agent": "assistant",
        "model": "small",
        "input_tokens": 100,
        "output_tokens": 10,
        "cached_tokens": 50,
        "created_at": begun,
        "started_at": begun,
        "first_token_at": None if waited is None else begun + timedelta(milliseconds=waited),
        "finished_at": begun + timedelta(milliseconds=took),
    }
    return Turn.objects.create(session=session, number=number, **known | fields)


def failed(session: Session, begun: datetime, code: str, **fields: Any) -> Turn:
    error = {"code": code, "message": "what went wrong"}
    return turn(session, begun, **{"status": Status.FAILED, "error": error, "waited": None} | fields)


def many(session: Session, days: int) -> list[Turn]:
    """Turns of all sorts, spread over these days."""
    chance, begun = random.Random(11), datetime.combine(ago(days - 1), time(), UTC)
    rows = []
    for number in range(1, 401):
        start = begun + timedelta(milliseconds=chance.randrange(days * 86_400_000))
        bad = chance.random() < 0.2
        status = chance.choice([Status.FAILED, Status.PARTIAL]) if bad else Status.COMPLETE
        # Nothing ends in a 5 that would be rounded up or down.
        waited, took = 10 * chance.randrange(6, 300) + 1, 100 * chance.randrange(40, 900) + 1
        rows.append(
            Turn(
                session=session,
                number=number,
                status=status,
                error={"code": chance.choice(CODES), "message": "…"} if bad else None,
                agent=chance.choice(["assistant", "researcher"]),
                model=chance.choice(["small", "large", ""]),
                input_tokens=chance.choice([None, chance.randrange(5000)]),
                output_tokens=chance.randrange(500),
                cached_tokens=chance.randrange(50),
                cache_hit=chance.choice([True, True, False, None]),
                started_at=start,
                first_token_at=None if status == Status.FAILED else start + timedelta(milliseconds=waited),
                finished_at=start + timedelta(milliseconds=took),
            )
        )
    return Turn.objects.bulk_create(rows)


def settle() -> int:
    """Settle until nothing is left."""
    settled = 0
    while more := usage.settle():
        settled += more
    return settled
