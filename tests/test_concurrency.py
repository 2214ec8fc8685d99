"""Many writers append to one session at once: nothing is lost, doubled, split or out of order."""

from typing import Any

import pytest
from django.db import connection, transaction

from benchmarks import writers
from convo import search, turns, verify
from convo.history import NewMessage
from convo.models import ME, IndexedMessage, Person, Session, Turn
from convo.search import index
from tests.faults import wait_until
from tests.servers import database_url
from tests.support.threads import in_thread, waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session(alice: Any) -> Session:
    return Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="assistant"
    )


def assert_all_there(session: Session, acknowledged: list[str], turns: int) -> None:
    verdict = writers.judge(acknowledged, writers.stored(session.pk))
    assert (len(acknowledged), verdict.messages, verdict.faults) == (turns, 2 * turns, 0), verdict
    checked = verify.check(session.pk)
    assert checked
    assert checked.findings == []
    assert (checked.turn_count, checked.message_count) == (turns, 2 * turns)


def test_sixteen_threads_append_to_one_session(session: Session) -> None:
    write = writers.through_convo(session.pk)
    acknowledged, _ = writers.in_threads(write, first=0, threads=16, count=5)
    assert_all_there(session, acknowledged, 80)


def test_processes_append_to_one_session(session: Session) -> None:
    acknowledged, _ = writers.in_processes(
        "convo", session.pk, processes=2, threads=4, count=10, url=database_url()
    )
    assert_all_there(session, acknowledged, 80)


def pair(text: str) -> list[tuple[str, str]]:
    return [("user", text), ("assistant", text)]


ALL = [*pair("0/0"), *pair("1/0"), *pair("0/1")]


@pytest.mark.once
@pytest.mark.parametrize(
    ("stored", "faults"),
    [
        (ALL, (0, 0, 0, 0)),
        (ALL[:4], (2, 0, 0, 0)),
        ([*ALL[:5]], (1, 0, 1, 0)),
        ([*ALL, *pair("0/1")], (0, 2, 0, 0)),
        ([ALL[0], *ALL[2:4], ALL[1], *ALL[4:]], (0, 0, 1, 0)),
        ([*ALL[4:], *ALL[2:4], *ALL[:2]], (0, 0, 0, 2)),
    ],
    ids=["none", "lost", "half", "twice", "split", "misplaced"],
)
def test_the_judge_sees_each_fault(stored: list[tuple[str, str]], faults: tuple[int, ...]) -> None:
    verdict = writers.judge(["0/0", "1/0", "0/1"], stored)
    assert (verdict.lost, verdict.duplicated, verdict.split, verdict.out_of_order) == faults


def test_a_message_that_waited_for_the_index_is_indexed(session: Session) -> None:
    turns.record(session, [NewMessage(role="user", content="The harbour is blue.")])
    prepared = index.build_index_batch(list(Turn.objects.values_list("pk", flat=True)))
    reply = [NewMessage(role="assistant", content="The lighthouse is red.")]
    with transaction.atomic():
        # As when its hint is followed between the two messages: the session is locked and not saved.
        index._write_batch([session.pk], prepared)
        appending = in_thread(lambda: turns.record(session, reply))
        if connection.vendor == "postgresql":
            wait_until(waits_for_a_lock)
    appending.join()
    while search.index_turns():
        pass
    assert IndexedMessage.objects.count() == 2
