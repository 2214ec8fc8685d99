"""Temporary chats: what is said in one is remembered while it goes on, and is in no table, ever."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import redis
from django.core.cache import cache, caches
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from convo import context, history, jobs, memory, turns, verify
from convo.errors import ContentsExpired, InvalidRequest
from convo.history import NewMessage
from convo.history.statements import Draft
from convo.http.asgi import ConvoASGI
from convo.models import ME, ItemOutline, Message, Person, Session, Turn
from convo.search import find
from tests.conftest import Serve
from tests.faults import QUICK, QUICK_LEASES, asking, free_port, wait_until
from tests.faults import ask as query
from tests.faults import events as told_events
from tests.faults import said as history_of
from tests.servers import ROOT, client_of
from tests.support.ephemeral import SECRET, new_chat, told
from tests.support.rest import CALL, QUERY, RESULT, SESSIONS, Caller, ok
from tests.support.windows import keep_windows_in
from tests.talk import ask, begin, finish, questions
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

AGENTS = {"CONVO_AGENTS_FILE": str(ROOT / "tests" / "agents.yaml")}
APPEND = {"messages": [{"role": "user", "content": f"noted: {SECRET}", "name": SECRET}]}


@pytest.fixture(autouse=True)
def model(settings: Settings, upstream: Upstream) -> Callable[..., None]:
    """Choose what the model server does; it repeats the whole prompt at first. No chat is there yet."""
    forget_all()

    def choose(name: str, **conf: Any) -> None:
        settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": name, **conf}

    choose("echo", HEARTBEAT_SECONDS=0.05, CHECKPOINT_SECONDS=0.05)
    return choose


@pytest.fixture
def chat(alice: Any) -> Session:
    """A temporary chat of Alice's."""
    return new_chat(alice)


@pytest.fixture
def caller(alice_key: str) -> Caller:
    return Caller(alice_key)


def in_cache() -> str:
    """All that this process's cache of temporary chats holds."""
    return str(caches["ephemeral"]._cache)  # type: ignore[attr-defined]  # Django's in-process cache


def save_draft(turn: Turn, text: str, chunks: list[ItemOutline]) -> None:
    history.turn_contents.save_drafts([Draft(turn=turn, text=text, chunks=chunks)])


def forget_all() -> None:
    """What a restart does, or a Redis that is emptied."""
    caches["ephemeral"].clear()


@contextmanager
def cache_away(settings: Settings) -> Iterator[None]:
    """Nobody answers where the cache should be, until it is found again."""
    caches_before = settings.CACHES
    keep_windows_in(settings, f"redis://127.0.0.1:{free_port()}")
    yield
    settings.CACHES = caches_before
    time.sleep(1.1)


