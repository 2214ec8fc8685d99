"""Background responses: nobody waits for them, and no crash forgets them."""

import pytest
from openai import OpenAI

from convo.models import Turn, TurnRequest
from tests.conftest import Serve
from tests.faults import QUICK, wait_until
from tests.servers import ROOT, Server
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

ENV = {**QUICK, "CONVO_AGENTS_FILE": str(ROOT / "tests" / "agents.yaml")}


def client_of(server: Server, key: str) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def first(serve: Serve, upstream: Upstream) -> Server:
    return serve(**ENV, OPENAI_BASE_URL=upstream.url)


@pytest.mark.parametrize("ends", ["kill", "stop"])
def test_a_response_that_has_said_nothing_is_begun_anew_by_another_process(
    first: Server, serve: Serve, upstream: Upstream, alice_key: str, ends: str
) -> None:
    with client_of(first, alice_key) as client:
        made = client.responses.create(model="held", input="still there?", background=True)
        assert made.status in {"queued", "in_progress"}
        wait_until(lambda: upstream.heard)
    getattr(first, ends)()
    with client_of(serve(**ENV, OPENAI_BASE_URL=upstream.url), alice_key) as client:
        wait_until(lambda: len(upstream.heard) == 2)
        asked = [[message["content"] for message in heard["messages"]] for heard in upstream.heard]
        assert asked == [["still there?"]] * 2
        upstream.release()
        wait_until(lambda: client.responses.retrieve(made.id).status == "completed")
        found = client.responses.retrieve(made.id)
        assert found.output_text == "at last"
        assert [row.status for row in Turn.objects.all()] == ["complete"]


def test_a_response_that_has_begun_to_speak_fails_with_what_it_said(
    first: Server, serve: Serve, upstream: Upstream, alice_key: str
) -> None:
    with client_of(first, alice_key) as client:
        made = client.responses.create(model="hold", input="hello", background=True)
        wait_until(lambda: Turn.objects.filter(draft="first second ").exists())
    first.kill()
    with client_of(serve(**ENV, OPENAI_BASE_URL=upstream.url), alice_key) as client:
        wait_until(lambda: client.responses.retrieve(made.id).status == "failed")
        found = client.responses.retrieve(made.id)
        assert found.output_text == "first second "
        assert found.error
        assert found.error.code == "server_error"
    assert len(upstream.heard) == 1


def test_a_response_that_brings_down_one_process_after_the_other_fails_in_the_end(
    first: Server, serve: Serve, upstream: Upstream, alice_key: str
) -> None:
    with client_of(first, alice_key) as client:
        made = client.responses.create(model="first-byte-never", input="poison", background=True)
        wait_until(lambda: upstream.heard)
    # Three others have died of it already.
    TurnRequest.objects.update(attempts=3)
    first.kill()
    with client_of(serve(**ENV, OPENAI_BASE_URL=upstream.url), alice_key) as client:
        wait_until(lambda: client.responses.retrieve(made.id).status == "failed")
    assert len(upstream.heard) == 1


def test_a_foreground_response_is_not_begun_anew(
    first: Server, serve: Serve, upstream: Upstream, alice_key: str
) -> None:
    conversation = ""
    with client_of(first, alice_key) as client:
        conversation = client.conversations.create().id
        stream = client.responses.create(model="stall", input="hello", conversation=conversation, stream=True)
        made = next(event.response.id for event in stream if event.type == "response.created")
        wait_until(lambda: Turn.objects.filter(draft="one two ").exists())
        first.kill()
    with client_of(serve(**ENV, OPENAI_BASE_URL=upstream.url), alice_key) as client:
        wait_until(lambda: client.responses.retrieve(made).status == "failed")
        assert client.responses.retrieve(made).output_text == "one two "
    assert len(upstream.heard) == 1
