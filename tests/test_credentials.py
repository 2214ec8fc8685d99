"""Review 13: a key that is revoked, or a user who is disabled, ends the answers that are on their way."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from openai import OpenAI

from convo.conf import Conf
from convo.http.credentials import Credentials, invalid_credentials
from convo.models import ApiKey, Turn
from tests.conftest import Serve
from tests.faults import wait_until
from tests.servers import Server, client_of
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

SECONDS = 30
REFUSED = ("invalid_api_key", "invalid_request_error")
ASK = {"message": "hello", "stream": True}
CHAT: dict[str, Any] = {"model": "hold", "messages": [{"role": "user", "content": "hello"}]}
RESPONSE: dict[str, Any] = {"model": "hold", "input": "hello"}


@pytest.fixture
def server(share: Serve, upstream: Upstream) -> Server:
    """A server that checks often, so that a test need not wait, and whose model holds its reply back."""
    return share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="hold", CONVO_CREDENTIALS_SECONDS="0.2")


def end(how: str) -> None:
    """End Alice's key, and nobody else's."""
    match how:
        case "revoked":
            ApiKey.objects.filter(owner__username="alice").update(revoked_at=timezone.now())
        case "expired":
            ApiKey.objects.filter(owner__username="alice").update(expires_at=timezone.now())
        case "its user is disabled":
            get_user_model().objects.filter(username="alice").update(is_active=False)


def events_of(response: httpx2.Response) -> Iterator[tuple[str, Any]]:
    """Each event's name and data; of a stream of OpenAI's chat completions the data alone."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            text = line.removeprefix("data: ")
            yield name, text if text == "[DONE]" else json.loads(text)


@contextmanager
def begun(client: httpx2.Client, path: str, body: Any) -> Iterator[Iterator[tuple[str, Any]]]:
    """The events of a stream, of which the first was read."""
    method = "GET" if body is None else "POST"
    with client.stream(method, path, json=body, timeout=SECONDS) as response:
        assert response.status_code == 200, response.read()
        arriving = events_of(response)
        next(arriving)
        yield arriving


@pytest.mark.parametrize("how", ["revoked", "expired", "its user is disabled"])
def test_a_stream_ends_with_the_error_of_a_401_and_nobody_elses_does(
    server: Server, upstream: Upstream, alice_key: str, bob_key: str, how: str
) -> None:
    path = "/api/v1/query/"
    with (
        client_of(server, alice_key) as alice,
        client_of(server, bob_key) as bob,
        begun(alice, path, ASK) as hers,
        begun(bob, path, ASK) as his,
    ):
        end(how)
        *_, (name, last) = hers
        assert (name, last["error"]["code"], last["error"]["type"]) == ("error", *REFUSED)
        assert last["retryable"] is False
        assert alice.post(path, json=ASK).status_code == 401
        upstream.release()
        assert [name for name, _ in his][-1] == "turn.completed"
    # A reader who may no longer read is one that has left: over REST the reply is finished.
    wait_until(lambda: Turn.objects.filter(status="complete").count() == 2)


def test_who_comes_back_with_another_key_goes_on_where_the_stream_ended(
    server: Server, upstream: Upstream, alice: User, alice_key: str
) -> None:
    ids: list[int] = []
    with (
        client_of(server, alice_key) as client,
        client.stream("POST", "/api/v1/query/", json=ASK) as response,
    ):
        lines = response.iter_lines()
        session = json.loads(next(line for line in lines if line.startswith("data: "))[6:])["session"]
        ids += [int(next(line for line in lines if line.startswith("id: "))[4:])]
        end("revoked")
        ids += [int(line[4:]) for line in lines if line.startswith("id: ")]
    upstream.release()
    with client_of(server, ApiKey.objects.issue(alice)[1]) as client:
        turn = f"/api/v1/sessions/{session}/turns/1/"
        rest = client.get(f"{turn}events/", headers={"Last-Event-ID": str(ids[-1])}).text
        whole = client.get(f"{turn}events/").text
    assert f"id: {ids[-1] + 1}\n" in rest
    assert whole.endswith(rest)


def test_a_reader_who_follows_is_ended_too(
    server: Server, upstream: Upstream, alice: User, alice_key: str
) -> None:
    writer, reader = ApiKey.objects.issue(alice)[0], client_of(server, alice_key)
    with reader as client, client.stream("POST", "/api/v1/query/", json=ASK) as response:
        _, started = next(events_of(response))
        ApiKey.objects.filter(pk=writer.pk).update(revoked_at=timezone.now())
        with begun(client, f"/api/v1/sessions/{started['session']}/turns/1/events/", None) as arriving:
            end("revoked")
            *_, (name, last) = arriving
    assert (name, last["error"]["code"]) == ("error", "invalid_api_key")