def lapse(turn: Turn) -> None:
    """Let the process of this turn have died a while ago."""
    Turn.objects.filter(pk=turn.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def deleted(caller: Caller, path: str) -> None:
    assert caller.delete(path).status_code == 204


def words_of(session: Session) -> list[str]:
    page = history.page(session, newest_first=False, size=100)
    return [f"{row.role[0]}:{row.content}" for row in page.messages]


@pytest.mark.parametrize("storage", ["persistent", "ephemeral"])
def test_what_is_said_in_a_temporary_chat_is_in_no_table(
    caller: Caller, model: Callable[..., None], storage: str
) -> None:
    address = caller.make(storage=storage)
    key = {"Idempotency-Key": "once"}

    def send(path: str, body: Any = None, **options: Any) -> Any:
        response = caller.send(f"{address}{path}", body, headers=key if options else None)
        assert response.status_code < 300, response.content
        return response.json() if response.content else None

    send("query/", {"message": f"about {SECRET}"}, keyed=True)
    send("query/", {"message": f"about {SECRET}"}, keyed=True)
    key["Idempotency-Key"] = "twice"
    send("messages/", APPEND, keyed=True)
    assert SECRET in str(send("messages/", APPEND, keyed=True))
    send("messages/", {"messages": [{"role": "assistant", "item": {**CALL, "arguments": SECRET}}]})
    send("messages/", {"messages": [{"role": "tool", "item": {**RESULT, "output": SECRET}}]})
    send("turns/1/regenerate/")
    send("turns/1/edit/", {"message": f"rather {SECRET}"})
    send("turns/1/activate/")
    assert SECRET in str(caller.history(address))
    fork = send("messages/2/fork/")
    assert fork["storage"] == storage
    assert SECRET in str(caller.history(f"{SESSIONS}{fork['id']}/"))
    jobs.sweep()
    assert bool(told()) == (storage == "persistent")
    for checked in verify.check_all():
        assert checked.findings == []
    deleted(caller, f"{address}messages/2/")
    deleted(caller, f"{address}history/")
    send("query/", {"message": f"again {SECRET}"})
    deleted(caller, address)
    deleted(caller, f"{SESSIONS}{fork['id']}/")
    if storage == "ephemeral":
        assert told() == []
        assert SECRET not in in_cache()


@pytest.mark.parametrize("storage", ["persistent", "ephemeral", "none"])
@pytest.mark.parametrize("scenario", ["hold", "drop", "tool-cut", "reasoning", "refusal", "400"])
def test_a_reply_that_goes_wrong_leaves_no_word_either(
    alice: Any, model: Callable[..., None], scenario: str, storage: str, upstream: Upstream
) -> None:
    model(scenario)
    session = new_chat(alice, storage)
    upstream.release()
    result = ask(session, SECRET)
    assert bool(told()) == (storage == "persistent")
    spoken = [row.reply_text for row in result.messages]
    assert not any(told(words) for words in spoken if words) or storage == "persistent"
    if scenario == "400":
        # Who asked is told what the server said; the row says it only where all is kept.
        assert "It said" in result.turn.error["message"]  # type: ignore[index]  # it failed
        assert bool(told("It said")) == (storage == "persistent")
    assert [finding for checked in verify.check_all() for finding in checked.findings] == []


def test_what_verify_finds_is_there(chat: Session) -> None:
    ask(chat, SECRET)
    Message.objects.filter(session=chat, position=1).update(content=SECRET)
    Turn.objects.filter(session=chat).update(gist=SECRET)
    Session.objects.filter(pk=chat.pk).update(title=SECRET)
    checked = verify.check(chat.pk)
    assert checked
    assert [finding.location for finding in checked.findings] == ["the title", "position 1", "turn 1"]


def test_a_temporary_chat_remembers_while_it_goes_on(chat: Session, upstream: Upstream) -> None:
    ask(chat, f"my word is {SECRET}")
    turns.record(chat, [NewMessage(role="user", content="noted elsewhere", name="Zoe")])
    ask(chat, "which word?")
    assert questions(upstream.last["messages"]) == [f"my word is {SECRET}", "noted elsewhere", "which word?"]
    assert "Zoe" in str(upstream.last["messages"])
    assert [row.content for row in Message.objects.filter(session=chat)] == [""] * 5
    assert words_of(chat)[0] == f"u:my word is {SECRET}"


def test_pictures_of_a_temporary_chat_are_kept_nowhere(alice: Any, upstream: Upstream) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    part = {"type": "input_image", "image_url": f"data:image/png;base64,{pixel}"}
    item = {"type": "message", "role": "user", "content": [part]}
    for storage, tables in (("ephemeral", False), ("persistent", True)):
        session = new_chat(alice, storage)
        finish(turns.begin(session, [NewMessage(role="user", item=item)]))
        assert pixel in str(upstream.last["messages"])
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM convo_attachment")
            assert bool(cursor.fetchone()[0]) == tables


def test_nothing_crosses_into_a_temporary_chat_or_out_of_it(alice: Any, upstream: Upstream) -> None:
    kept, chat, other = (new_chat(alice, storage) for storage in ("persistent", "ephemeral", "persistent"))
    memory.remember(kept.person, f"Likes {SECRET}", kind="fact")
    ask(kept, f"the {SECRET} flies")
    ask(chat, "only here: pterodactyl")
    jobs.sweep()
    ask(chat, f"what of the {SECRET}?")
    assert SECRET not in str(upstream.last["messages"][:-1])
    assert f"Likes {SECRET}" not in str(upstream.last["messages"])
    ask(other, f"what of the {SECRET} and the pterodactyl?")
    assert f"Likes {SECRET}" in str(upstream.last["messages"])
    assert f"the {SECRET} flies" in str(upstream.last["messages"])
    assert "only here" not in str(upstream.last["messages"])
    assert find(kept.person, alice, "only here") == []
    assert history.items_by_id(alice, [row.item_id for row in Message.objects.filter(session=chat)]) == {}
    assert history.items_by_id(alice, [row.item_id for row in Message.objects.filter(session=kept)])


def test_when_its_text_is_gone_a_chat_says_so_and_takes_nothing(caller: Caller, upstream: Upstream) -> None:
    address = caller.make(storage="ephemeral")
    caller.ask(address, "first")
    forget_all()
    rows = Message.objects.count(), Turn.objects.count()
    for path, body in (
        ("query/", {"message": "and now?"}),
        ("query/", {"message": "and now?", "stream": True}),
        ("messages/", APPEND),
        ("turns/1/regenerate/", {}),
        ("turns/1/edit/", {"message": "other"}),
        ("messages/1/fork/", {}),
    ):
        refused = caller.send(f"{address}{path}", body)
        assert refused.status_code == 410, (path, refused.content)
        assert refused.json()["error"]["code"] == "text_gone"
    for path in ("history/", "messages/1/", "turns/1/", "context/?query=x"):
        assert caller.get(f"{address}{path}").status_code == 410, path
    assert (Message.objects.count(), Turn.objects.count()) == rows
    assert len(upstream.heard) == 1
    # What the model saw is told without its words.
    shown = ok(caller.get(f"{address}turns/1/context/"))
    assert [source["text"] for part in shown["parts"] for source in part["sources"]][-1] is None
    # Emptied, it can go on.
    deleted(caller, f"{address}messages/1/")
    deleted(caller, f"{address}history/")
    assert caller.ask(address, "anew")["message"]["content"]


def test_reading_keeps_a_chat_and_leaving_it_alone_ends_it(chat: Session, model: Callable[..., None]) -> None:
    model("words-1", WINDOW_SECONDS=2)
    ask(chat, "first")
    for _ in range(3):
        time.sleep(1)
        assert words_of(chat) == ["u:first", "a:word1 "]
    time.sleep(2.1)
    with pytest.raises(ContentsExpired):
        words_of(chat)
    chat.refresh_from_db()
    assert history.ephemeral.has_lost_contents(chat)


def test_a_reply_whose_question_was_forgotten_meanwhile_is_no_answer(chat: Session) -> None:
    claim = begin(chat, "first")
    forget_all()
    result = finish(claim)
    assert (result.turn.status, result.messages) == ("failed", [])
    assert result.failure
    assert result.failure.code == "text_gone"


def test_other_conversations_do_not_push_it_out(chat: Session) -> None:
    ask(chat, SECRET)
    for number in range(1000):
        cache.set(f"other-{number}", number)
    assert cache.get("other-1") is None
    assert SECRET in words_of(chat)[0]


def test_what_is_taken_back_leaves_the_cache_too(chat: Session, model: Callable[..., None]) -> None:
    model("words-1")
    for word in ("first", "second", SECRET):
        ask(chat, f"say {word}")
    assert "say second" in in_cache()
    history.delete_turn(chat.pk, 2)
    history.delete_message(chat.pk, 5)
    assert "say second" not in in_cache()
    assert SECRET not in in_cache()
    assert words_of(chat)[0] == "u:say first"
    other = history.fork(chat, 2)
    history.clear(chat.pk)
    assert words_of(other) == ["u:say first", "a:word1 "]
    history.remove(other.pk)
    assert "say first" not in in_cache()


def test_what_was_put_there_and_rolled_back_is_asked_for_by_nobody(chat: Session) -> None:
    ask(chat, "first")

    with transaction.atomic():
        locked = history.lock(chat.pk)
        history.append(locked, [(Turn.objects.get(), [NewMessage(role="user", content="lost")])])
        transaction.set_rollback(True)
    assert "lost" in in_cache()
    ask(chat, "second")
    assert "u:lost" not in words_of(chat)
    assert words_of(chat)[2] == "u:second"
    assert "lost" not in in_cache()


def test_a_question_waits_in_line_without_a_word_in_its_row(
    chat: Session, model: Callable[..., None], upstream: Upstream
) -> None:
    model("hold")

    def ask_first() -> None:
        try:
            finish(begin(chat, "first"))
        finally:
            connection.close()

    first = threading.Thread(target=ask_first)
    first.start()
    wait_until(lambda: upstream.active)
    place = begin(chat, SECRET, on_busy="queue")
    assert place.is_queued
    assert (told(), place.turn.input) == ([], [{}])
    assert SECRET in in_cache()
    upstream.release()
    assert finish(place).turn.status == "complete"
    assert words_of(chat)[2] == f"u:{SECRET}"
    first.join()


def test_of_a_reply_that_breaks_off_the_draft_is_in_the_cache_alone(
    chat: Session, model: Callable[..., None], upstream: Upstream
) -> None:
    model("hold")
    claim = begin(chat, "first")
    save_draft(claim.turn, "half a word", [{"index": 0, "kind": "message", "chunk_lengths": [11]}])
    assert told("half a word") == []
    lapse(claim.turn)
    turns.end_expired_turns()
    assert words_of(chat) == ["u:first", "a:half a word"]
    assert told("half a word") == []
    assert in_cache().count("half a word") == 1


def test_a_draft_that_is_saved_too_late_is_not_kept(chat: Session) -> None:
    turn = begin(chat, "first").turn
    save_draft(turn, "too early", [])
    assert "too early" in in_cache()
    lapse(turn)
    turns.end_expired_turns()
    save_draft(turn, "too late", [])
    assert "too late" not in in_cache()


def test_a_chat_is_ended_by_the_sweep_when_the_cache_is_away(chat: Session, settings: Settings) -> None:
    lapse(begin(chat, "first").turn)
    with cache_away(settings):
        assert turns.end_expired_turns() == 1
    assert Turn.objects.get().status == "failed"


def test_with_its_cache_away_nothing_is_lost_and_nothing_changes(
    caller: Caller, settings: Settings, valkey: str
) -> None:
    keep_windows_in(settings, valkey)
    address = caller.make(storage="ephemeral")
    caller.ask(address, "first")
    with cache_away(settings):
        for response in (caller.send(f"{address}query/", {"message": "x"}), caller.get(f"{address}history/")):
            assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
            assert response.headers["Retry-After"] == "1"
    assert Turn.objects.count() == 1
    wait_until(lambda: caller.get(f"{address}history/").status_code == 200)
    assert caller.history(address)[0]["content"] == "first"
    # A damaged entry is one that is gone.
    with redis.Redis.from_url(valkey) as client:
        (key,) = client.keys(f"*convo:ephemeral:?:{address.split('/')[-2]}")
        client.set(key, b'{"said": 1}')
    wait_until(lambda: caller.get(f"{address}history/").status_code == 410)


def test_a_key_answers_twice_until_the_text_is_gone(caller: Caller) -> None:
    address = caller.make(storage="ephemeral")
    headers = {"Idempotency-Key": "k"}
    first = caller.send(f"{address}messages/", APPEND, headers=headers)
    again = caller.send(f"{address}messages/", APPEND, headers=headers)
    assert again.json() == first.json()
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert Message.objects.count() == 1
    forget_all()
    assert caller.send(f"{address}messages/", APPEND, headers=headers).status_code == 410


def test_a_session_that_is_kept_is_not_asked_as_if_it_were_not(caller: Caller) -> None:
    kept = ok(caller.send(SESSIONS, {"ref": "r"}), 201)
    assert kept["storage"] == "persistent"
    wanted = {"ref": "r", "storage": "ephemeral"}
    for refused in (caller.send(SESSIONS, wanted), caller.send(QUERY, {**wanted, "message": SECRET})):
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "storage")
    assert told() == []
    asked = ok(caller.send(QUERY, {"message": SECRET, "storage": "ephemeral"}))
    assert ok(caller.get(f"{SESSIONS}{asked['session']}/"))["storage"] == "ephemeral"
    assert told() == []
    assert ok(caller.send(QUERY, {"message": "more", "ref": "r"}))
    assert caller.send(SESSIONS, {"storage": "none"}).status_code == 400


