"""Background work: done once by whoever takes its lease, found again when a hint or a process was lost."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from convo import jobs
from convo.errors import UpstreamRateLimited, UpstreamTimeout
from convo.jobs import hints, lease, ledger, registry
from convo.jobs.sweep import catch_up
from convo.models import ME, Person, Session, Work
from tests.faults import NEVER, wait_until
from tests.support.statements import recorded_statements
from tests.support.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "my number is 4711"


class Naming:
    """Work that Convo has not: a session without a title is behind, and is given one."""

    def __init__(self) -> None:
        self.began: list[UUID] = []
        self.before: Callable[[Session], None] = lambda session: None

    def overdue(self, limit: int) -> list[UUID]:
        behind = Session.objects.filter(title="").order_by("created_at")
        return list(behind.values_list("pk", flat=True)[:limit])

    def do(self, pk: UUID) -> None:
        session = Session.objects.filter(pk=pk, title="").first()
        if session is None:
            return
        self.began.append(pk)
        self.before(session)
        Session.objects.filter(pk=pk).update(title="named")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to the work that there is goes with the test."""
    monkeypatch.setattr(registry, "_jobs", dict(registry._jobs))
    for name in ("_batch_jobs", "_quick_batch_jobs"):
        monkeypatch.setattr(registry, name, list(getattr(registry, name)))


@pytest.fixture
def naming(settings: Settings) -> Naming:
    settings.CONVO = {**settings.CONVO, "WORK_ATTEMPTS": 3, "WORK_RETRY_SECONDS": 100.0}
    work = Naming()
    jobs.job("name", overdue=work.overdue)(work.do)
    return work


@pytest.fixture
def make(alice: Any) -> Callable[[], Session]:
    person = Person.objects.get_or_create_by_ref(alice, ME)
    return lambda: Session.objects.create(owner=alice, person=person, agent="assistant")


@pytest.fixture
def session(make: Callable[[], Session]) -> Session:
    return make()


def configure(settings: Settings, **conf: Any) -> None:
    settings.CONVO = {**settings.CONVO, **conf}


def fail(session: Session) -> None:
    raise ValueError(SECRET)


def title(session: Session) -> str:
    return Session.objects.get(pk=session.pk).title


def pass_by(**how_long: float) -> None:
    """Let this time go by for the ledger."""
    ago = timedelta(**how_long)
    Work.objects.update(next_at=F("next_at") - ago)
    Work.objects.filter(lease_until__isnull=False).update(lease_until=F("lease_until") - ago)


# One piece of work.


def test_work_is_done_and_leaves_no_row(naming: Naming, session: Session) -> None:
    jobs.run("name", str(session.pk))
    assert title(session) == "named"
    assert naming.began == [session.pk]
    assert not Work.objects.exists()


def test_work_that_is_delivered_twice_is_done_once(naming: Naming, session: Session) -> None:
    """F7"""
    jobs.run("name", session.pk)
    jobs.run("name", session.pk)
    assert len(naming.began) == 1
    assert not Work.objects.exists()


def test_an_attempt_is_counted_before_it_begins_and_holds_nothing(naming: Naming, session: Session) -> None:
    seen: list[Any] = []

    def look(session: Session) -> None:
        seen.append(connection.in_atomic_block)
        seen.append(Work.objects.get().attempts)

    def look_at_connection(pk: UUID) -> None:
        seen.append(connection.connection)
        naming.do(pk)

    jobs.job("name", overdue=naming.overdue)(look_at_connection)
    naming.before = look
    jobs.run("name", session.pk)
    assert seen == [None, False, 1]