def test_somebody_signed_in_who_is_disabled_hears_no_more(
    server: Server, upstream: Upstream, alice: User, bob: User
) -> None:
    def browser(user: User) -> httpx2.Client:
        signed_in = Client()
        signed_in.force_login(user)
        session = signed_in.cookies[settings.SESSION_COOKIE_NAME].value
        cookies = {settings.SESSION_COOKIE_NAME: session, "csrftoken": "t" * 32}
        headers = {"X-CSRFToken": "t" * 32, "Origin": server.url}
        return httpx2.Client(
            base_url=server.url, cookies=cookies, headers=headers, trust_env=False, timeout=60
        )

    with (
        browser(alice) as hers,
        browser(bob) as his,
        begun(hers, "/api/v1/query/", ASK) as ending,
        begun(his, "/api/v1/query/", ASK) as lasting,
    ):
        end("its user is disabled")
        *_, (name, last) = ending
        assert (name, last["error"]["code"]) == ("error", "invalid_api_key")
        upstream.release()
        assert [name for name, _ in lasting][-1] == "turn.completed"


@pytest.mark.both_handlers
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/query/", {"message": "hello"}),
        ("/v1/chat/completions", CHAT),
        ("/v1/responses", RESPONSE),
    ],
)
def test_who_waits_for_the_whole_answer_gets_a_401(
    server: Server, upstream: Upstream, alice_key: str, bob_key: str, path: str, body: dict[str, Any]
) -> None:
    with (
        client_of(server, alice_key) as alice,
        client_of(server, bob_key) as bob,
        ThreadPoolExecutor() as threads,
    ):
        hers, his = (threads.submit(client.post, path, json=body) for client in (alice, bob))
        wait_until(lambda: upstream.active == 2)
        end("revoked")
        refused = hers.result(SECONDS)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        # Clients of /v1 stop a reply by leaving, those of REST don't.
        stops = path.startswith("/v1/")
        wait_until(lambda: upstream.active == (1 if stops else 2))
        upstream.release()
        assert his.result(SECONDS).status_code == 200
    # A chat without a session is stored at its end.
    wait_until(lambda: Turn.objects.count() == 2 and not Turn.objects.unfinished().exists())
    found = sorted(Turn.objects.values_list("status", flat=True))
    assert found == (["cancelled", "complete"] if stops else ["complete", "complete"])


def test_a_stream_of_chat_completions_ends_with_the_error(
    server: Server, upstream: Upstream, alice_key: str
) -> None:
    body = {**CHAT, "stream": True}
    with client_of(server, alice_key) as client, begun(client, "/v1/chat/completions", body) as arriving:
        end("revoked")
        *_, (_, last) = arriving
    assert (last["error"]["code"], last["error"]["type"]) == REFUSED
    wait_until(lambda: Turn.objects.filter(status="cancelled").exists())


@pytest.mark.parametrize("background", [False, True])
def test_a_stream_of_a_response_ends_with_the_error(
    server: Server, upstream: Upstream, alice: User, alice_key: str, background: bool
) -> None:
    with OpenAI(base_url=f"{server.url}/v1", api_key=alice_key, max_retries=0) as client:
        arriving = client.responses.create(**RESPONSE, stream=True, background=background)
        heard: list[Any] = [next(arriving)]
        end("revoked")
        heard += arriving
    last = heard[-1]
    assert (last.type, last.code) == ("error", "invalid_api_key")
    assert last.sequence_number == heard[-2].sequence_number
    upstream.release()
    # A response in the background is finished; others are stopped by leaving.
    wait_until(lambda: Turn.objects.get().status == ("complete" if background else "cancelled"))
    if background:
        with OpenAI(base_url=f"{server.url}/v1", api_key=ApiKey.objects.issue(alice)[1]) as client:
            rest = client.responses.retrieve(
                heard[0].response.id, stream=True, starting_after=last.sequence_number
            )
            numbers = [event.sequence_number for event in rest]
        assert numbers[0] == last.sequence_number + 1


# What a check costs.


def request(user: User, key: ApiKey | None = None) -> Any:
    return SimpleNamespace(user=user, auth=key)


def test_one_check_asks_the_database_twice_however_many_streams_there_are(alice: User, bob: User) -> None:
    def checked(count: int) -> int:
        keys = [ApiKey.objects.issue(alice)[0] for _ in range(count)]
        in_use = [Credentials(request(alice, key)) for key in keys]
        in_use += [Credentials(request(bob)) for _ in range(count)]
        with CaptureQueriesContext(connection) as queries:
            assert invalid_credentials(in_use) == []
        ApiKey.objects.filter(pk=keys[0].pk).update(revoked_at=timezone.now())
        assert invalid_credentials(in_use) == in_use[:1]
        return len(queries)

    assert (checked(1), checked(50)) == (2, 2)


def test_a_stream_of_a_guest_who_signed_in_goes_on(alice: User, bob: User) -> None:
    gone, disabled = Credentials(request(bob)), Credentials(request(alice))
    in_use = [gone, disabled]
    bob.delete()
    assert invalid_credentials(in_use) == []
    end("its user is disabled")
    assert invalid_credentials(in_use) == [disabled]


def test_left_to_itself_a_process_checks_well_within_half_a_minute() -> None:
    assert Conf().credentials_seconds <= 15