def test_it_has_no_title(caller: Caller) -> None:
    assert caller.send(SESSIONS, {"storage": "ephemeral", "title": SECRET}).status_code == 400
    address = caller.make(storage="ephemeral")
    refused = caller.send(address, {"title": SECRET}, method="PATCH")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "title")
    ok(caller.send(address, {"metadata": {"app": "1"}}, method="PATCH"))
    ok(caller.send(caller.make(), {"title": SECRET}, method="PATCH"))
    assert told() == ["convo_session"]


def test_an_agent_says_what_is_kept_of_its_sessions(
    caller: Caller, alice: Any, model: Callable[..., None], tmp_path: Any
) -> None:
    file = tmp_path / "agents.yaml"
    agents = "".join(f"  {name}:\n    storage: {name}\n" for name in ("persistent", "ephemeral", "none"))
    file.write_text(f"default: ephemeral\nagents:\n{agents}")
    model("echo", AGENTS_FILE=str(file))
    for name in ("persistent", "ephemeral", "none"):
        address = caller.make(agent=name)
        caller.ask(address, f"{name} {SECRET}")
        assert ok(caller.get(address))["storage"] == name
        expected = {"persistent": 2, "ephemeral": 2, "none": 0}[name]
        assert len(caller.history(address)) == expected
        assert bool(told(f"{name} {SECRET}")) == (name == "persistent")
    # The session's word goes before that of an agent who answers in it.
    kept = caller.make(agent="persistent")
    caller.ask(kept, "in between", agent="ephemeral")
    assert len(caller.history(kept)) == 2
    for name in ("persistent", "none"):
        v1 = {"model": f"agent/{name}", "input": f"{name} v1", "store": True}
        reply = ok(caller.send("/v1/responses", v1))
        assert bool(told(f"{name} v1")) == (name == "persistent")
        assert caller.get(f"/v1/responses/{reply['id']}").status_code == (
            200 if name == "persistent" else 404
        )
    assert caller.send("/v1/conversations", {}).status_code == 400


