"""The statements by hand that renew, save and end turns do what the ORM would, whatever is in the tables."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from convo import database, turns
from convo.history import statements
from convo.history.statements import Draft, PromptRecord
from convo.models import AgentVersion, Person, Session, Turn, TurnRequest, UserMemory
from tests.support.leases import expire
from tests.support.rows import MANIFEST
from tests.support.statements import recorded_statements
from tests.talk import begin
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timezone.now() - timedelta(days=1)
CHUNKS: Any = [{"index": 0, "kind": "message", "chunk_lengths": [3, 9]}]
# The attributes that the two ways to end a turn can't have in common.
OWN = {"_state", "id", "key", "number", "session_id"}


def make_turn(session: Session, choose: random.Random, **fields: Any) -> Turn:
    """A turn of its own session, in any state."""
    session = Session.objects.create(owner=session.owner, person=session.person, agent="assistant")
    status = choose.choice(["queued", "running", "running", "complete", "failed"])
    values = {
        "status": status,
        "lease_until": LONG_AGO if status in {"queued", "running"} else None,
        "cancel_requested": choose.random() < 0.3,
        "draft": choose.choice(["", "hel", "naïve 🎈 %s"]),
        "manifest": choose.choice([None, {"old": 1}]),
        "started_at": choose.choice([None, LONG_AGO]),
        "created_at": LONG_AGO,
        "agent": "assistant",
    }
    return Turn.objects.create(session=session, number=1, **{**values, **fields})


def test_renewing_leases_is_what_the_orm_does(session: Session) -> None:
    choose = random.Random(1)
    rows = [make_turn(session, choose) for _ in range(40)]
    named = choose.sample(rows, 30)
    unfinished = Turn.objects.unfinished().filter(pk__in=[turn.pk for turn in named])
    renewed = set(unfinished.values_list("pk", flat=True))
    may_go_on = set(unfinished.filter(cancel_requested=False).values_list("pk", flat=True))
    assert statements.renew_leases([turn.pk for turn in named], 15) == may_go_on
    future = Turn.objects.filter(lease_until__gt=Now() + timedelta(seconds=10))
    assert set(future.values_list("pk", flat=True)) == renewed
    assert not Turn.objects.filter(lease_until__gt=Now() + timedelta(seconds=15)).exists()
    assert 0 < len(may_go_on) < len(renewed) < len(named)


def test_saving_drafts_is_what_the_orm_does(session: Session) -> None:
    choose = random.Random(2)
    AgentVersion.objects.create(sha256="a" * 64, name="helper", config={})
    rows = [make_turn(session, choose) for _ in range(40)]
    prompts = [
        PromptRecord(model="m", agent_version=AgentVersion(sha256=sha), manifest=MANIFEST, cache_hit=None)
        for sha in ("a" * 64, "b" * 64)
    ]
    drafts = [
        Draft(
            turn=turn,
            text=choose.choice(["", "It's 100 % \\ 🎈", "x" * 10_000]),
            chunks=choose.choice([[], CHUNKS]),
            prompt=choose.choice([None, *prompts]),
        )
        for turn in choose.sample(rows, 30)
    ]
    for draft in drafts:
        if draft.turn.status == "running":
            draft.turn.draft, draft.turn.chunks = draft.text, draft.chunks
        if draft.turn.status == "running" and draft.prompt:
            version = draft.prompt.agent_version.sha256
            draft.turn.manifest = draft.prompt.manifest
            draft.turn.agent_version_id = version if version == "a" * 64 else None
    statements.save_drafts(drafts)
    for expected in rows:
        saved = Turn.objects.get(pk=expected.pk)
        assert {**vars(saved), "_state": None} == {**vars(expected), "_state": None}


@pytest.mark.parametrize("seed", range(8))
def test_ending_a_turn_is_what_the_orm_does(session: Session, alice: AbstractBaseUser, seed: int) -> None:
    choose = random.Random(seed)
    AgentVersion.objects.get_or_create(sha256="a" * 64, defaults={"name": "helper", "config": {}})
    memories = [
        UserMemory.objects.create(person=person, kind="fact", text_key=f"{person.pk} {n}", status=status)
        for n, status in enumerate(["active", "forgotten", "superseded"])
        for person in (session.person, Person.objects.get_or_create_by_ref(alice, "bea"))
    ]
    keys = [memory.key for memory in memories if choose.random() < 0.4]
    optional = {
        "error": {"code": "upstream_error", "message": "It's 100 %"},
        "input_tokens": 12,
        "output_tokens": 0,
        "model": "words",
        "manifest": MANIFEST,
        "cache_hit": False,
        "agent_version_id": choose.choice(["a" * 64, "b" * 64]),
    }
    columns = {name: value for name, value in optional.items() if choose.random() < 0.7}
    columns |= {"status": choose.choice(["complete", "partial"]), "chunks": CHUNKS}
    seconds = choose.choice([None, -3.5])
    fields = {"status": choose.choice(["running", "queued", "cancelled"]), "started_at": LONG_AGO}
    by_hand, by_orm = (make_turn(session, random.Random(seed), **fields) for _ in range(2))
    ended = statements.end_turn(
        by_hand.pk,
        columns,
        first_token_seconds=seconds,
        person_id=session.person_id,
        memory_keys=[str(key) for key in keys],
    )
    if columns.get("agent_version_id") == "b" * 64:
        del columns["agent_version_id"]  # it isn't stored
    first_token = {} if seconds is None else {"first_token_at": Now() + timedelta(seconds=seconds)}
    unfinished = Turn.objects.unfinished().filter(pk=by_orm.pk)
    is_ended = unfinished.update(**columns, **first_token, draft="", lease_until=None, finished_at=Now())
    by_hand.refresh_from_db()
    by_orm.refresh_from_db()
    for name, value in vars(by_orm).items():
        if name in {"finished_at", "first_token_at"} and value:
            assert abs(getattr(by_hand, name) - value) < timedelta(seconds=2)
        elif name not in OWN:
            assert getattr(by_hand, name) == value, name
    assert (ended is not None) == bool(is_ended)
    if ended:
        names = ("id", "started_at", "first_token_at", "finished_at", "agent_version_id")
        assert {name: getattr(by_hand, name) for name in names} == {
            name: value for name, value in vars(ended.row).items() if name != "_state"
        }
        forgotten = UserMemory.objects.filter(person=session.person, status="forgotten", key__in=keys)
        assert ended.had_forgotten_memory == forgotten.exists()


# What a running turn saves.


@pytest.fixture
def model(settings: Settings, upstream: Upstream) -> None:
    """A model that says two words and waits; what is new is saved ten times a second."""
    quick = {"HEARTBEAT_SECONDS": 0.1, "CHECKPOINT_SECONDS": 0.1}
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": "hold", **quick}


@pytest.mark.usefixtures("model")
def test_what_is_saved_of_a_reply_has_its_prompt_with_it(session: Session, upstream: Upstream) -> None:
    """Whatever a model wrote can be traced to what it was given, also if its process dies."""

    @transaction.atomic  # so that no heartbeat renews the lease in between
    def end_as_lost(draft: str) -> int:
        expire(claim, draft=draft)
        return turns.end_expired_turns()

    async def lose_the_process() -> None:
        log = await turns.launch(claim)
        turn = await until(lambda: Turn.objects.exclude(draft="").first())
        assert turn.manifest["parts"][-1]["part"] == "question"
        assert await database.run(end_as_lost, turn.draft) == 1
        upstream.release()
        await log.wait_until_ended()

    claim = begin(session)
    asyncio.run(lose_the_process())
    turn = Turn.objects.get()
    assert turn.status == "partial"
    assert turn.manifest
    assert turn.manifest["parts"][-1]["part"] == "question"


@pytest.mark.usefixtures("model")
def test_one_statement_renews_all_leases_and_one_saves_all_drafts(
    session: Session, upstream: Upstream
) -> None:
    sessions = [
        Session.objects.create(owner=session.owner, person=session.person, agent="assistant")
        for _ in range(4)
    ]

    async def watch() -> tuple[list[str], list[str]]:
        logs = [await turns.launch(claim) for claim in claims]
        with recorded_statements() as first:
            await until(lambda: Turn.objects.exclude(draft="").count() == len(claims))
        with recorded_statements() as later:
            await asyncio.sleep(0.35)
        upstream.release()
        for log in logs:
            await log.wait_until_ended()
        return first, later

    claims = [begin(session) for session in sessions]
    first, later = asyncio.run(watch())
    # All drafts come within one beat or two.
    assert 1 <= len([sql for sql in first if "saved" in sql]) <= 2
    # Then nothing is new, and each of three beats or four renews.
    assert 2 <= len(later) <= 4, later
    assert len(set(later)) == 1, later
    assert "SET lease_until" in later[0]
    assert set(Turn.objects.exclude(draft="").values_list("status", flat=True)) <= {"complete"}
    assert Turn.objects.filter(status="complete").count() == len(claims)


def test_a_turn_without_a_row_ends_with_its_server(
    alice: Any, settings: Settings, upstream: Upstream
) -> None:
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": "held"}
    chain = turns.new_chain(alice, "", storage=Session.Storage.NONE)
    request = TurnRequest(options={"messages": [{"role": "user", "content": "hello"}]})
    claim = turns.begin_unstored(chain, agent="passthrough", request=request)

    async def shut_down() -> Any:
        log = await turns.launch(claim)
        while not upstream.heard:
            await asyncio.sleep(0.02)
        assert not await database.run(Session.objects.exists)
        turns.shut_down()
        return await log.wait_until_ended()

    result = asyncio.run(shut_down())
    assert (result.turn.status, result.turn.error["code"]) == ("failed", "server_shutdown")
    assert Turn.objects.get().error == result.turn.error
    assert not Turn.objects.get().lease_until


async def until(find: Callable[[], Any]) -> Any:
    """Ask the database until it has this."""
    async with asyncio.timeout(10):
        while not (found := await database.run(find)):
            await asyncio.sleep(0.02)
    return found
