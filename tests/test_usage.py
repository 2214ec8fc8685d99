"""Usage: the numbers are those that one gets by going through the turns by hand, settled or not."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from convo import history, jobs, turns, usage
from convo.history import NewMessage
from convo.models import ME, DailyUsage, Session, Turn, UsageDay
from convo.usage import Figures, Percentiles, UsageReport
from tests.support.rest import Caller, ok
from tests.support.usage import Status, ago, failed, many, noon, session_of, settle, turn

pytestmark = pytest.mark.django_db


def milliseconds(end: datetime | None, start: datetime | None) -> int:
    assert end
    assert start
    return round((end - start).total_seconds() * 1000)


def spread(times: Iterable[int]) -> Percentiles:
    """The percentiles by nearest rank, to two digits."""
    ordered = sorted(times)
    if not ordered:
        return Percentiles()
    half, most = (ordered[math.ceil(len(ordered) * share) - 1] for share in (0.5, 0.95))
    return Percentiles(int(float(f"{half:.1e}")), int(float(f"{most:.1e}")))


def by_hand(rows: Iterable[Turn]) -> Figures:
    rows = list(rows)
    return Figures(
        turns=len(rows),
        input_tokens=sum(row.input_tokens or 0 for row in rows),
        output_tokens=sum(row.output_tokens or 0 for row in rows),
        cached_tokens=sum(row.cached_tokens or 0 for row in rows),
        cache_reads=sum(row.cache_hit is not None for row in rows),
        cache_hits=sum(row.cache_hit is True for row in rows),
        errors=Counter(row.error["code"] for row in rows if row.error),
        first_token=spread(
            milliseconds(row.first_token_at, row.started_at) for row in rows if row.first_token_at
        ),
        duration=spread(
            milliseconds(row.finished_at, row.started_at) for row in rows if row.status == Status.COMPLETE
        ),
    )


def begun_on(day: date, rows: Iterable[Turn]) -> list[Turn]:
    return [row for row in rows if row.started_at and row.started_at.astimezone(UTC).date() == day]


def check(found: UsageReport, rows: list[Turn]) -> None:
    assert found.total == by_hand(rows)
    assert found.days == {day: by_hand(begun_on(day, rows)) for day in found.days}
    assert found.agents == {name: by_hand(row for row in rows if row.agent == name) for name in found.agents}
    assert found.models == {name: by_hand(row for row in rows if row.model == name) for name in found.models}
    assert sum(figures.turns for figures in found.agents.values()) == len(rows)
    assert sum(figures.turns for figures in found.models.values()) == len(rows)
    assert found.shares == Counter((row.started_at.date(), row.agent) for row in rows if row.started_at)


# The numbers.


def test_the_numbers_are_those_counted_by_hand_before_and_after_days_are_settled(alice: User) -> None:
    rows = many(session_of(alice), 7)
    check(usage.of_everybody(ago(6), ago(0)), rows)
    assert settle() >= 5
    assert DailyUsage.objects.filter(owner=None).exists()
    check(usage.of_everybody(ago(6), ago(0)), rows)
    check(usage.of_owner(alice, ago(6), ago(0)), rows)
    check(usage.of_person(alice, ME, ago(6), ago(0)), rows)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(
    "only", [{"agent": "researcher"}, {"model": "large"}, {"agent": "assistant", "model": ""}]
)
def test_one_agent_or_model_is_counted_alone(alice: User, only: dict[str, str], settled: bool) -> None:
    rows = many(session_of(alice), 4)
    if settled:
        settle()
    wanted = [row for row in rows if all(getattr(row, name) == value for name, value in only.items())]
    assert wanted
    check(usage.of_everybody(ago(3), ago(0), **only), wanted)


def test_the_range_holds_every_day_from_its_first_moment_to_its_last(alice: User) -> None:
    session = session_of(alice)
    begin = datetime.combine(ago(2), time(), UTC)
    for begun in (begin - timedelta(microseconds=1), begin, begin + timedelta(days=1, microseconds=-1)):
        turn(session, begun)
    found = usage.of_everybody(ago(2), ago(1))
    assert [(day, figures.turns) for day, figures in found.days.items()] == [(ago(2), 2), (ago(1), 0)]
    assert usage.of_everybody(ago(3), ago(3)).total.turns == 1


def test_a_day_is_a_day_in_utc_wherever_the_project_is(alice: User, settings: Settings) -> None:
    settings.TIME_ZONE = "Pacific/Auckland"
    turn(session_of(alice), datetime.combine(ago(1), time(23, 30), UTC))
    assert usage.of_everybody(ago(1), ago(0)).days[ago(1)].turns == 1


def test_what_goes_on_or_was_not_run_here_is_not_counted(alice: User) -> None:
    session = session_of(alice)
    turn(session, noon(1))
    turn(session, noon(1), started_at=None, waited=None)
    turn(session, noon(1), status=Status.RUNNING, lease_until=noon(-1), finished_at=None)
    turns.record(session_of(alice), [NewMessage(role="user", content="said elsewhere")])
    assert usage.of_everybody(ago(6), ago(0)).total.turns == 1


def test_a_cancelled_turn_and_one_at_its_limit_have_not_failed(alice: User) -> None:
    session = session_of(alice)
    failed(session, noon(1), "turn_cancelled", status=Status.CANCELLED)
    failed(session, noon(1), "max_output_tokens", status=Status.PARTIAL)
    failed(session, noon(1), "upstream_timeout", status=Status.PARTIAL)
    failed(session, noon(1), "upstream_timeout")
    found = usage.of_everybody(ago(1), ago(1)).total
    assert (found.turns, found.errors) == (4, {"upstream_timeout": 2})


def test_times_are_told_to_two_digits(alice: User) -> None:
    session = session_of(alice)
    turn(session, noon(1), waited=7, took=1_249)
    assert usage.of_everybody(ago(1), ago(1)).total.first_token == Percentiles(7, 7)
    assert usage.of_everybody(ago(1), ago(1)).total.duration == Percentiles(1200, 1200)
    turn(session, noon(2), waited=0, took=1_250)
    assert usage.of_everybody(ago(2), ago(2)).total.first_token == Percentiles(0, 0)
    assert usage.of_everybody(ago(2), ago(2)).total.duration == Percentiles(1300, 1300)


def test_without_turns_there_is_nothing_to_tell(db: None) -> None:
    found = usage.of_everybody(ago(6), ago(0))
    assert list(found.days.values()) == [Figures()] * 7
    assert (found.total, found.agents, found.models) == (Figures(), {}, {})


@pytest.mark.django_db(transaction=True)
def test_a_copy_in_a_fork_is_not_counted_again(alice: User, offline: Callable[[str], Turn]) -> None:
    asked = offline("Hello")
    copied = history.fork(asked.session, 2)
    assert copied.turns.count() == 1
    assert usage.of_everybody(ago(0), usage.today()).total.turns == 1


# The hot window.


@pytest.mark.django_db(transaction=True)
def test_a_turn_knows_whether_its_transcript_was_at_hand(offline: Callable[[str], Turn]) -> None:
    first, second = offline("Hello"), offline("And again")
    # There was nothing to have before the first one.
    assert (first.cache_hit, second.cache_hit) == (None, True)
    history.window._drop(history.window._key(second.session_id, Session.objects.get().version))
    assert offline("Once more").cache_hit is False
    found = usage.of_everybody(ago(0), usage.today()).total
    assert (found.turns, found.cache_reads, found.cache_hits) == (3, 2, 1)


@pytest.fixture
def offline(alice: User, settings: Settings) -> Callable[[str], Turn]:
    """Asks the offline responder in one session."""
    settings.CONVO = {**settings.CONVO, "OFFLINE_WORD_SECONDS": 0}
    session = session_of(alice)

    def ask(text: str) -> Turn:
        turns.ask(alice, Session.objects.get(pk=session.pk), text)
        return session.turns.latest("number")

    return ask


# Settling.


def test_settled_days_are_read_and_not_counted_again(alice: User) -> None:
    session = session_of(alice)
    for days in range(1, 9):
        turn(session, noon(days))
    settle()
    # In the first hour of a day the one before is not settled yet.
    before = usage.of_everybody(ago(8), ago(2))
    # The rows are gone, and stay counted.
    Session.objects.all().delete()
    assert usage.of_everybody(ago(8), ago(2)) == before
    assert before.total.turns == 7


def test_a_day_is_settled_once_it_is_over_and_all_its_turns_are(alice: User) -> None:
    running = turn(
        session_of(alice), noon(3), status=Status.RUNNING, lease_until=noon(-1), finished_at=None, waited=None
    )
    settle()
    assert not UsageDay.objects.filter(day=ago(0)).exists()
    assert not UsageDay.objects.filter(day=ago(3)).exists()
    assert UsageDay.objects.filter(day=ago(2)).exists()
    Turn.objects.filter(pk=running.pk).update(status=Status.COMPLETE, finished_at=noon(3))
    assert settle() == 1
    assert usage.of_everybody(ago(3), ago(3)).total.turns == 1


def test_a_stuck_day_keeps_none_of_the_others_from_being_settled(alice: User) -> None:
    session = session_of(alice)
    for days in range(2, 20):
        turn(session, noon(days))
    turn(session, noon(3), status=Status.RUNNING, lease_until=noon(-1), finished_at=None)
    settle()
    assert usage.settle() == 0
    settled = UsageDay.objects.filter(day__gte=ago(19), day__lte=ago(2))
    assert set(settled.values_list("day", flat=True)) == {ago(days) for days in range(2, 20) if days != 3}


def test_a_day_between_settled_ones_is_counted(alice: User) -> None:
    session = session_of(alice)
    for days in range(7):
        turn(session, noon(days))
    settle()
    UsageDay.objects.filter(day__in=[ago(3), ago(5)]).delete()
    found = usage.of_everybody(ago(6), ago(0))
    assert [figures.turns for figures in found.days.values()] == [1] * 7


def test_a_day_is_settled_once_although_two_try(alice: User) -> None:
    turn(session_of(alice), noon(3))
    settle()
    with pytest.raises(IntegrityError), transaction.atomic():
        UsageDay.objects.create(day=ago(3))
    assert settle() == 0
    assert DailyUsage.objects.filter(day=ago(3)).count() == 2  # everybody's, and alice's


def test_days_before_the_first_turn_are_not_settled(alice: User) -> None:
    """Review 15: an empty database had "settle did 91" in its log."""
    assert usage.settle() == 0
    assert not UsageDay.objects.exists()
    turn(session_of(alice), noon(3))
    assert settle() == len({*UsageDay.objects.values_list("day", flat=True)}) > 0
    assert UsageDay.objects.earliest("day").day == ago(3)


def test_the_sweep_settles(alice: User) -> None:
    turn(session_of(alice), noon(2))
    jobs.sweep()
    assert usage.settle() == 0
    assert UsageDay.objects.filter(day=ago(2)).exists()


def test_looking_back_costs_the_same_whatever_was_settled(alice: User) -> None:
    many(session_of(alice), 7)
    with CaptureQueriesContext(
        connection,
    ) as before:
        usage.of_everybody(ago(6), ago(0))
    settle()
    with CaptureQueriesContext(connection) as after:
        usage.of_everybody(ago(6), ago(0))
    assert len(before) == len(after) == 6


# Over HTTP.


USAGE = "/api/v1/usage/"


@pytest.fixture
def caller(alice_key: str) -> Caller:
    return Caller(alice_key)


def test_the_api_tells_the_same_numbers(alice: User, caller: Caller) -> None:
    rows = many(session_of(alice), 3)
    told, found = ok(caller.get(USAGE, {"days": 3})), by_hand(rows)
    assert told["total"] == {
        "turns": found.turns,
        "failed": found.failed,
        "errors": found.errors,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "cached_tokens": found.cached_tokens,
        "first_token_ms": {"p50": found.first_token.p50, "p95": found.first_token.p95},
        "duration_ms": {"p50": found.duration.p50, "p95": found.duration.p95},
    }
    assert [(each["day"], each["turns"]) for each in told["days"]] == [
        (str(ago(days)), len(begun_on(ago(days), rows))) for days in (2, 1, 0)
    ]
    assert {each["agent"]: each["turns"] for each in told["agents"]} == Counter(row.agent for row in rows)
    assert {each["model"]: each["turns"] for each in told["models"]} == Counter(
        row.model or None for row in rows
    )


@pytest.mark.parametrize("settled", [False, True])
def test_nobody_sees_what_another_owner_used(
    alice: User, bob: User, caller: Caller, bob_key: str, settled: bool
) -> None:
    turn(session_of(alice), noon(1))
    for _ in range(2):
        failed(session_of(bob), noon(1), "upstream_error", agent="bobs")
    if settled:
        settle()
    assert ok(caller.get(USAGE))["total"]["turns"] == 1
    assert ok(caller.get(USAGE))["total"]["errors"] == {}
    assert [each["agent"] for each in ok(caller.get(USAGE))["agents"]] == ["assistant"]
    assert ok(Caller(bob_key).get(USAGE))["total"]["errors"] == {"upstream_error": 2}


def test_an_end_user_is_counted_alone(alice: User, caller: Caller) -> None:
    turn(session_of(alice), noon(1))
    turn(session_of(alice, "mira"), noon(1))
    settle()
    assert ok(caller.get(USAGE))["total"]["turns"] == 2
    assert ok(caller.get(USAGE, {"user": "mira"}))["total"]["turns"] == 1
    assert ok(caller.get(USAGE, headers={"X-Convo-User": "nobody known"}))["total"]["turns"] == 0


def test_the_api_narrows_to_an_agent_and_a_model(alice: User, caller: Caller) -> None:
    session = session_of(alice)
    for agent, model in (("assistant", "small"), ("researcher", "small"), ("researcher", "large")):
        turn(session, noon(1), agent=agent, model=model)
    for only, turns_ in (
        ({}, 3),
        ({"agent": "researcher"}, 2),
        ({"agent": "researcher", "model": "large"}, 1),
    ):
        assert ok(caller.get(USAGE, only))["total"]["turns"] == turns_


@pytest.mark.parametrize("days", ["0", "91", "x", "-1"])
def test_a_range_that_is_none_is_refused(caller: Caller, days: str) -> None:
    assert ok(caller.get(USAGE, {"days": days}), 400)["error"]["param"] == "days"
    assert len(ok(caller.get(USAGE, {"days": "90"}))["days"]) == 90


def test_usage_is_for_who_may_read(alice: User, caller: Caller, client: Client) -> None:
    assert client.get(USAGE).status_code == 401
    assert caller.get(USAGE).status_code == 200