def test_the_other_api_knows_no_temporary_chats(caller: Caller, alice: Any) -> None:
    for storage, status in (("ephemeral", 404), ("persistent", 200)):
        session = new_chat(alice, storage)
        assert caller.get(f"/v1/conversations/conv_{session.pk.hex}").status_code == status
        asked = {"input": SECRET, "conversation": f"conv_{session.pk.hex}"}
        assert caller.send("/v1/responses", asked).status_code == status
        assert bool(told()) == (storage == "persistent")


def test_search_leaves_it_out(caller: Caller) -> None:
    address = caller.make(storage="ephemeral")
    caller.ask(address, SECRET)
    jobs.sweep()
    id = address.split("/")[-2]
    assert caller.get("/api/v1/search/", {"q": SECRET, "session": id}).status_code == 409
    assert ok(caller.get("/api/v1/search/", {"q": SECRET}))["results"] == []


def test_a_person_may_not_name_what_is_kept_of_another(chat: Session) -> None:
    reference = {"attachment": 1, "sha256": "0", "mime": "", "size": 1, "tokens": 1, "head": ""}
    part = {"type": "input_file", "filename": "x", "file_data": reference}
    item = {"type": "message", "role": "user", "content": [part]}
    with pytest.raises(InvalidRequest):
        turns.record(chat, [NewMessage(role="user", item=item)])


