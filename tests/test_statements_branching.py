"""The statements by hand that switch branches do what the ORM would, whatever is in the tables."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import Q

from convo.history import statements
from convo.models import Message, Session, Summary, Turn
from tests.support.statements import recorded_statements

pytestmark = pytest.mark.django_db(transaction=True)


def grow(session: Session, choose: random.Random) -> list[Turn]:
    """Fill a session with turns that continue, answer again or follow any earlier one, shown or not."""
    turns: list[Turn] = []
    position = session.base_position
    for number in range(1, 12):
        turn = Turn.objects.create(
            session=session,
            number=number,
            status="complete",
            agent="assistant",
            parent=choose.choice([None, *turns[-3:]]),
            question_turn=choose.choice([None, None, *turns[-2:]]),
        )
        turns.append(turn)
        for agent in ["", "assistant"][choose.randint(0, 1) :]:
            position += 1
            Message.objects.create(
                session=session,
                turn=turn,
                position=position,
                item_id=f"msg_{position}",
                role="assistant" if agent else "user",
                agent=agent,
                active=choose.random() < 0.6,
                tokens=choose.randint(1, 9),
                erased_at=choose.choice([None, None, None, turn.created_at]),
            )
    return turns


@pytest.fixture
def trees(session: Session) -> Iterator[tuple[Session, list[Turn], random.Random]]:
    """Twenty sessions with random trees."""
    choose = random.Random(4)
    fields = {"owner": session.owner, "person": session.person, "agent": "assistant"}

    def make() -> Iterator[tuple[Session, list[Turn], random.Random]]:
        for _ in range(20):
            base = choose.choice([0, 7])
            tree = Session.objects.create(**fields, base_position=base, last_position=base + 22)
            yield tree, grow(tree, choose), choose

    return make()


def first_shown(rows: Any) -> int | None:
    shown = rows.filter(agent="", active=True, erased_at=None).order_by("position")
    return shown.values_list("position", flat=True).first()  # type: ignore[no-any-return]


def test_the_branch_point_is_what_the_orm_finds(
    trees: Iterator[tuple[Session, list[Turn], random.Random]],
) -> None:
    point_count = 0
    for session, turns, _ in trees:
        for turn in turns:
            siblings = Message.objects.filter(turn__session=session, turn__parent=turn.parent_id)
            question = Message.objects.filter(turn=turn.question_turn or turn)
            first = first_shown(question) or first_shown(siblings)
            with recorded_statements() as sent:
                point = statements.find_branch_point(turn)
            assert len(sent) == 1, sent
            if first is None:
                assert point is None
                continue
            point_count += 1
            previous = Message.objects.transcript(session).filter(position__lt=first).last()
            position = previous.position if previous else session.base_position
            later = Message.objects.transcript(session).filter(position__gt=position).count()
            assert point == (position, later)
    assert 20 < point_count < 220


def test_switching_a_branch_is_what_the_orm_does(
    trees: Iterator[tuple[Session, list[Turn], random.Random]],
) -> None:
    other = switched_count = 0
    for session, turns, choose in trees:
        for number in range(1, 23):
            Summary.objects.create(
                session=session, from_position=1, to_position=number, text="x", stale=choose.random() < 0.2
            )
        fresh = set(
            Summary.objects.filter(session=session, stale=False).values_list("to_position", flat=True)
        )
        position = choose.randint(0, 20)
        on_branch = [turn.pk for turn in choose.sample(turns, 3)]
        asked = [turn.pk for turn in choose.sample(turns, choose.randint(0, 2))]
        before = shown_by_pk(session)
        is_later = Q(position__gt=position, erased_at=None)
        later = set(Message.objects.filter(is_later, session=session).values_list("pk", flat=True))
        branch = set(
            Message.objects.filter(
                Q(turn__in=on_branch) | Q(turn__in=asked, agent=""), session=session
            ).values_list("pk", flat=True)
        )
        expected = {pk: pk in branch if pk in later else active for pk, active in before.items()}
        switched = statements.switch_branch(session, position, turn_ids=on_branch, question_turn_ids=asked)
        assert shown_by_pk(session) == expected
        changed = Message.objects.filter(pk__in=[pk for pk in before if before[pk] != expected[pk]])
        values = changed.values_list("turn", "role", "tokens", "active")
        assert sorted((row.turn_id, row.role, row.tokens, row.active) for row in switched) == sorted(values)
        stale = Summary.objects.filter(session=session, stale=False).values_list("to_position", flat=True)
        assert set(stale) == {end for end in fresh if end <= position}
        switched_count += len(switched)
        other += len(before) - len(later)
    assert switched_count > 50
    assert other > 50


def shown_by_pk(session: Session) -> dict[int, bool]:
    return dict(Message.objects.filter(session=session).values_list("pk", "active"))
