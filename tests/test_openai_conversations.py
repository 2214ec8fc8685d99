"""Conversations, models and embeddings under /v1/: the client that checks every answer, and raw bytes."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import httpx2
import openai
import pytest
from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone
from openai import OpenAI

from convo import history, turns
from convo.history import NewMessage
from convo.models import ApiKey, IndexedMessage, Message, Session, Turn
from convo.openai_api.urls import urlpatterns
from convo.openai_api.view import V1View
from convo.verify.check import check
from convo.verify.rows import Finding
from tests.conftest import Serve
from tests.corpus import DATA_URI
from tests.servers import Server, client_of
from tests.support.openai import refused

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
IMAGE = {"type": "input_image", "image_url": DATA_URI}
NOWHERE = "conv_" + "0" * 32

Connect = Callable[[str], OpenAI]


@pytest.fixture
def server(share: Serve) -> Server:
    return share()


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    """The client of this key; it refuses answers that are not what its types say."""
    clients: list[OpenAI] = []

    def made(key: str) -> OpenAI:
        clients.append(
            OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, _strict_response_validation=True)
        )
        return clients[-1]

    yield made
    for client in clients:
        client.close()


@pytest.fixture
def alices(connect: Connect, alice_key: str) -> OpenAI:
    return connect(alice_key)


@pytest.fixture
def raw(server: Server, alice_key: str) -> Iterator[httpx2.Client]:
    with client_of(server, alice_key) as client:
        yield client


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def named(text: str, id: str) -> Any:
    return {**user(text), "id": id}


def new(client: OpenAI, *items: Any, **fields: Any) -> str:
    return client.conversations.create(items=items, **fields).id


def texts(client: OpenAI, conversation: str, **options: Any) -> list[str]:
    """What the items say, over all pages."""
    found = client.conversations.items.list(conversation, **{"order": "asc", **options})
    return [cast(Any, item).content[0].text for item in found]


def listed(raw: httpx2.Client, conversation: str) -> list[dict[str, Any]]:
    """The items as they come over the wire, oldest first."""
    answer = raw.get(f"/v1/conversations/{conversation}/items?order=asc&limit=100")
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def session_of(conversation: str) -> Session:
    return Session.objects.get(pk=conversation.removeprefix("conv_"))


def broken(session: Session) -> list[Finding]:
    """What `manage.py verify` finds wrong with it."""
    checked = check(session.pk)
    assert checked
    return checked.findings


def occupy(session: Session) -> Turn:
    """A turn that goes on, in a process that is alive."""
    session.last_turn += 1
    session.save()
    return Turn.objects.create(
        session=session,
        number=session.last_turn,
        agent=session.agent,
        status=Turn.Status.RUNNING,
        lease_until=timezone.now() + timedelta(seconds=60),
    )


# Conversations.


def test_a_conversation_is_made_read_changed_and_deleted(alices: OpenAI) -> None:
    made = alices.conversations.create(metadata={"topic": "rome"})
    assert (made.object, made.metadata, made.id[:5]) == ("conversation", {"topic": "rome"}, "conv_")
    assert alices.conversations.retrieve(made.id) == made
    changed = alices.conversations.update(made.id, metadata={"a": "b"})
    assert (changed.created_at, changed.metadata) == (made.created_at, {"a": "b"})
    assert alices.conversations.retrieve(made.id).metadata == {"a": "b"}
    gone = alices.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError):
        alices.conversations.retrieve(made.id)
    assert not Session.objects.exists()


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"items": [], "metadata": null}', b'{"items": null}'])
def test_a_conversation_can_be_empty(raw: httpx2.Client, body: bytes | None) -> None:
    made = raw.post("/v1/conversations", content=body)
    assert made.status_code == 200
    assert made.json().keys() == {"id", "object", "created_at", "metadata"}
    assert made.json()["metadata"] == {}
    items = raw.get(f"/v1/conversations/{made.json()['id']}/items").json()
    assert items == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_metadata_stay_unless_they_are_named(raw: httpx2.Client) -> None:
    path = f"/v1/conversations/{raw.post('/v1/conversations', json={'metadata': {'a': 'b'}}).json()['id']}"
    assert raw.post(path, json={"other": 1}).json()["metadata"] == {"a": "b"}
    assert raw.post(path, json={"metadata": None}).json()["metadata"] == {}


@pytest.mark.parametrize(
    ("metadata", "code", "param"),
    [
        ([], "invalid_type", "metadata"),
        ({"a": 1}, "invalid_type", "metadata.a"),
        ({"a": None}, "invalid_type", "metadata.a"),
        ({"a": {"b": "c"}}, "invalid_type", "metadata.a"),
        ({str(n): "" for n in range(17)}, "invalid_value", "metadata"),
        ({"k" * 65: ""}, "invalid_value", "metadata"),
        ({"": "v"}, "invalid_value", "metadata"),
        ({"k": "v" * 513}, "invalid_value", "metadata.k"),
    ],
)
def test_metadata_are_a_small_flat_map_of_strings(
    raw: httpx2.Client, metadata: Any, code: str, param: str
) -> None:
    refused(raw.post("/v1/conversations", json={"metadata": metadata}), 400, code, param)
    assert not Session.objects.exists()
    most = {f"{n:064}": "v" * 512 for n in range(16)}
    assert raw.post("/v1/conversations", json={"metadata": most}).json()["metadata"] == most


def test_ones_own_conversations_are_listed_the_newest_first(raw: httpx2.Client, bob_key: str) -> None:
    made = [raw.post("/v1/conversations", json={}).json()["id"] for _ in range(5)]
    with httpx2.Client(
        base_url=raw.base_url, headers={"Authorization": f"Bearer {bob_key}"}, timeout=60
    ) as bobs:
        assert bobs.get("/v1/conversations").json()["data"] == []
        refused(bobs.get(f"/v1/conversations?after={made[0]}"), 404, None, "after")

    def walked(order: str) -> list[str]:
        found: list[str] = []
        while True:
            after = f"&after={found[-1]}" if found else ""
            page = raw.get(f"/v1/conversations?limit=2&order={order}{after}").json()
            found += [entry["id"] for entry in page["data"]]
            if not page["has_more"]:
                return found

    assert walked("desc") == made[::-1]
    assert walked("asc") == made


# Items in every form.


def test_plain_text_is_normalised_and_stored_as_text(alices: OpenAI, raw: httpx2.Client) -> None:
    sent = [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": [{"type": "input_text", "text": "Be short."}], "type": "message"},
        user("Hi"),
        {"role": "assistant", "content": "Hello"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Again", "annotations": []}]},
    ]
    conversation = new(alices, *sent)
    shown = listed(raw, conversation)
    assert [(item["role"], item["content"]) for item in shown] == [
        ("system", [{"type": "input_text", "text": "Be kind."}]),
        ("developer", [{"type": "input_text", "text": "Be short."}]),
        ("user", [{"type": "input_text", "text": "Hi"}]),
        ("assistant", [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]),
        ("assistant", [{"type": "output_text", "text": "Again", "annotations": [], "logprobs": []}]),
    ]
    assert all(item["status"] == "completed" and item["id"].startswith("msg_") for item in shown)
    assert list(shown[0]) == ["id", "type", "role", "status", "content"]
    assert set(Message.objects.values_list("item", flat=True)) == {None}


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (CALL, {**CALL, "status": "completed"}),
        ({**REASONING, "encrypted_content": "x"}, {**REASONING, "encrypted_content": "x"}),
        ({"type": "reasoning", "encrypted_content": "x"}, {"summary": [], "encrypted_content": "x"}),
        ({"type": "compaction", "encrypted_content": "x"}, {"encrypted_content": "x"}),
        ({**user("Hi"), "content": [IMAGE]}, {"content": [{**IMAGE, "detail": "auto"}], "role": "user"}),
        ({**user("Hi"), "status": "incomplete"}, {"status": "incomplete"}),
        ({"role": "assistant", "content": "Hi", "phase": "commentary"}, {"phase": "commentary"}),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"content": [{"type": "refusal", "refusal": "No."}], "status": "completed"},
        ),
        (
            {"type": "web_search_call", "id": "ws_1", "status": "failed", "action": {"type": "search"}},
            {"id": "ws_1", "status": "failed", "action": {"type": "search"}},
        ),
        (
            {**CALL, "type": "custom_tool_call", "input": "x", "beyond": [{"a": 1.5}]},
            {"beyond": [{"a": 1.5}]},
        ),
        ({"type": "program", "call_id": "c", "code": "x", "fingerprint": "f"}, {"fingerprint": "f"}),
        ({"type": "configuration_update", "x": [10**400, 1.5]}, {"x": [10**400, 1.5]}),
        ({"type": "mcp_call", "server_label": "s", "name": "n", "arguments": "{}"}, {"name": "n"}),
        ({"type": "local_shell_call_output", "id": "x", "output": "o"}, {"id": "x", "output": "o"}),
    ],
)
def test_other_items_are_kept_with_all_that_they_hold(
    alices: OpenAI, raw: httpx2.Client, item: dict[str, Any], shown: dict[str, Any]
) -> None:
    conversation = new(alices, item)
    alices.conversations.items.list(conversation)
    [found] = listed(raw, conversation)
    assert shown.items() <= found.items()
    assert found["type"] == item.get("type", "message")
    again = raw.get(f"/v1/conversations/{conversation}/items/{found['id']}")
    assert again.json() == found


def test_a_tool_pair_is_kept_and_a_call_takes_its_output_along(alices: OpenAI) -> None:
    conversation = new(alices, user("Weather?"), CALL)
    added = alices.conversations.items.create(conversation, items=[OUTPUT, user("Thanks")])  # type: ignore[list-item]
    assert [item.type for item in added.data] == ["function_call_output", "message"]
    assert (added.first_id, added.last_id, added.has_more) == (added.data[0].id, added.data[1].id, False)
    roles = list(Message.objects.order_by("position").values_list("role", "name"))
    assert roles == [("user", ""), ("assistant", "weather"), ("tool", ""), ("user", "")]
    call = str(alices.conversations.items.list(conversation, order="asc").data[1].id)
    after = alices.conversations.items.delete(call, conversation_id=conversation)
    assert (after.id, after.object) == (conversation, "conversation")
    assert texts(alices, conversation) == ["Weather?", "Thanks"]
    assert broken(session_of(conversation)) == []


def test_a_tool_pair_is_taken_back_half_by_half(alices: OpenAI) -> None:
    conversation = new(alices, user("Weather?"), CALL, OUTPUT)
    for left in (["message", "function_call"], ["message"]):
        newest = alices.conversations.items.list(conversation, limit=1).data[0]
        alices.conversations.items.delete(str(newest.id), conversation_id=conversation)
        found = alices.conversations.items.list(conversation, order="asc").data
        assert [item.type for item in found] == left
        assert broken(session_of(conversation)) == []


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        (1, "invalid_type", "items[0]"),
        (None, "invalid_type", "items[0]"),
        ([], "invalid_type", "items[0]"),
        ({}, "missing_required_parameter", "items[0].type"),
        ({"type": 1}, "invalid_type", "items[0].type"),
        ({"type": [], "id": "msg_1"}, "invalid_type", "items[0].type"),
        ({"type": "novel"}, "invalid_value", "items[0].type"),
        ({"type": "item_reference"}, "invalid_value", "items[0].type"),
        ({"type": "message"}, "missing_required_parameter", "items[0].role"),
        ({"role": 1}, "invalid_type", "items[0].role"),
        ({"role": "tool", "content": "x"}, "invalid_value", "items[0].role"),
        ({"role": "critic", "content": "x"}, "invalid_value", "items[0].role"),
        ({"role": "user"}, "missing_required_parameter", "items[0].content"),
        ({"role": "user", "content": None}, "missing_required_parameter", "items[0].content"),
        ({"role": "user", "content": 5}, "invalid_type", "items[0].content"),
        ({"role": "user", "content": {}}, "invalid_type", "items[0].content"),
        ({"role": "user", "content": ["x"]}, "invalid_type", "items[0].content[0]"),
        ({"role": "user", "content": [{}]}, "missing_required_parameter", "items[0].content[0].type"),
        ({"role": "user", "content": [{"type": "x"}]}, "invalid_value", "items[0].content[0].type"),
        (
            {"role": "user", "content": [IMAGE, {"type": "input_text", "text": 1}]},
            "invalid_type",
            "items[0].content[1].text",
        ),
        ({"role": "user", "content": [{"type": "input_image"}]}, "invalid_value", "items[0].content[0]"),
        ({**user("x"), "status": "done"}, "invalid_value", "items[0].status"),
        ({**user("x"), "status": []}, "invalid_type", "items[0].status"),
        ({**user("x"), "id": 7}, "invalid_type", "items[0].id"),
        ({**user("x"), "id": "x"}, "invalid_value", "items[0].id"),
        ({**user("x"), "id": "msg_\n"}, "invalid_value", "items[0].id"),
        ({**user("x"), "id": "msg_" + "x" * 77}, "invalid_value", "items[0].id"),
        ({**CALL, "id": "msg_1"}, "invalid_value", "items[0].id"),
        ({**CALL, "arguments": {}}, "invalid_type", "items[0].arguments"),
        ({**CALL, "call_id": None}, "missing_required_parameter", "items[0].call_id"),
        ({**CALL, "call_id": ""}, "invalid_value", "items[0].call_id"),
        ({**CALL, "name": "n" * 201}, "invalid_value", "items[0].name"),
        ({**OUTPUT, "output": [5]}, "invalid_type", "items[0].output[0]"),
        (OUTPUT, "invalid_value", "items[0].call_id"),
        ({"type": "reasoning", "summary": []}, "invalid_item", "item"),
        ({**REASONING, "summary": [{"type": "summary_text"}]}, "missing_required_parameter", None),
        ({"type": "configuration_update", "x": [[]] * 2 + [1e999]}, "invalid_value", "items[0].x[2]"),
    ],
)
def test_what_is_no_item_is_refused_with_its_place(
    raw: httpx2.Client, item: Any, code: str, param: str | None
) -> None:
    path = f"/v1/conversations/{raw.post('/v1/conversations').json()['id']}/items"
    body = json.dumps({"items": [item]}).replace("Infinity", "1e999")
    answer = raw.post(path, content=body)
    refused(answer, 400, code, param or answer.json()["error"]["param"])
    refused(raw.post("/v1/conversations", content=body), 400, code, answer.json()["error"]["param"])
    assert (Message.objects.count(), Session.objects.count()) == (0, 1)


def test_one_item_that_is_wrong_keeps_all_of_them_out(raw: httpx2.Client) -> None:
    answer = raw.post("/v1/conversations", json={"items": [user("Hi"), {**user("x"), "id": "x"}]})
    message = refused(answer, 400, "invalid_value", "items[1].id")
    assert message == "Invalid 'items[1].id': 'x'. Expected an ID that begins with 'msg'."
    assert not Session.objects.exists()
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([], "invalid_value"),
        (None, "missing_required_parameter"),
        ({}, "invalid_type"),
        ("Hi", "invalid_type"),
        ([user("x")] * 21, "invalid_value"),
    ],
)
def test_one_to_twenty_items_are_added_at_once(raw: httpx2.Client, items: Any, code: str) -> None:
    path = f"/v1/conversations/{raw.post('/v1/conversations').json()['id']}/items"
    refused(raw.post(path, json={"items": items}), 400, code, "items")
    assert raw.post(path, json={"items": [user("x")] * 20}).status_code == 200
    assert Message.objects.count() == 20
    refused(raw.post("/v1/conversations", json={"items": [user("x")] * 21}), 400, "invalid_value", "items")


# Ids that are known.


def test_a_known_id_links_the_stored_item(alices: OpenAI) -> None:
    first = new(alices, named("the real words", "msg_1"))
    Message.objects.update(recallable=False)
    second = new(alices, user("before"), named("other words", "msg_1"), user("behind"))
    assert texts(alices, second) == ["before", "the real words", "behind"]
    assert list(Message.objects.order_by("id").values_list("recallable", flat=True)) == [
        False,
        True,
        False,
        True,
    ]
    third = new(alices, {"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"})
    assert texts(alices, third) == ["the real words"]
    alices.conversations.delete(first)
    alices.conversations.items.delete("msg_1", conversation_id=second)
    assert texts(alices, third) == ["the real words"]


def test_an_id_named_twice_in_one_request_is_one_item(alices: OpenAI) -> None:
    conversation = new(alices)
    twice = [named("once", "msg_1"), user("between"), named("twice", "msg_1")]
    added = alices.conversations.items.create(conversation, items=twice)
    assert [item.id == "msg_1" for item in added.data] == [True, False, True]
    assert texts(alices, conversation) == ["once", "between"]


def test_an_item_is_in_a_conversation_once(alices: OpenAI, raw: httpx2.Client) -> None:
    conversation = new(alices, named("Hi", "msg_1"))
    path = f"/v1/conversations/{conversation}/items"
    again = {"items": [user("new"), named("Hi", "msg_1")]}
    message = refused(raw.post(path, json=again), 400, "item_already_in_conversation", "items")
    assert message == "Item already in conversation"
    assert texts(alices, conversation) == ["Hi"]
    alices.conversations.items.delete("msg_1", conversation_id=conversation)
    assert raw.post(path, json=again).status_code == 200
    assert texts(alices, conversation) == ["new", "Hi"]


def test_nobody_links_what_is_anothers(alices: OpenAI, connect: Connect, bob_key: str) -> None:
    new(alices, named("her secret", "msg_1"))
    bobs = connect(bob_key)
    assert texts(bobs, new(bobs, named("his own", "msg_1"))) == ["his own"]
    for reference in ({"type": "item_reference", "id": "msg_2"}, {"id": "msg_2"}):
        new(alices, named("hers too", "msg_2"))
        with pytest.raises(openai.NotFoundError, match="Item with id 'msg_2' not found"):
            new(bobs, reference)


def test_where_an_end_user_is_named_only_theirs_is_linked(alices: OpenAI) -> None:
    carol = new(alices, named("carol's", "msg_1"), metadata={"user": "carol"})
    new(alices, named("nobody's", "msg_2"))
    # What nobody began goes on under a name that clients send by themselves, and under no other.
    with pytest.raises(openai.NotFoundError):
        new(alices, {"id": "msg_2"}, metadata={"user": "dave"})
    dave = new(alices, named("dave's", "msg_1"), {"id": "msg_2"}, extra_body={"user": "dave"})
    assert texts(alices, dave) == ["dave's", "nobody's"]
    assert texts(alices, new(alices, {"id": "msg_1"}, metadata={"user": "carol"})) == ["carol's"]
    # Whose a conversation is counts also where nobody is named again.
    alices.conversations.items.create(dave, items=[named("dave's again", "msg_3")])
    alices.conversations.items.create(carol, items=[named("carol's again", "msg_3")])
    assert texts(alices, carol) == ["carol's", "carol's again"]


# Lists.


def test_a_long_history_is_walked_in_both_orders(alices: OpenAI) -> None:
    conversation = new(alices)
    for start in range(0, 60, 20):
        some = [user(f"number {n}") for n in range(start, start + 20)]
        alices.conversations.items.create(conversation, items=some)
    numbers = [f"number {n}" for n in range(60)]
    assert texts(alices, conversation) == numbers
    assert texts(alices, conversation, order="desc", limit=7) == numbers[::-1]
    first = alices.conversations.items.list(conversation)
    assert len(first.data) == 20
    assert first.has_more
    last = alices.conversations.items.list(conversation, limit=40, order="asc", after=str(first.data[-1].id))
    assert (len(last.data), last.has_more, last.last_id) == (19, False, first.data[0].id)


@pytest.mark.parametrize(
    ("query", "status", "code", "param"),
    [
        ("limit=0", 400, "invalid_value", "limit"),
        ("limit=101", 400, "invalid_value", "limit"),
        ("limit=-1", 400, "invalid_value", "limit"),
        ("limit=ten", 400, "invalid_type", "limit"),
        ("limit=٣", 400, "invalid_type", "limit"),
        ("limit=" + "9" * 5000, 400, "invalid_type", "limit"),
        ("order=up", 400, "invalid_value", "order"),
        ("after=msg_none", 404, None, "after"),
        ("after=%00", 404, None, "after"),
        ("after=" + "x" * 5000, 404, None, "after"),
    ],
)
def test_a_page_that_cannot_be_is_refused(
    raw: httpx2.Client, query: str, status: int, code: str | None, param: str
) -> None:
    conversation = raw.post("/v1/conversations", json={"items": [user("Hi")]}).json()["id"]
    path = f"/v1/conversations/{conversation}/items"
    refused(raw.get(f"{path}?{query}"), status, code, param)
    refused(raw.get(f"/v1/conversations?{query}"), status, code, param)
    good = "limit=100&order=asc&after=&include[]=reasoning.encrypted_content&include=x&unknown=1&format=api"
    assert len(raw.get(f"{path}?{good}").json()["data"]) == 1


# Whose it is, and what else goes on.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ""),
        ("DELETE", ""),
        ("GET", "/items"),
        ("POST", "/items"),
        ("GET", "/items/msg_1"),
        ("DELETE", "/items/msg_1"),
    ],
)
def test_what_is_anothers_is_not_found(
    server: Server, alices: OpenAI, bob_key: str, method: str, path: str
) -> None:
    conversation = new(alices, named("Hi", "msg_1"))
    body = {"items": [user("mine")], "metadata": {}}
    with client_of(server, bob_key) as bobs:
        for id in (conversation, NOWHERE, "conv_x", "x", conversation.upper(), conversation[5:]):
            answer = bobs.request(method, f"/v1/conversations/{id}{path}", json=body)
            assert refused(answer, 404, None, "conversation_id") == f"Conversation with id '{id}' not found."
    assert texts(alices, conversation) == ["Hi"]


@pytest.mark.parametrize("item", ["msg_2", "%00", "x" * 5000, "%F0%9F%98%80"])
def test_an_unknown_item_is_not_found(alices: OpenAI, raw: httpx2.Client, item: str) -> None:
    path = f"/v1/conversations/{new(alices, {**user('Hi'), 'id': 'msg_1'})}/items"
    for method in ("GET", "DELETE"):
        refused(raw.request(method, f"{path}/{item}"), 404, None, None)
    assert raw.delete(f"{path}/msg_1").status_code == 200
    refused(raw.get(f"{path}/msg_1"), 404, None, None)


def test_a_conversation_is_one_session_on_every_surface(alices: OpenAI, raw: httpx2.Client) -> None:
    conversation = new(alices, user("I live in Trondheim"), metadata={"user": "carol", "topic": "x"})
    session = session_of(conversation)
    shown = raw.get(f"/api/v1/sessions/{session.pk}/").json()
    assert (shown["user"], shown["metadata"]) == ("carol", {"user": "carol", "topic": "x"})
    messages = [{"role": "assistant", "content": "Noted."}, {"role": "assistant", "item": CALL}]
    added = raw.post(f"/api/v1/sessions/{session.pk}/messages/", json={"messages": messages})
    assert added.status_code == 201
    assert [item.type for item in alices.conversations.items.list(conversation)] == [
        "function_call",
        "message",
        "message",
    ]
    theirs = raw.post("/api/v1/sessions/", json={}).json()["id"]
    assert alices.conversations.retrieve(f"conv_{theirs.replace('-', '')}").metadata == {}
    alices.conversations.delete(conversation)
    assert raw.get(f"/api/v1/sessions/{session.pk}/").status_code == 404


def test_what_is_deleted_is_gone_everywhere(alices: OpenAI) -> None:
    conversation = new(alices, named("my secret", "msg_1"), {"role": "assistant", "content": "Kept."})
    alices.conversations.items.delete("msg_1", conversation_id=conversation)
    assert texts(alices, conversation) == ["Kept."]
    row = Message.objects.get(position=1)
    assert (row.content, row.item, row.active) == ("", None, False)
    assert row.erased_at
    assert not IndexedMessage.objects.filter(message=row).exists()
    session = session_of(conversation)
    assert (session.message_count, session.epoch) == (1, 1)
    assert broken(session) == []


def test_an_answered_question_can_go_without_its_answer(alices: OpenAI, alice: AbstractBaseUser) -> None:
    session, _ = turns.store_session(turns.new_session(alice, ""))
    turn = Turn.objects.create(session=session, number=1, agent="assistant", status=Turn.Status.PARTIAL)
    reply = NewMessage(role="assistant", content="An answer that br", agent="assistant")
    history.append(session, [(turn, [NewMessage(role="user", content="Why?"), reply])])
    items = alices.conversations.items.list(f"conv_{session.pk.hex}").data
    assert [item.status for item in items] == ["incomplete", "completed"]  # type: ignore[union-attr]
    alices.conversations.items.delete(str(items[1].id), conversation_id=f"conv_{session.pk.hex}")
    assert texts(alices, f"conv_{session.pk.hex}") == ["An answer that br"]


def test_a_running_turn_keeps_its_conversation_to_itself(alices: OpenAI, raw: httpx2.Client) -> None:
    conversation = new(alices, named("Hi", "msg_1"))
    occupy(session_of(conversation))
    path = f"/v1/conversations/{conversation}"
    for answer in (
        raw.post(f"{path}/items", json={"items": [user("me, too")]}),
        raw.delete(f"{path}/items/msg_1"),
    ):
        refused(answer, 400, "conversation_locked", "conversation")
    assert texts(alices, conversation) == ["Hi"]
    assert alices.conversations.update(conversation, metadata={"a": "b"}).metadata == {"a": "b"}
    assert alices.conversations.delete(conversation).deleted
    assert not Turn.objects.exists()


def test_an_archived_conversation_takes_no_items(alices: OpenAI, raw: httpx2.Client) -> None:
    conversation = new(alices)
    Session.objects.update(state=Session.State.ARCHIVED)
    answer = raw.post(f"/v1/conversations/{conversation}/items", json={"items": [user("Hi")]})
    refused(answer, 400, "session_not_open", None)


@pytest.mark.parametrize(
    ("fields", "header", "person"),
    [
        ({}, "", ""),
        ({"user": "u"}, "", "u"),
        ({"user": "u", "safety_identifier": "s"}, "", "s"),
        ({"user": "u", "safety_identifier": "s", "metadata": {"user": "m"}}, "", "m"),
        ({"user": "u", "safety_identifier": "s", "metadata": {"user": "m"}}, "h", "h"),
        ({"user": "", "safety_identifier": None, "metadata": {"user": "m"}}, "", "m"),
    ],
)
def test_the_end_user_is_who_is_named_first(
    raw: httpx2.Client, fields: dict[str, Any], header: str, person: str
) -> None:
    made = raw.post("/v1/conversations", json=fields, headers={"X-Convo-User": header} if header else {})
    session = session_of(made.json()["id"])
    assert session.person.ref == person
    path = f"/v1/conversations/{made.json()['id']}"
    for name, status in (("somebody else", 404), (person, 200)):
        headers = {"X-Convo-User": name} if name else {}
        assert raw.get(path, headers=headers).status_code == status
        assert raw.post(f"{path}/items", json={"items": [user("Hi")]}, headers=headers).status_code == status


@pytest.mark.parametrize(
    "named", [{"user": 1}, {"user": "me"}, {"user": "x" * 256}, {"safety_identifier": []}]
)
def test_an_end_user_has_a_name(raw: httpx2.Client, named: dict[str, Any]) -> None:
    answer = raw.post("/v1/conversations", json=named)
    code = "invalid_value" if isinstance(next(iter(named.values())), str) else "invalid_type"
    refused(answer, 400, code, next(iter(named)))


def test_a_write_sent_twice_under_one_key_is_made_once(raw: httpx2.Client) -> None:
    def send(path: str, body: Any, key: str) -> httpx2.Response:
        return raw.post(path, json=body, headers={"Idempotency-Key": key})

    made = [send("/v1/conversations", {"items": [user("Hi")]}, "one").json() for _ in range(2)]
    assert made[0] == made[1]
    assert Session.objects.count() == 1
    path = f"/v1/conversations/{made[0]['id']}/items"
    added = [send(path, {"items": [user("me, too")]}, "two").json() for _ in range(2)]
    assert added[0] == added[1]
    assert Message.objects.count() == 2
    refused(send(path, {"items": [user("else")]}, "two"), 400, "idempotency_key_reused", "Idempotency-Key")
    for _ in range(2):
        refused(send(path, {"items": [{}]}, "three"), 400, "missing_required_parameter", "items[0].type")
    raw.delete(f"{path}/{added[0]['last_id']}")
    refused(send(path, {"items": [user("me, too")]}, "two"), 410, "deleted", "Idempotency-Key")


# The way in.


@pytest.mark.parametrize("key", ["", "wrong", "convo_x_y", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_without_a_key_nobody_comes_in(server: Server, key: str) -> None:
    headers = [(b"Authorization", f"Bearer {key}".encode("latin-1"))] if key else []
    with httpx2.Client(base_url=server.url, timeout=60) as stranger:
        for path in ("conversations", f"conversations/{NOWHERE}", "models", "embeddings"):
            answer = stranger.get(f"/v1/{path}", headers=headers)
            refused(answer, 401, "invalid_api_key", None)
            assert "x-should-retry" not in answer.headers


def test_every_v1_address_is_closed_to_strangers(server: Server) -> None:
    with httpx2.Client(base_url=server.url, timeout=60) as stranger:
        views = [
            (route, cast(Any, route.callback).cls) for route in urlpatterns if hasattr(route.callback, "cls")
        ]
        for route, view in views:
            assert issubclass(view, V1View)
            path = re.sub("<.+?>", "x", str(route.pattern))
            for method in view().allowed_methods:
                refused(stranger.request(method, f"/v1/{path}"), 401, "invalid_api_key", None)
    assert len(views) > 5


def test_a_key_does_what_its_scopes_allow(server: Server, alice: AbstractBaseUser) -> None:
    with client_of(server, ApiKey.objects.issue(alice, scopes=["read"])[1]) as reader:
        assert reader.get("/v1/conversations").status_code == 200
        refused(reader.post("/v1/conversations", json={}), 403, "insufficient_scope", None)


@pytest.mark.parametrize(
    "accept", ["text/html", "text/event-stream", "application/xml", "*/*", "", "nonsense"]
)
def test_the_answer_is_json_whatever_is_accepted(raw: httpx2.Client, accept: str) -> None:
    answer = raw.get("/v1/models", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    refused(raw.get("/v1/models/x", headers={"Accept": accept}), 404, "model_not_found", "model")


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_is_json_whatever_it_is_called(raw: httpx2.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    made = raw.post("/v1/conversations", content=b'{"metadata": {"a": "b"}}', headers=headers)
    assert made.json()["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "invalid_type"),
        (b'"x"', "invalid_type"),
        (b"{", "malformed_body"),
        (b"\xff", "malformed_body"),
        (b'{"a": NaN}', "malformed_body"),
        (b'{"a": 1, "a": 2}', "malformed_body"),
        (b'{"items": ' + b"[" * 100_000, "malformed_body"),
        (b'{"items": [{"role": "user", "content": "\\u0000"}]}', "invalid_value"),
        (b'{"items": [{"role": "user", "content": "\\ud83d"}]}', "invalid_value"),
        (b'{"metadata": {"\\u0000": "x"}}', "invalid_value"),
        (b'{"items": [{"type": "program", "x": ' + b"[" * 40 + b"]" * 40 + b"}]}", "invalid_value"),
    ],
)
def test_a_body_that_cannot_be_stored_is_refused(raw: httpx2.Client, body: bytes, code: str) -> None:
    answer = raw.post("/v1/conversations", content=body)
    refused(answer, 400, code, answer.json()["error"]["param"])
    assert not Session.objects.exists()


def test_every_script_comes_back_as_it_was_sent(alices: OpenAI) -> None:
    said = "🇳🇴 ħëłłø שלום 你好 👩‍👩‍👧 \u2028 \ufeff e\u0301 \x7f \t\n"
    conversation = new(alices, user(said), metadata={"ключ": "値 🙂"})
    assert texts(alices, conversation) == [said]
    assert alices.conversations.retrieve(conversation).metadata == {"ключ": "値 🙂"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing/", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/conversations//items", 404),
        ("PUT", "/v1/conversations", 405),
        ("DELETE", "/v1/conversations", 405),
        ("PATCH", f"/v1/conversations/{NOWHERE}", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/embeddings", 405),
    ],
)
def test_a_wrong_address_is_told_in_the_envelope(
    raw: httpx2.Client, method: str, path: str, status: int
) -> None:
    code = "method_not_allowed" if status == 405 else None
    refused(raw.request(method, path, content=b"{}"), status, code, None)


def test_a_slash_too_many_changes_nothing(raw: httpx2.Client) -> None:
    made = raw.post("/v1/conversations/", json={"items": [user("Hi")]})
    assert made.status_code == 200
    assert made.headers["x-request-id"].startswith("req_")
    assert len(raw.get(f"/v1/conversations/{made.json()['id']}/items/?limit=1").json()["data"]) == 1


def test_head_and_options_are_answered(raw: httpx2.Client) -> None:
    for method in ("HEAD", "OPTIONS"):
        answer = raw.request(method, "/v1/conversations")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["x-request-id"].startswith("req_")
    refused(
        raw.post("/v1/models", headers={"Content-Type": "application/json; charset=utf-7"}),
        415,
        "unsupported_media_type",
        None,
    )


# Models and embeddings.


def test_agents_and_models_are_listed(connect: Connect, alice_key: str) -> None:
    client = connect(alice_key)
    found = {model.id: model.owned_by for model in client.models.list()}
    assert found["offline"] == "convo"
    name = next(id for id in found if id.startswith("agent/"))
    assert client.models.retrieve(name).id == name
    for wrong in ("nothing", "a/b/c", "agent/nobody"):
        with pytest.raises(openai.NotFoundError) as told:
            client.models.retrieve(wrong)
        assert (told.value.code, told.value.param) == ("model_not_found", "model")


def test_a_models_name_may_hold_slashes(share: Serve, alice_key: str) -> None:
    server = share(OPENAI_API_KEY="k", CONVO_MODEL="meta/llama:3/chat")
    with OpenAI(base_url=f"{server.url}/v1", api_key=alice_key, _strict_response_validation=True) as client:
        assert client.models.retrieve("meta/llama:3/chat").owned_by == "upstream"


def test_vectors_are_the_same_in_both_encodings(alices: OpenAI, raw: httpx2.Client) -> None:
    # Strict, the client checks its own base64 before it has decoded it.
    words = ["a boat on a lake", "a ship at sea", "tax law"]
    with OpenAI(base_url=str(alices.base_url), api_key=alices.api_key, max_retries=0) as relaxed:
        decoded = relaxed.embeddings.create(input=words, model="any")
    plain = alices.embeddings.create(input=words, model="any", encoding_format="float")
    assert [entry.index for entry in decoded.data] == [0, 1, 2]
    for one, other in zip(decoded.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    boat, ship, tax = (entry.embedding for entry in plain.data)
    assert sum(map(float.__mul__, boat, ship)) > sum(map(float.__mul__, boat, tax))
    assert plain.model == "wordllama-256"
    assert plain.usage.total_tokens > 0
    short = alices.embeddings.create(input="a boat", model="any", dimensions=64, encoding_format="float")
    assert sum(value * value for value in short.data[0].embedding) == pytest.approx(1)
    assert len(short.data[0].embedding) == 64
    sent = raw.post("/v1/embeddings", json={"input": "x", "model": "m", "encoding_format": "base64"})
    assert isinstance(sent.json()["data"][0]["embedding"], str)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": None}, "missing_required_parameter", "input"),
        ({"model": None}, "missing_required_parameter", "model"),
        ({"model": 1}, "invalid_type", "model"),
        ({"input": 1}, "invalid_type", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": ["a", ""]}, "invalid_value", "input[1]"),
        ({"input": ["a"] * 2049}, "invalid_value", "input"),
        ({"input": ["a", None]}, "invalid_type", "input[1]"),
        ({"input": [1, 2]}, "invalid_value", "input"),
        ({"input": [[1, 2]]}, "invalid_value", "input"),
        ({"encoding_format": "hex"}, "invalid_value", "encoding_format"),
        ({"dimensions": 0}, "invalid_value", "dimensions"),
        ({"dimensions": 257}, "invalid_value", "dimensions"),
        ({"dimensions": True}, "invalid_type", "dimensions"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    raw: httpx2.Client, fields: dict[str, Any], code: str, param: str
) -> None:
    answer = raw.post("/v1/embeddings", json={"input": "text", "model": "m", **fields})
    refused(answer, 400, code, param)