def test_what_the_model_saw_is_told_with_its_words_while_they_are_there(chat: Session) -> None:
    ask(chat, "first")
    ask(chat, SECRET)
    turn = history.get_turn(chat, 2)
    assert SECRET not in str(turn.manifest)
    assert SECRET in str(context.replay(turn))
    assert "first" in str(context.replay(turn))


# Several processes.


@pytest.fixture
def two(share: Serve, upstream: Upstream, valkey: str, alice_key: str) -> Iterator[list[httpx2.Client]]:
    """Alice's clients of two processes that share a Redis."""
    env = {**QUICK_LEASES, **AGENTS, "OPENAI_BASE_URL": upstream.url, "REDIS_URL": valkey}
    clients = [client_of(share(number=number, **env), alice_key) for number in range(2)]
    yield clients
    for client in clients:
        client.close()


def make(client: httpx2.Client, **fields: Any) -> str:
    made = client.post(SESSIONS, json={"storage": "ephemeral", **fields})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_any_process_knows_the_chat_when_they_share_a_redis(
    two: list[httpx2.Client], upstream: Upstream, valkey: str
) -> None:
    here, there = two
    session = make(here)
    query(here, session, f"my word is {SECRET}")
    query(there, session, "which word?")
    assert f"my word is {SECRET}" in questions(upstream.last["messages"])
    assert history_of(here, session) == history_of(there, session)
    assert told() == []
    with redis.Redis.from_url(valkey) as client:
        client.flushdb()
    assert query(there, session, "and now?").json()["error"]["code"] == "text_gone"
    assert query(here, session, "and now?").status_code == 410
    assert here.get(f"{SESSIONS}{session}/history/").status_code == 410


