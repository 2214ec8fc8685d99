"""Long conversations in few words: on request, by themselves, and how long they are."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from convo import verify
from convo.models import Message
from tests.conftest import Serve
from tests.responses import env_of
from tests.servers import client_of
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

LONG = " ".join(f"Fact {number}: the river {number} is long." for number in range(40))
SHORT: Any = [{"type": "compaction", "compact_threshold": 200}]


@pytest.fixture
def alices(share: Serve, upstream: Upstream, alice_key: str) -> Iterator[OpenAI]:
    """Not strict: the client's type of a compaction has no room for the user's messages."""
    server = share(**env_of(upstream))
    with OpenAI(base_url=f"{server.url}/v1", api_key=alice_key, max_retries=0) as client:
        yield client


def broken() -> list[str]:
    return [str(finding) for checked in verify.check_all() for finding in checked.findings]


def last_prompt(upstream: Upstream) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in upstream.last["messages"]]


def test_tokens_are_counted_without_asking_a_model(alices: OpenAI, upstream: Upstream) -> None:
    first = alices.responses.create(model="words-2", input="My name is Ada.")
    asked = len(upstream.heard)
    alone = alices.responses.input_tokens.count(model="words-2", input="Hi.").input_tokens
    after = alices.responses.input_tokens.count(
        model="words-2", input="Hi.", previous_response_id=first.id
    ).input_tokens
    told = alices.responses.input_tokens.count(
        model="words-2", input="Hi.", instructions="Answer in verse, and briefly."
    ).input_tokens
    assert alone
    assert after
    assert told
    assert 0 < alone < min(after, told)
    assert len(upstream.heard) == asked


def test_a_compaction_is_gone_on_from_in_the_place_of_what_it_tells(
    alices: OpenAI, upstream: Upstream
) -> None:
    first = alices.responses.create(model="words-2", input="My name is Ada.")
    short = alices.responses.compact(model="words-2", previous_response_id=first.id, input="I like tea.")
    assert [item.type for item in short.output] == ["message", "message", "compaction"]
    assert short.usage.output_tokens > 0
    items: Any = [item.to_dict(warnings=False) for item in short.output]
    second = alices.responses.create(model="echo", input=[*items, {"role": "user", "content": "Go on."}])
    told = last_prompt(upstream)
    assert told[:2] == ["user: My name is Ada.", "user: I like tea."]
    assert told[2].startswith("assistant: What was said before this, in short:")
    assert "Ada" in told[2]
    assert told[3:] == ["user: Go on."]
    alices.responses.create(model="echo", input="More.", previous_response_id=second.id)
    assert last_prompt(upstream)[:4] == told
    assert broken() == []


def test_a_compaction_that_was_made_elsewhere_is_refused(alices: OpenAI) -> None:
    made: Any = [{"type": "compaction", "encrypted_content": "gAAAAABo"}, {"role": "user", "content": "Hi."}]
    with pytest.raises(BadRequestError) as refused:
        alices.responses.create(model="echo", input=made)
    assert refused.value.code == "invalid_item"


@pytest.mark.parametrize("way", ["conversation", "previous"])
def test_a_prompt_that_has_grown_too_long_is_told_in_short(
    alices: OpenAI, upstream: Upstream, way: str
) -> None:
    options: Any = {"conversation": alices.conversations.create().id} if way == "conversation" else {}
    first = alices.responses.create(model="words-2", input=LONG, **options)
    if way == "previous":
        options = {"previous_response_id": first.id}
    with alices.responses.stream(
        model="words-2", input="What is long?", context_management=SHORT, **options
    ) as stream:
        events = list(stream)
        second = stream.get_final_response()
    assert [item.type for item in second.output] == ["compaction", "message"]
    added = [event for event in events if event.type == "response.output_item.added"]
    placed: Any = [(index, item) for index, item in enumerate(second.output)]
    opened: Any = [(event.output_index, event.item) for event in added]
    assert [(at, item.id) for at, item in opened] == [(at, item.id) for at, item in placed]
    short, question = last_prompt(upstream)
    assert "river" in short
    assert len(short) < len(LONG)
    assert question == "user: What is long?"
    again = list(alices.responses.retrieve(second.id, stream=True))
    assert [event.type for event in again] == [event.type for event in events if "." in event.type]
    if way == "previous":
        options = {"previous_response_id": second.id}
    alices.responses.create(model="words-2", input="And?", **options)
    assert last_prompt(upstream)[:2] == [short, "user: What is long?"]
    assert len(last_prompt(upstream)) == 4
    assert broken() == []


def test_a_short_prompt_is_left_as_it_is(alices: OpenAI, upstream: Upstream) -> None:
    first = alices.responses.create(model="words-2", input="Hi.")
    second = alices.responses.create(
        model="words-2", input="Well?", previous_response_id=first.id, context_management=SHORT
    )
    assert [item.type for item in second.output] == ["message"]
    assert last_prompt(upstream)[0] == "user: Hi."
    assert not Message.objects.filter(type="compaction").exists()


@pytest.mark.parametrize(
    "managed", ["short", [1], [{}], [{"type": "other"}], [{"type": "compaction", "compact_threshold": 0}]]
)
def test_what_manages_no_context_is_refused(
    share: Serve, upstream: Upstream, alice_key: str, managed: Any
) -> None:
    with client_of(share(**env_of(upstream)), alice_key) as raw:
        body = {"model": "echo", "input": "Hi.", "context_management": managed}
        told = raw.post("/v1/responses", json=body)
    assert told.status_code == 400
    assert told.json()["error"]["param"].startswith("context_management")