def test_a_failure_waits_longer_each_time_and_is_then_dead(
    naming: Naming, session: Session, settings: Settings
) -> None:
    naming.before = fail
    waits = []
    for attempt in range(1, 4):
        jobs.run("name", session.pk)
        work = Work.objects.get()
        assert (work.attempts, work.error, work.lease_until) == (attempt, "ValueError", None)
        waits.append((work.next_at - timezone.now()).total_seconds())
        jobs.run("name", session.pk)
        assert len(naming.began) == attempt
        pass_by(days=1)
    assert work.state == "dead"
    assert 50 - 5 < waits[0] <= 150 < 300 - 5 < waits[1] <= 900
    configure(settings, WORK_ATTEMPTS=10)
    jobs.run("name", session.pk)
    assert len(naming.began) == 3
    assert jobs.count_dead() == 1


def test_a_failure_that_passes_is_done_and_forgotten(naming: Naming, session: Session) -> None:
    naming.before = fail
    jobs.run("name", session.pk)
    naming.before = lambda session: None
    pass_by(days=1)
    jobs.sweep()
    assert title(session) == "named"
    assert not Work.objects.items().exists()


def test_a_failure_is_told_without_what_people_wrote(
    naming: Naming, make: Callable[[], Session], caplog: pytest.LogCaptureFixture
) -> None:
    for error in (ValueError(SECRET), UpstreamTimeout()):
        naming.before = lambda session, error=error: (_ for _ in ()).throw(error)  # type: ignore[misc]
        jobs.run("name", make().pk)
    told = sorted(Work.objects.values_list("error", flat=True))
    assert told == ["ValueError", "upstream_timeout: " + (UpstreamTimeout.__doc__ or "")]
    assert {record.getMessage().partition(":")[2][:12] for record in caplog.records} == {
        " ValueError",
        " upstream_ti",
    }


def test_a_server_that_says_when_to_come_back_is_obeyed(naming: Naming, session: Session) -> None:
    def refused(session: Session) -> None:
        raise UpstreamRateLimited(retry_after=5000)

    naming.before = refused
    jobs.run("name", session.pk)
    assert Work.objects.get().next_at > timezone.now() + timedelta(seconds=4900)


def test_an_attempt_that_is_told_to_end_does_not_count(naming: Naming, session: Session) -> None:
    """F9"""

    def told(session: Session) -> None:
        raise SystemExit

    naming.before = told
    with pytest.raises(SystemExit):
        jobs.run("name", session.pk)
    work = Work.objects.get()
    assert (work.attempts, work.lease_until, work.state) == (0, None, "todo")
    naming.before = lambda session: None
    jobs.run("name", session.pk)
    assert title(session) == "named"


