"""Responses that are being written: left, cancelled, resumed, asked for twice, ended with their process."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from convo.models import Message, Session, Turn
from tests.conftest import Serve
from tests.faults import QUICK, QUICK_LEASES, wait_until
from tests.responses import ask, client, env_of, events, items_of, prompt, streaming, texts
from tests.servers import Server, client_of
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

ENDINGS = [
    "words",
    "hold",
    "tool-call",
    "reasoning",
    "refusal",
    "surrogates",
    "length",
    "drop",
    "silent-end",
    "tool-cut",
]
NUMBER = b'"sequence_number":'


@pytest.fixture
def two(share: Serve, upstream: Upstream) -> tuple[Server, Server]:
    """Two processes of one service, which know each other by the database alone."""
    env = env_of(upstream, **QUICK_LEASES)
    return share(**env), share(number=1, **env)


@pytest.fixture
def alices(two: tuple[Server, Server], alice_key: str) -> Iterator[OpenAI]:
    with client(two[0], alice_key) as made:
        yield made


@pytest.fixture
def here(two: tuple[Server, Server], alice_key: str) -> Iterator[httpx2.Client]:
    """The process that writes."""
    with client_of(two[0], alice_key) as made:
        yield made


@pytest.fixture
def there(two: tuple[Server, Server], alice_key: str) -> Iterator[httpx2.Client]:
    with client_of(two[1], alice_key) as made:
        yield made


def frames(answer: httpx2.Response) -> Iterator[bytes]:
    """The events byte by byte as they were sent; heartbeats aside."""
    assert answer.status_code == 200, answer.read()
    rest = b""
    for piece in answer.iter_raw():
        *whole, rest = (rest + piece).split(b"\n\n")
        yield from (frame for frame in whole if frame != b": hb")
    assert rest == b""


@contextmanager
def asking(raw: httpx2.Client, **body: Any) -> Iterator[Iterator[bytes]]:
    headers = body.pop("headers", {})
    body = {"model": "hold", "input": "hello", "stream": True, **body}
    with raw.stream("POST", "/v1/responses", json=body, headers=headers) as answer:
        yield frames(answer)


@contextmanager
def following(raw: httpx2.Client, id: str, after: int | None = None) -> Iterator[Iterator[bytes]]:
    query = "" if after is None else f"&starting_after={after}"
    with raw.stream("GET", f"/v1/responses/{id}?stream=true{query}") as answer:
        yield frames(answer)


def take(arriving: Iterator[bytes], count: int) -> list[bytes]:
    return [next(arriving) for _ in range(count)]


def names(found: list[bytes]) -> list[bytes]:
    return [frame.split(b"\n")[0].removeprefix(b"event: response.") for frame in found]


def newest() -> str:
    return f"resp_{Turn.objects.latest('pk').key.hex}"


def status_of(raw: httpx2.Client, id: str) -> str:
    return str(raw.get(f"/v1/responses/{id}").json()["status"])


# Leaving.


@pytest.mark.both_handlers
def test_a_reader_who_leaves_a_stream_stops_it_and_what_was_said_stays(
    alices: OpenAI, upstream: Upstream
) -> None:
    conversation = alices.conversations.create().id
    stream = streaming(alices, "hi", conversation=conversation)
    for event in stream:
        if event.type == "response.output_text.delta" and event.delta == "second ":
            break
    stream.close()
    wait_until(lambda: Turn.objects.get().has_ended)
    assert alices.responses.retrieve(newest()).status == "cancelled"
    wait_until(lambda: not upstream.active)
    assert texts(items_of(alices, conversation)) == ["hi", "first second "]
    ask(alices, "go on", conversation=conversation)
    assert prompt(upstream) == ["user: hi", "assistant: first second ", "user: go on"]


@pytest.mark.both_handlers
@pytest.mark.parametrize("stream", [True, False])
def test_a_reader_who_leaves_before_the_first_word_stops_it_too(
    here: httpx2.Client, upstream: Upstream, stream: bool
) -> None:
    body = {"model": "first-byte-never", "input": "hi", "stream": stream}
    with pytest.raises(httpx2.ReadTimeout):
        here.post("/v1/responses", json=body, timeout=2)
    wait_until(lambda: Turn.objects.filter(status=Turn.Status.CANCELLED).exists())
    wait_until(lambda: not upstream.active)
    assert here.get(f"/v1/responses/{newest()}").json()["output"] == []


@pytest.mark.both_handlers
def test_a_reader_who_leaves_a_whole_answer_stops_it(here: httpx2.Client, upstream: Upstream) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        here.post("/v1/responses", json={"model": "stall", "input": "hi"}, timeout=2)
    wait_until(lambda: Turn.objects.filter(status=Turn.Status.CANCELLED).exists())
    shown = here.get(f"/v1/responses/{newest()}").json()
    assert (shown["status"], shown["output"][0]["content"][0]["text"]) == ("cancelled", "one two ")
    assert shown["output"][0]["status"] == "incomplete"


@pytest.mark.both_handlers
def test_a_reader_who_leaves_the_queue_asks_nothing(alices: OpenAI, upstream: Upstream) -> None:
    conversation = alices.conversations.create().id
    with streaming(alices, "one", conversation=conversation) as held:
        next(iter(held))
        hasty = alices.with_options(timeout=2)
        with pytest.raises(openai.APITimeoutError):
            ask(hasty, "two", conversation=conversation, extra_body={"on_busy": "queue"})
        wait_until(lambda: Turn.objects.filter(status=Turn.Status.CANCELLED).exists())
        upstream.release()
        assert list(held)[-1].type == "response.completed"
    assert texts(items_of(alices, conversation)) == ["one", "first second last"]
    assert len(upstream.heard) == 1


# In the background.


def test_a_background_response_is_answered_later(alices: OpenAI, upstream: Upstream) -> None:
    made = ask(alices, "hi", model="hold", background=True)
    assert (made.status, made.background, made.output, made.usage) == ("queued", True, [], None) or (
        made.status == "in_progress"
    )
    wait_until(lambda: upstream.active)
    running = alices.responses.retrieve(made.id)
    assert (running.status, running.completed_at) == ("in_progress", None)
    upstream.release()
    wait_until(lambda: alices.responses.retrieve(made.id).status == "completed")
    ended = alices.responses.retrieve(made.id)
    assert (ended.output_text, ended.background, ended.error) == ("first second last", True, None)


def test_a_background_response_fails_without_a_reader(alices: OpenAI) -> None:
    made = ask(alices, "hi", model="500", background=True)
    wait_until(lambda: alices.responses.retrieve(made.id).status == "failed")
    failed = alices.responses.retrieve(made.id)
    assert failed.error
    assert failed.error.code == "server_error"


def test_a_background_stream_goes_on_without_its_reader(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream
) -> None:
    with asking(here, background=True) as arriving:
        seen = take(arriving, 6)
        assert names(seen) == [
            b"created",
            b"queued",
            b"in_progress",
            b"output_item.added",
            b"content_part.added",
            b"output_text.delta",
        ]
    with following(there, newest(), after=5) as rest:
        second = take(rest, 1)
        upstream.release()
        last = [*second, *rest]
    assert names(last)[-1] == b"completed"
    with following(there, newest()) as again:
        assert list(again) == [*seen, *last]


def test_a_background_response_is_cancelled_from_any_process(
    alices: OpenAI, there: httpx2.Client, upstream: Upstream
) -> None:
    made = ask(alices, "hi", model="hold", background=True)
    wait_until(lambda: Turn.objects.filter(draft="first second ").exists())
    answer = there.post(f"/v1/responses/{made.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert answer.json()["output"][0]["content"][0]["text"] == "first second "
    wait_until(lambda: not upstream.active)
    again = alices.responses.cancel(made.id)
    assert (again.status, again.output_text) == ("cancelled", "first second ")
    assert list(alices.responses.retrieve(made.id, stream=True))[-1].type == "response.failed"


def test_an_ended_background_response_stays_as_it_is_when_cancelled(alices: OpenAI) -> None:
    made = ask(alices, "hi", background=True)
    wait_until(lambda: alices.responses.retrieve(made.id).status == "completed")
    assert alices.responses.cancel(made.id).status == "completed"


def test_a_foreground_response_is_not_cancelled_by_others(here: httpx2.Client, upstream: Upstream) -> None:
    with asking(here) as arriving:
        take(arriving, 5)
        assert here.post(f"/v1/responses/{newest()}/cancel").status_code == 400
        upstream.release()
        assert names(list(arriving))[-1] == b"completed"


# Coming back.


@pytest.mark.parametrize("background", [False, True])
def test_a_response_is_followed_from_any_place_in_another_process(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream, background: bool
) -> None:
    begun = 3 if background else 2
    with ExitStack() as stack:
        arriving = stack.enter_context(asking(here, background=background))
        seen = take(arriving, begun + 4)
        assert names(seen)[-1] == b"output_text.delta"
        id = newest()
        assert status_of(there, id) == "in_progress"
        readers = {
            after: stack.enter_context(following(raw, id, after))
            for after, raw in [(None, there), (0, here), (begun + 2, there), (begun + 3, there)]
        }
        assert take(readers[None], begun + 4) == seen
        assert take(readers[begun + 2], 1) == seen[begun + 3 :]
        upstream.release()
        whole = [*seen, *arriving]
        assert names(whole)[-1] == b"completed"
        assert list(readers[None]) == whole[begun + 4 :]
        assert list(readers[0]) == whole[1:]
        assert list(readers[begun + 2]) == whole[begun + 4 :]
        assert list(readers[begun + 3]) == whole[begun + 4 :]
    assert len(upstream.heard) == 1


def test_what_has_ended_is_told_again_byte_by_byte(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream
) -> None:
    upstream.release()
    for scenario in ENDINGS:
        with asking(here, model=scenario, tools=[], metadata={"b": "1", "a": "2"}) as arriving:
            whole = list(arriving)
        assert names(whole)[-1] in {b"completed", b"incomplete", b"failed"}
        for raw in (here, there):
            for after in (None, 0, 3, len(whole) - 2, len(whole) - 1):
                with following(raw, newest(), after) as again:
                    behind = whole if after is None else whole[after + 1 :]
                    # Who has heard all of a failure is told it once more.
                    heard = [frame.split(NUMBER)[0] for frame in again]
                    if after == len(whole) - 1 and names(whole)[-1] == b"failed":
                        assert [frame[:20] for frame in heard] == [whole[-1][:20]], scenario
                    else:
                        assert heard == [frame.split(NUMBER)[0] for frame in behind], (scenario, after)
                if after is None:
                    with following(raw, newest()) as again:
                        assert list(again) == whole, scenario


def test_a_bad_place_to_start_from_is_refused(here: httpx2.Client) -> None:
    made = here.post("/v1/responses", json={"input": "hi"}).json()["id"]
    for after in ("-1", "x", "1e3"):
        answer = here.get(f"/v1/responses/{made}?stream=true&starting_after={after}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")
    assert here.get(f"/v1/responses/{made}?stream=maybe").status_code == 400
    assert here.get(f"/v1/responses/{made}?include[]=reasoning.encrypted_content").status_code == 200


# Asking twice.


def test_a_stream_is_joined_with_its_key(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream
) -> None:
    key = {"Idempotency-Key": "k1"}
    with asking(here, headers=key) as arriving:
        seen = take(arriving, 6)
        with asking(there, headers=key) as joined:
            assert take(joined, 6) == seen
            busy = there.post("/v1/responses", json={"model": "hold", "input": "hello"}, headers=key)
            assert (busy.status_code, busy.json()["error"]["code"]) == (400, "idempotency_key_reused")
            upstream.release()
            rest = list(arriving)
            assert list(joined) == rest
    with asking(there, headers=key) as again:
        assert list(again) == [*seen, *rest]
    assert len(upstream.heard) == 1


def test_a_whole_answer_that_is_still_written_is_waited_for(
    here: httpx2.Client, there: httpx2.Client, upstream: Upstream
) -> None:
    key, body = {"Idempotency-Key": "k1"}, {"model": "hold", "input": "hello"}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: here.post("/v1/responses", json=body, headers=key))
        wait_until(lambda: upstream.active)
        busy = there.post("/v1/responses", json=body, headers=key)
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "idempotency_key_in_use")
        assert busy.headers["Retry-After"]
        upstream.release()
        whole = first.result().json()
    again = there.post("/v1/responses", json=body, headers=key).json()
    assert again == whole
    assert len(upstream.heard) == 1


def test_a_client_that_tries_again_is_answered_once(
    two: tuple[Server, Server], alice_key: str, upstream: Upstream
) -> None:
    """Its own second try meets the first one, which is still written, and waits for it."""
    key = {"Idempotency-Key": "k1"}
    with client(two[0], alice_key) as alices, ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: ask(alices, "hi", model="hold", extra_headers=key))
        wait_until(lambda: upstream.active)
        threading.Timer(0.3, upstream.release).start()
        patient = alices.with_options(max_retries=5)
        made = ask(patient, "hi", model="hold", extra_headers=key)
        assert made == first.result()
    assert len(upstream.heard) == 1


# Processes that end.


def test_all_is_there_after_a_restart(serve: Serve, alice_key: str, upstream: Upstream) -> None:
    env = env_of(upstream, **QUICK)
    first = serve(**env)
    with client(first, alice_key) as alices:
        conversation = alices.conversations.create().id
        made = ask(alices, "one", conversation=conversation)
        alone = ask(alices, "lone")
        told = list(alices.responses.retrieve(made.id, stream=True))
    first.stop()
    with client(serve(**env), alice_key) as alices:
        assert alices.responses.retrieve(made.id) == made
        assert list(alices.responses.retrieve(made.id, stream=True)) == told
        ask(alices, "two", conversation=conversation)
        assert prompt(upstream) == ["user: one", "assistant: word1 word2 ", "user: two"]
        ask(alices, "more", previous_response_id=alone.id)
        assert prompt(upstream) == ["user: lone", "assistant: word1 word2 ", "user: more"]


def test_a_response_whose_process_is_killed_has_failed_with_what_was_saved(
    serve: Serve, alice_key: str, upstream: Upstream
) -> None:
    env = env_of(upstream, **QUICK)
    doomed, other = serve(**env), serve(**env)
    with client_of(doomed, alice_key) as here, client_of(other, alice_key) as there:
        conversation = there.post("/v1/conversations", json={}).json()["id"]
        with ExitStack() as stack:
            arriving = stack.enter_context(asking(here, conversation=conversation))
            seen = take(arriving, 6)
            tab = stack.enter_context(following(there, newest()))
            assert take(tab, 6) == seen
            wait_until(lambda: Turn.objects.filter(draft="first second ").exists())
            doomed.kill()
            with pytest.raises(httpx2.TransportError):
                list(arriving)
            assert names(list(tab))[-1] == b"failed"
        failed = there.get(f"/v1/responses/{newest()}").json()
        assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
        assert [part["text"] for part in failed["output"][0]["content"]] == ["first second "]
        assert failed["output"][0]["status"] == "incomplete"
        after = there.post(
            "/v1/responses", json={"model": "words-2", "input": "go on", "conversation": conversation}
        )
        assert after.json()["status"] == "completed"
    assert prompt(upstream) == ["user: hello", "assistant: first second ", "user: go on"]


@pytest.mark.both_handlers
def test_a_server_that_is_told_to_end_ends_its_responses(
    serve: Serve, alice_key: str, upstream: Upstream
) -> None:
    server = serve(**env_of(upstream, **QUICK))
    with client_of(server, alice_key) as raw, asking(raw) as arriving:
        take(arriving, 6)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert names(list(arriving))[-1] == b"failed"
        stopping.join()
    assert Turn.objects.get().status == Turn.Status.PARTIAL
    assert [row.content for row in Message.objects.order_by("position")] == ["hello", "first second "]


# On a public door.


def test_a_client_that_retries_a_rate_limit_asks_once_more_and_is_told_once(
    two: tuple[Server, Server], alice_key: str, upstream: Upstream
) -> None:
    with client(two[0], alice_key) as alices:
        conversation = alices.conversations.create().id
        patient = alices.with_options(max_retries=1)
        with pytest.raises(openai.RateLimitError):
            ask(patient, "hi", model="429-1", conversation=conversation)
        assert Turn.objects.filter(status=Turn.Status.FAILED).count() == 2
        # The model isn't told the same twice.
        assert prompt(upstream) == ["user: hi"]
        ask(alices, "hi", conversation=conversation)
        assert prompt(upstream) == ["user: hi"]


def test_nothing_of_a_stream_is_stored_without_store(alices: OpenAI, upstream: Upstream) -> None:
    with streaming(alices, "my secret", store=False) as held:
        arriving = iter(held)
        for event in arriving:
            if event.type == "response.output_text.delta" and event.delta == "second ":
                break
        # Checkpoints would come ten times a second.
        wait_until(lambda: Turn.objects.filter(lease_until__isnull=False).exists())
        threading.Event().wait(0.5)
        assert "second" not in str(list(Turn.objects.values()))
        upstream.release()
        assert list(arriving)[-1].type == "response.completed"
    assert not Message.objects.exists()
    assert Session.objects.get().message_count == 0
    assert events(alices, "x", store=False)[-1].type == "response.completed"
