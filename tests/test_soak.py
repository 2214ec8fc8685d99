"""A short soak run, and the judge that all such runs rely on."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.clients import plan
from tests.recorded import DONE, REFUSED, UNKNOWN, Database, Deed, Stored, problems, read_back, write_down
from tests.soak import run
from tests.upstream import Upstream

SEED, SECONDS = 1, 6
WANTED = {"append", "query", "regenerate", "clear", "fork", "resume"}


@pytest.mark.django_db(transaction=True)
def test_nothing_that_was_acknowledged_is_lost_while_servers_die(
    tmp_path: Path, alice_key: str, upstream: Upstream
) -> None:
    outcome = run(
        seed=SEED, seconds=SECONDS, folder=tmp_path, key=alice_key, upstream=upstream.url, wanted=WANTED
    )
    print(outcome)
    assert outcome.problems == [], f"seed {SEED}; the history is {tmp_path / 'history.jsonl'}"
    assert set(outcome.destroyed) == {"kill a server", "stop valkey", "flush valkey"}
    assert set(outcome.done) >= WANTED


@pytest.mark.once
def test_a_seed_makes_the_same_plans_again() -> None:
    assert list(islice(plan(7, 1), 50)) == list(islice(plan(7, 1), 50))
    assert list(islice(plan(7, 1), 50)) != list(islice(plan(8, 1), 50))
    assert list(islice(plan(7, 1), 50)) != list(islice(plan(7, 2), 50))


APPENDED = Deed(
    client=1,
    step=1,
    action="append",
    session="A",
    began=1,
    ended=2,
    outcome=DONE,
    status=201,
    texts=["one", "two"],
    positions=[1, 2],
)
ASKED = Deed(
    client=2,
    step=1,
    action="query",
    session="A",
    began=3,
    ended=4,
    outcome=DONE,
    status=200,
    texts=["why?"],
    positions=[],
    turn=2,
    heard="so",
    reply="so",
    reply_position=4,
)
DELETED = replace(APPENDED, action="delete message", began=5, ended=6, texts=[], positions=[], position=2)
CLEARED = replace(DELETED, action="clear", position=0)
FORKED = replace(APPENDED, action="fork", session="B", began=5, ended=6, texts=["two"], positions=[])

ROWS = [
    Stored(session="A", position=1, text="one", turn=1),
    Stored(session="A", position=2, text="two", turn=1),
    Stored(session="A", position=3, text="why?", turn=2),
    Stored(session="A", position=4, text="so", turn=2, is_reply=True),
]
TOMB = replace(ROWS[1], text="", erased=True)
COPY = replace(ROWS[1], session="B")


def judged(deeds: list[Deed], rows: list[Stored]) -> list[str]:
    return [problem.partition(":")[0] for problem in problems(deeds, Database(messages=rows))]


@pytest.mark.once
@pytest.mark.parametrize(
    ("deeds", "rows"),
    [
        ([APPENDED, ASKED], ROWS),
        ([APPENDED, ASKED, DELETED], [ROWS[0], TOMB, *ROWS[2:]]),
        ([APPENDED, ASKED, replace(DELETED, outcome=UNKNOWN)], [ROWS[0], TOMB, *ROWS[2:]]),
        ([APPENDED, ASKED, replace(DELETED, outcome=UNKNOWN)], ROWS),
        ([APPENDED, ASKED, CLEARED], []),
        ([APPENDED, ASKED, replace(CLEARED, outcome=UNKNOWN, ended=float("inf"))], []),
        ([APPENDED, ASKED, replace(CLEARED, began=2.5, ended=3.5)], ROWS[2:]),
        ([APPENDED, ASKED, FORKED], [*ROWS, COPY]),
        (
            [APPENDED, replace(ASKED, turn=3), replace(DELETED, position=3)],
            [*ROWS[:2], replace(ROWS[2], text="", erased=True), replace(ROWS[3], turn=3, asks=2)],
        ),
        ([replace(APPENDED, outcome=UNKNOWN), ASKED], ROWS),
        ([replace(APPENDED, outcome=UNKNOWN), ASKED], ROWS[2:]),
        ([APPENDED, ASKED, replace(ASKED, action="resume", texts=[], began=7, ended=8)], ROWS),
    ],
)
def test_the_judge_lets_pass_what_was_promised(deeds: list[Deed], rows: list[Stored]) -> None:
    assert judged(deeds, rows) == []


@pytest.mark.once
@pytest.mark.parametrize(
    ("deeds", "rows", "told"),
    [
        ([APPENDED, ASKED], [*ROWS[:1], *ROWS[2:]], ["lost"]),
        ([APPENDED, ASKED], [ROWS[0], TOMB, *ROWS[2:]], ["lost"]),
        ([APPENDED, ASKED], ROWS[:3], ["lost"]),
        ([APPENDED, ASKED, replace(CLEARED, began=0, ended=0.5)], ROWS[2:], ["lost", "lost"]),
        ([APPENDED, ASKED, replace(CLEARED, session="C")], ROWS[2:], ["lost", "lost"]),
        ([APPENDED, ASKED, replace(CLEARED, outcome=REFUSED)], ROWS[2:], ["lost", "lost"]),
        ([APPENDED, ASKED], [*ROWS, replace(ROWS[0], position=5)], ["doubled"]),
        ([APPENDED, ASKED, DELETED], ROWS, ["returned"]),
        ([APPENDED, CLEARED], ROWS[:2], ["returned", "returned"]),
        ([replace(APPENDED, outcome=REFUSED, status=409), ASKED], ROWS, ["taken", "taken"]),
        ([APPENDED, ASKED], [*ROWS, COPY], ["stray"]),
        ([APPENDED, ASKED, FORKED], ROWS, ["lost"]),
        ([replace(APPENDED, positions=[2, 1])], ROWS[:2], ["moved", "moved"]),
        ([replace(ASKED, reply=None), replace(APPENDED, began=5, ended=6)], ROWS, ["out of order"]),
        ([APPENDED, ASKED], [*ROWS[:3], replace(ROWS[3], text="no")], ["misquoted"]),
        ([APPENDED, replace(ASKED, heard="s")], ROWS, ["misread"]),
        ([APPENDED, ASKED, replace(CLEARED, outcome=UNKNOWN, status=500)], ROWS, ["crash"]),
    ],
)
def test_the_judge_tells_each_broken_promise(deeds: list[Deed], rows: list[Stored], told: list[str]) -> None:
    assert judged(deeds, rows) == told


@pytest.mark.once
def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    deeds = [APPENDED, replace(ASKED, ended=float("inf"))]
    for deed in deeds:
        write_down(tmp_path / "history.jsonl", deed)
    assert read_back(tmp_path / "history.jsonl") == deeds