@pytest.mark.parametrize(("name", "pk"), [("nothing", "1"), ("name", ""), ("name", "one"), ("name", None)])
def test_what_another_version_sent_is_left_to_the_sweep(
    naming: Naming, name: str, pk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """F11"""
    jobs.run(name, pk)
    assert naming.began == []
    assert not Work.objects.exists()
    assert len(caplog.records) == 1


# Its lease.


def test_of_two_at_once_one_does_it_and_the_other_leaves(naming: Naming, session: Session) -> None:
    """F8"""
    begun, go_on = threading.Event(), threading.Event()

    def wait(session: Session) -> None:
        begun.set()
        assert go_on.wait(30)

    naming.before = wait
    first = in_thread(lambda: jobs.run("name", session.pk))
    assert begun.wait(30)
    jobs.run("name", session.pk)
    jobs.sweep()
    assert len(naming.began) == 1
    go_on.set()
    first.join()
    assert title(session) == "named"
    assert not Work.objects.items().exists()


def test_twenty_at_once_do_it_once(naming: Naming, session: Session) -> None:
    naming.before = lambda session: time.sleep(0.5)
    together = threading.Barrier(20)

    def deliver() -> None:
        together.wait(30)
        jobs.run("name", session.pk)

    for thread in [in_thread(deliver) for _ in range(20)]:
        thread.join()
    assert len(naming.began) == 1


def test_a_lease_is_kept_while_the_work_goes_on_however_long(
    naming: Naming, session: Session, settings: Settings
) -> None:
    configure(settings, WORK_LEASE_SECONDS=1.5)
    naming.before = lambda session: time.sleep(4)
    first = in_thread(lambda: jobs.run("name", session.pk))
    wait_until(lambda: naming.began)
    while first.is_alive():
        jobs.run("name", session.pk)
        time.sleep(0.1)
    assert len(naming.began) == 1


def test_work_that_hangs_is_given_up_and_comes_too_late(
    naming: Naming, session: Session, settings: Settings
) -> None:
    """F8: and what it does then to the ledger concerns nobody."""
    configure(settings, WORK_LEASE_SECONDS=2.0, TASK_SECONDS=0.0)
    first_may, second_may = threading.Event(), threading.Event()

    def hang(session: Session) -> None:
        assert (first_may if len(naming.began) == 1 else second_may).wait(30)

    naming.before = hang
    first = in_thread(lambda: jobs.run("name", session.pk))
    wait_until(lambda: naming.began)

    def again() -> None:
        end = time.monotonic() + 20
        while len(naming.began) == 1 and time.monotonic() < end:
            jobs.run("name", session.pk)
            time.sleep(0.05)

    second = in_thread(again)
    wait_until(lambda: len(naming.began) == 2)
    first_may.set()
    first.join()
    assert Work.objects.get().attempts == 2
    second_may.set()
    second.join()
    assert not Work.objects.exists()


def test_work_that_ends_its_process_every_time_is_dead_after_its_attempts(
    naming: Naming, make: Callable[[], Session]
) -> None:
    """F6: counted although nobody is left to tell."""
    poison, harmless = make(), make()
    for attempt in range(1, 4):
        with transaction.atomic():
            # As a process leaves it that was killed: the attempt is noted, and its lease runs.
            work = ledger.start_attempt("name", str(poison.pk))
        assert work
        assert work.attempts == attempt
        pass_by(minutes=2)
    jobs.sweep()
    assert naming.began == [harmless.pk]
    work = Work.objects.items().get()
    assert (work.state, work.attempts, work.lease_until) == ("dead", 3, None)
    assert work.error.startswith("process_lost")


def test_the_ledger_keeps_its_own_clock(naming: Naming, session: Session) -> None:
    """What this process takes for the time of day matters to no lease."""
    ledger.start_attempt("name", str(session.pk))
    (lease,) = Work.objects.values_list("lease_until", flat=True)
    assert lease
    assert abs((lease - timezone.now()).total_seconds() - 30) < 5
    assert not Work.objects.due().exists()
    assert Work.objects.not_now().exists()


# Hints.


class ThisProcess(jobs.Supervisor):
    """Does the work itself: a child would not have the jobs that a test registers."""

    def __init__(self) -> None:
        super().__init__()
        self._stop_sweep = threading.Event()

    def follow_hint(self, kind: str, target: object) -> None:
        jobs.follow_hint(kind, target)

    def sweep(self, *, standby: bool = False) -> None:
        catch_up(standby=standby, stop=self._stop_sweep)

    def begin_shutdown(self) -> None:
        self._stop_sweep.set()

    def stop(self) -> None:
        lease._leases.cancel_all()


@contextmanager
def working() -> Iterator[jobs.Worker]:
    """A worker, which ends with the test, however that ends."""
    worker = jobs.Worker(ThisProcess())
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


@pytest.fixture
def worker(settings: Settings) -> Iterator[jobs.Worker]:
    configure(settings, SWEEP_SECONDS=float(NEVER))
    with working() as worker:
        # The sweep at its start is not what is meant here.
        wait_until(lambda: Work.objects.filter(kind=Work.SWEEP, lease_until=None).exists())
        yield worker


@pytest.mark.usefixtures("worker")
def test_a_hint_is_followed_at_once_after_the_transaction(naming: Naming, session: Session) -> None:
    with transaction.atomic():
        jobs.enqueue("name", session.pk)
        time.sleep(0.3)
        assert naming.began == []
    wait_until(lambda: title(session))
    wait_until(lambda: not Work.objects.items().exists())


@pytest.mark.usefixtures("worker")
def test_a_hint_of_a_transaction_that_failed_is_none(naming: Naming, make: Callable[[], Session]) -> None:
    first, second = make(), make()

    @transaction.atomic
    def fails() -> None:
        jobs.enqueue("name", first.pk)
        fail(first)

    with pytest.raises(ValueError):
        fails()
    jobs.enqueue("name", second.pk)
    wait_until(lambda: title(second))
    time.sleep(0.5)
    assert title(first) == ""


@pytest.mark.usefixtures("worker")
def test_a_failing_piece_of_work_does_not_end_the_worker(naming: Naming, make: Callable[[], Session]) -> None:
    first, second = make(), make()
    naming.before = lambda session: fail(session) if session.pk == first.pk else None
    for _ in range(5):
        jobs.enqueue("name", first.pk)
    jobs.enqueue("nothing", first.pk)
    jobs.enqueue("name", second.pk)
    wait_until(lambda: title(second))
    assert title(first) == ""


@pytest.mark.usefixtures("worker")
def test_whoever_hints_does_not_wait(naming: Naming, session: Session) -> None:
    go_on = threading.Event()
    naming.before = lambda session: go_on.wait(30)  # type: ignore[assignment]
    began = time.monotonic()
    jobs.enqueue("name", session.pk)
    assert time.monotonic() - began < 10
    wait_until(lambda: naming.began)
    assert title(session) == ""
    go_on.set()
    wait_until(lambda: title(session))


def test_hints_wait_in_order_once_each_and_not_without_end(naming: Naming) -> None:
    waiting = hints.HintQueue()
    for number in [3, 1, 3, 2, 1]:
        waiting.add(("name", str(number)))
    go_on = threading.Event()
    assert [waiting.take(go_on) for _ in range(3)] == [("name", "3"), ("name", "1"), ("name", "2")]
    for number in range(2 * hints.MAX_WAITING):
        waiting.add(("name", str(number)))
    assert len(waiting) == hints.MAX_WAITING
    go_on.set()
    assert waiting.take(go_on) is None


def test_without_a_worker_hints_are_dropped_and_the_sweep_finds_the_work(
    naming: Naming, session: Session
) -> None:
    jobs.enqueue("name", session.pk)
    assert len(hints.queue) == 0
    jobs.sweep()
    assert title(session) == "named"


# A job for many rows.


class NamingMany(Naming):
    """The same work, done for many sessions at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[UUID]] = []

    def do_many(self, keys: Sequence[UUID]) -> None:
        self.batches.append(list(keys))
        for pk in keys:
            self.do(pk)


@pytest.fixture
def naming_many(settings: Settings) -> NamingMany:
    configure(settings, WORK_ATTEMPTS=3, WORK_RETRY_SECONDS=100.0)
    work = NamingMany()
    jobs.bulk_job("name", overdue=work.overdue)(work.do_many)
    return work


def test_a_hint_leaves_what_stays_overdue_to_the_sweep(naming_many: NamingMany, session: Session) -> None:
    naming_many.do = lambda pk: None  # type: ignore[method-assign]
    began = time.monotonic()
    jobs.follow_hint("name", session.pk)
    assert naming_many.batches == [[session.pk]]
    assert time.monotonic() - began < 10


def test_a_hint_of_work_for_many_rows_does_all_that_waits_at_once(
    naming_many: NamingMany, make: Callable[[], Session]
) -> None:
    waiting = [make().pk for _ in range(5)]
    jobs.follow_hint("name", waiting[3])
    assert naming_many.batches == [waiting]
    assert not Work.objects.exists()


def test_a_hint_that_comes_after_the_work_costs_one_statement(
    naming_many: NamingMany, session: Session
) -> None:
    jobs.follow_hint("name", session.pk)
    with recorded_statements() as statements:
        jobs.follow_hint("name", session.pk)
    assert len(statements) == 1, statements
    assert naming_many.batches == [[session.pk]]


def test_of_many_rows_only_the_one_that_fails_is_counted(
    naming_many: NamingMany, make: Callable[[], Session]
) -> None:
    first, bad, last = make(), make(), make()
    naming_many.before = lambda session: fail(session) if session.pk == bad.pk else None
    jobs.follow_hint("name", first.pk)
    assert title(first) == title(last) == "named"
    assert Work.objects.values_list("target", "attempts", "error").get() == (str(bad.pk), 1, "ValueError")
    naming_many.batches.clear()
    naming_many.before = lambda session: None
    pass_by(days=1)
    later = make()
    jobs.follow_hint("name", later.pk)
    # What has failed before has its attempt for itself.
    assert naming_many.batches == [[later.pk], [bad.pk]]
    assert not Work.objects.exists()


def test_two_at_once_share_what_waits(naming_many: NamingMany, make: Callable[[], Session]) -> None:
    first, second = make(), make()
    go_on = threading.Event()
    naming_many.before = lambda session: go_on.wait(30) if session.pk == first.pk else None  # type: ignore[assignment]
    working = in_thread(lambda: jobs.follow_hint("name", first.pk))
    wait_until(lambda: naming_many.began)
    late = make()
    jobs.follow_hint("name", late.pk)
    go_on.set()
    working.join()
    assert naming_many.batches == [[first.pk, second.pk], [late.pk]]
    assert not Work.objects.exists()


def test_many_rows_of_a_process_that_died_are_tried_one_at_a_time(
    naming_many: NamingMany, make: Callable[[], Session]
) -> None:
    lost = [make().pk for _ in range(3)]
    assert len(ledger.start_attempts("name", [str(pk) for pk in lost])) == 3
    jobs.follow_hint("name", lost[0])
    assert naming_many.batches == []
    pass_by(minutes=1)
    jobs.sweep()
    assert sorted(naming_many.batches) == sorted([pk] for pk in lost)
    assert not Work.objects.items().exists()


def test_the_leases_of_many_rows_are_kept_while_the_work_goes_on(
    naming_many: NamingMany, make: Callable[[], Session], settings: Settings
) -> None:
    configure(settings, WORK_LEASE_SECONDS=1.5)
    first, second = make(), make()
    naming_many.before = lambda session: time.sleep(2)
    working = in_thread(lambda: jobs.follow_hint("name", first.pk))
    wait_until(lambda: naming_many.began)
    while working.is_alive():
        jobs.follow_hint("name", second.pk)
        time.sleep(0.1)
    assert naming_many.began == [first.pk, second.pk]


def test_one_hint_of_work_for_many_rows_waits_and_the_next_comes_after_a_pause(
    naming_many: NamingMany, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "PAUSE_SECONDS", 0.4)
    waiting, never = hints.HintQueue(), threading.Event()
    for number in range(3):
        waiting.add(("name", str(number)))
    assert len(waiting) == 1
    assert waiting.take(never) == ("name", "0")
    began = time.monotonic()
    waiting.add(("name", "3"))
    waiting.add(("other", "4"))
    assert waiting.take(never) == ("other", "4")
    assert time.monotonic() - began < 0.3
    assert waiting.take(never) == ("name", "3")
    assert time.monotonic() - began > 0.3


@pytest.mark.usefixtures("worker")
def test_an_idle_worker_does_work_for_many_rows_at_once_after_its_hint(
    naming_many: NamingMany, session: Session
) -> None:
    began = time.monotonic()
    jobs.enqueue("name", session.pk)
    wait_until(lambda: title(session))
    assert time.monotonic() - began < 10


# The worker inside a web process.


def test_a_worker_sweeps_by_itself(naming: Naming, session: Session, settings: Settings) -> None:
    configure(settings, SWEEP_SECONDS=0.1)
    with working():
        wait_until(lambda: title(session))
        late = Session.objects.create(owner=session.owner, person=session.person, agent="assistant")
        wait_until(lambda: title(late))


def test_a_worker_that_stops_leaves_what_is_not_done_to_others_at_once(
    naming: Naming, make: Callable[[], Session], settings: Settings
) -> None:
    """F9: within the time that a server has to end."""
    first, second = make(), make()
    go_on = threading.Event()
    naming.before = lambda session: go_on.wait(30)  # type: ignore[assignment]
    with working():
        wait_until(lambda: naming.began)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert Work.objects.items().due().values_list("target", "attempts").get() == (str(first.pk), 0)
    assert Work.objects.get(kind=Work.SWEEP).lease_until is None
    assert naming.began == [first.pk]
    naming.before = lambda session: None
    jobs.sweep()
    assert title(first) == title(second) == "named"
    go_on.set()


def held() -> int:
    """How many connections to the database this process holds."""
    connection.close()
    if connection.vendor == "sqlite":
        name = str(connection.settings_dict["NAME"])
        return sum(file.path == name for file in psutil.Process().open_files())
    stats: dict[str, int] = connection.pool.get_stats()  # type: ignore[attr-defined]
    return stats["pool_size"] - stats["pool_available"]


def threads() -> int:
    """How many threads of workers there are."""
    return sum(thread.name == "convo-worker" for thread in threading.enumerate())


def test_an_idle_worker_holds_no_connection_and_ends_at_once(
    naming: Naming, session: Session, settings: Settings
) -> None:
    configure(settings, SWEEP_SECONDS=float(NEVER))
    wait_until(lambda: threads() == 0)
    without = held()
    with working():
        wait_until(lambda: title(session))
        late = Session.objects.create(owner=session.owner, person=session.person, agent="assistant")
        jobs.enqueue("name", late.pk)
        wait_until(lambda: title(late))
        wait_until(lambda: held() == without)
        assert threads() == 4
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert threads() == 0


# The sweep.


def test_the_sweep_does_all_that_is_behind_oldest_first(naming: Naming, make: Callable[[], Session]) -> None:
    behind = [make().pk for _ in range(120)]
    jobs.sweep()
    assert naming.began == behind
    assert jobs.lag_seconds() == 0


def test_the_dead_do_not_stand_before_the_living(naming: Naming, make: Callable[[], Session]) -> None:
    dead = [make() for _ in range(120)]
    Work.objects.bulk_create(Work(kind="name", target=str(row.pk), state="dead") for row in dead)
    alive = make()
    jobs.sweep()
    assert naming.began == [alive.pk]


def test_one_that_fails_keeps_no_other_from_its_work(naming: Naming, make: Callable[[], Session]) -> None:
    first, second = make(), make()
    naming.before = lambda session: fail(session) if session.pk == first.pk else None
    done: list[str] = []

    def broken() -> int:
        raise ValueError(SECRET)

    def works() -> int:
        done.append("batch")
        return 0

    def broken_list(limit: int) -> list[int]:
        raise ValueError(SECRET)

    for batch in (broken, works):
        jobs.batch_job(batch)
        jobs.quick_batch_job(batch)
    jobs.job("a broken kind", overdue=broken_list)(naming.do)
    jobs.sweep()
    assert len(done) >= 2
    assert title(second) == "named"
    assert [work.attempts for work in Work.objects.items()] == [1]


def test_work_that_stays_behind_is_done_once_in_a_sweep(naming: Naming, session: Session) -> None:
    calls: list[Any] = []
    jobs.job("name", overdue=naming.overdue)(calls.append)
    jobs.sweep()
    assert calls == [session.pk]


@pytest.mark.parametrize(("at_a_time", "rounds"), [(1, 5), (100, 12)])
def test_a_sweep_follows_what_is_much_to_its_end_and_leaves_what_keeps_coming_to_the_next(
    at_a_time: int, rounds: int
) -> None:
    begun: list[int] = []

    @jobs.batch_job
    def taken_in() -> int:
        """Something has always come in meanwhile; of much there is an end."""
        begun.append(1)
        return at_a_time if at_a_time < 100 or len(begun) < 12 else 0

    jobs.sweep()
    assert len(begun) == rounds + (at_a_time >= 100)


def test_what_is_done_for_many_rows_at_once_goes_before_what_takes_long(
    naming: Naming, session: Session
) -> None:
    order: list[str] = []
    naming.before = lambda session: order.append("one row")

    @jobs.batch_job
    def many() -> int:
        order.append("many rows")
        return 100 if order.count("many rows") < 3 else 0

    jobs.sweep()
    assert order[:4] == ["many rows"] * 3 + ["one row"]


def test_a_sweep_ends_when_its_time_is_over(
    naming: Naming, make: Callable[[], Session], settings: Settings
) -> None:
    for _ in range(20):
        make()
    configure(settings, TASK_SECONDS=1.0)
    naming.before = lambda session: time.sleep(0.2)
    jobs.sweep()
    assert 0 < len(naming.began) < 20
    naming.before = lambda session: None
    configure(settings, TASK_SECONDS=120.0)
    jobs.sweep()
    assert len(naming.began) == 20


def test_a_sweep_ends_when_its_process_does(naming: Naming, make: Callable[[], Session]) -> None:
    for _ in range(3):
        make()
    stop = threading.Event()
    naming.before = lambda session: stop.set()
    catch_up(standby=False, stop=stop)
    assert len(naming.began) == 1
    jobs.sweep()
    assert len(naming.began) == 3


def test_one_sweep_at_a_time(naming: Naming, make: Callable[[], Session]) -> None:
    """F10"""
    go_on = threading.Event()
    naming.before = lambda session: go_on.wait(30)  # type: ignore[assignment]
    first = make()
    sweeping = in_thread(jobs.sweep)
    wait_until(lambda: naming.began)
    second = make()
    jobs.sweep()
    assert naming.began == [first.pk]
    go_on.set()
    sweeping.join()
    jobs.sweep()
    assert title(second) == "named"


def test_a_sweep_whose_process_died_is_followed_by_another(naming: Naming, session: Session) -> None:
    assert ledger.start_sweep(standby=False)
    jobs.sweep()
    assert naming.began == []
    pass_by(minutes=1)
    jobs.sweep()
    assert naming.began == [session.pk]


def standby_sweep() -> None:
    catch_up(standby=True, stop=threading.Event())


def test_what_is_quick_is_swept_by_all_at_all_times() -> None:
    done: list[str] = []

    def quick() -> int:
        done.append("quick")
        return 1

    jobs.quick_batch_job(quick)
    assert ledger.start_sweep(standby=False)
    jobs.sweep()
    jobs.sweep_quickly()
    assert done == ["quick", "quick"]


def test_a_spare_sweep_steps_in_when_the_others_are_gone(
    naming: Naming, make: Callable[[], Session], settings: Settings
) -> None:
    configure(settings, SWEEP_SECONDS=60.0)
    session = make()
    standby_sweep()
    assert naming.began == []
    pass_by(minutes=3)
    standby_sweep()
    assert naming.began == []
    pass_by(minutes=2)
    standby_sweep()
    assert naming.began == [session.pk]
    make()
    standby_sweep()
    assert len(naming.began) == 1


# How far it is behind, and what is dead.


def test_the_lag_is_how_long_the_oldest_has_waited_at_most(
    naming: Naming, make: Callable[[], Session]
) -> None:
    assert jobs.lag_seconds() == 0
    jobs.sweep()
    pass_by(minutes=10)
    assert jobs.lag_seconds() == 0
    session = make()
    assert 600 <= jobs.lag_seconds() < 660
    naming.before = fail
    jobs.sweep()
    # It waits because it failed, not for want of workers.
    assert jobs.lag_seconds() == 0
    pass_by(hours=1)
    assert jobs.lag_seconds() > 3000
    naming.before = lambda session: None
    jobs.sweep()
    assert title(session) == "named"
    assert jobs.lag_seconds() == 0


def test_a_command_shows_what_waits_and_since_when(
    naming: Naming, make: Callable[[], Session], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("backlog")
    assert capsys.readouterr().out == "Nothing is behind.\n"
    jobs.sweep()
    pass_by(minutes=10)
    dead, _, _ = make(), make(), make()
    Work.objects.create(kind="name", target=str(dead.pk), state="dead")
    call_command("backlog")
    waiting, behind, given_up = capsys.readouterr().out.splitlines()
    assert waiting == "name: 2 waiting"
    assert behind.startswith("Behind by 60")
    assert given_up.startswith("1 dead: ")


def kill_off(naming: Naming, session: Session) -> None:
    naming.before = fail
    for _ in range(3):
        jobs.run("name", session.pk)
        pass_by(days=1)
    naming.before = lambda session: None


def test_the_dead_are_retried_by_command(
    naming: Naming, make: Callable[[], Session], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, waits = make(), make(), make()
    kill_off(naming, first)
    kill_off(naming, second)
    naming.before = fail
    jobs.run("name", waits.pk)
    naming.before = lambda session: None
    call_command("retry")
    assert "dead after 3 attempts. ValueError" in capsys.readouterr().out
    jobs.sweep()
    assert jobs.count_dead() == 2
    call_command("retry", str(first.pk))
    assert "1 due now" in capsys.readouterr().out
    call_command("retry", "--all", "--kind", "other")
    assert "0 due now" in capsys.readouterr().out
    jobs.sweep()
    assert (title(first), title(second), title(waits)) == ("named", "", "")
    call_command("retry", "--all", "--kind", "name")
    assert "2 due now" in capsys.readouterr().out
    jobs.sweep()
    assert title(second) == title(waits) == "named"
    assert jobs.count_dead() == 0
    with pytest.raises(CommandError):
        call_command("retry", "1", "--all")


def test_a_retry_leaves_alone_what_is_being_done(naming: Naming, session: Session) -> None:
    work = ledger.start_attempt("name", str(session.pk))
    assert ledger.start_sweep(standby=False)
    Work.objects.update(next_at=timezone.now() + timedelta(days=1))
    assert Work.objects.retry() == 0
    assert work
    ledger.cancel_attempts([work])
    assert Work.objects.retry() == 1


def test_the_dead_are_retried_in_the_admin_by_those_who_may(
    naming: Naming, session: Session, admin_client: Client, alice: Any
) -> None:
    kill_off(naming, session)
    page = admin_client.get("/admin/convo/work/")
    assert "ValueError" in page.content.decode()
    wanted = {"action": "retry_now", "_selected_action": [Work.objects.items().get().pk]}
    alice.is_staff = True
    alice.save()
    kind = ContentType.objects.get_for_model(Work)
    alice.user_permissions.add(Permission.objects.create(content_type=kind, codename="view_work"))
    from_alice = Client()
    from_alice.force_login(alice)
    assert from_alice.get("/admin/convo/work/").status_code == 200
    from_alice.post("/admin/convo/work/", wanted)
    assert jobs.count_dead() == 1
    admin_client.post("/admin/convo/work/", wanted)
    assert jobs.count_dead() == 0
    jobs.sweep()
    assert title(session) == "named"


def test_targets_are_numbers_or_uuids() -> None:
    name = uuid4()
    assert (registry.parse_key("12"), registry.parse_key(str(name))) == (12, name)