def test_its_turns_are_told_again_as_they_were(two: list[httpx2.Client], valkey: str) -> None:
    here, there = two
    session = make(here)
    query(here, session, "to have two lines to repeat")
    with asking(here, session, SECRET) as events:
        live = list(events)
    assert [name for name, _ in live].count("delta") > 1
    for client in (here, there):
        with client.stream("GET", f"{SESSIONS}{session}/turns/2/events/") as response:
            assert list(told_events(response)) == live
    assert [turn.chunks for turn in Turn.objects.all()] == [[], []]
    with redis.Redis.from_url(valkey) as cleared:
        cleared.flushdb()
    with there.stream("GET", f"{SESSIONS}{session}/turns/2/events/") as response:
        *_, (name, data) = told_events(response)
    assert (name, data["error"]["code"]) == ("error", "text_gone")


def test_a_reply_is_followed_from_another_process_and_outlives_its_own(
    serve: Serve, upstream: Upstream, valkey: str, alice_key: str
) -> None:
    env = {**QUICK, **AGENTS, "OPENAI_BASE_URL": upstream.url, "REDIS_URL": valkey}
    dies, lives = serve(**env), serve(**env)
    with client_of(dies, alice_key) as here, client_of(lives, alice_key) as there:
        session = make(here)
        with asking(here, session, SECRET, agent="hold") as live:
            heard = [next(live)[0] for _ in range(2)]
            assert heard == ["turn.started", "delta"]
            url = f"{SESSIONS}{session}/turns/1/events/"
            with there.stream("GET", url, headers={"Accept": "text/event-stream"}) as followed:
                lines = followed.iter_lines()
                assert any('"first ' in line for line in lines)
                wait_until(lambda: _draft_kept(valkey))
                assert (told(), told("first second")) == ([], [])
                dies.kill()
                rest = "\n".join(lines)
        assert "interrupted" in rest
        assert history_of(there, session) == [f"u:{SECRET}", "a:first second "]
        assert (told(), told("first second")) == ([], [])


def _draft_kept(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return bool(client.keys("*convo:ephemeral*draft*"))


def test_without_a_shared_cache_one_process_is_all_there_may_be(settings: Settings, valkey: str) -> None:
    call_command("check")
    settings.CONVO = {**settings.CONVO, "PROCESSES": 2}
    with pytest.raises(SystemCheckError, match="REDIS_URL"):
        call_command("check")
    assert _started() == "lifespan.startup.failed"
    keep_windows_in(settings, valkey)
    call_command("check")


def _started() -> str:
    """What a server of ours says when it is told to start."""
    said: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message["type"])

    async def application(*_: Any) -> None:
        raise AssertionError("nothing is served")

    asyncio.run(ConvoASGI(application)({"type": "lifespan"}, receive, send))
    return said[0]


@pytest.mark.parametrize("storage", ["persistent", "ephemeral"])
def test_a_turn_that_ends_from_its_draft_has_its_prompt(alice: Any, storage: str) -> None:
    session = Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, ME), agent="assistant", storage=storage
    )
    claim = begin(session, "hello")
    chunks: list[ItemOutline] = [{"index": 0, "kind": "message", "chunk_lengths": [3]}]
    draft = Draft(turn=claim.turn, text="abc", chunks=chunks, prompt=turns.assemble(claim).prompt)
    history.turn_contents.save_drafts([draft])
    Turn.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert turns.end_expired_turns() == 1
    turn = Turn.objects.get()
    assert turn.manifest
    assert turn.agent_version
    assert [row.content for row in history.messages_of(turn)] == ["hello", "abc"]
    assert ("abc" in str(Message.objects.values_list("content"))) == (storage == "persistent")
