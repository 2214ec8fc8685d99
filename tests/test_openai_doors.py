"""Whose objects a /v1 request may name: every route and body, for each kind of stranger (Review 11)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import httpx2
import pytest

from convo import turns
from convo.models import Session
from convo.openai_api.urls import urlpatterns
from tests.servers import Server, client_of
from tests.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

SECRET = "the locker is number 12"
MODEL = "words-2"
UNKNOWN = {
    "conversation": "conv_" + "0" * 32,
    "item": "msg_unknown_1",
    "response": "resp_" + "0" * 32,
    "said": "msg_unknown_2",
    "asked": "msg_unknown_3",
    "completion": "chatcmpl-" + "0" * 32,
}


@dataclass(frozen=True)
class Call:
    """A request that names an object of somebody's: {conversation}, {item}, {response} … are its ids."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(
        self, client: httpx2.Client, ids: Mapping[str, str], person: str | None, fields: Mapping[str, Any]
    ) -> httpx2.Response:
        """The answer, with these ids in their places, for this person, and with these fields in the body."""
        body: Any = None if self.body is None else json.loads(_filled(json.dumps(self.body), ids))
        for name, value in fields.items():
            body[name] = {**body.get(name, {}), **value} if isinstance(value, dict) else value
        headers = {name: _filled(value, ids) for name, value in self.headers.items()}
        if person is not None:
            headers["X-Convo-User"] = person
        return client.request(self.method, f"/v1/{_filled(self.path, ids)}", json=body, headers=headers)


def _filled(text: str, ids: Mapping[str, str]) -> str:
    for name, id in ids.items():
        text = text.replace(f"{{{name}}}", id)
    return text


def _asks(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "hello", **fields}


# Ids in addresses. What deletes stands last: the owner's own calls are made in this order.
ADDRESSES = [
    Call("GET", "conversations?after={conversation}"),
    Call("GET", "conversations/{conversation}"),
    Call("POST", "conversations/{conversation}", {"metadata": {"topic": "mine"}}),
    Call("GET", "conversations/{conversation}/items"),
    Call("GET", "conversations/{conversation}/items?after={item}"),
    Call("POST", "conversations/{conversation}/items", {"items": [{"role": "user", "content": "mine"}]}),
    Call("GET", "conversations/{conversation}/items/{item}"),
    Call("GET", "responses/{response}"),
    Call("GET", "responses/{response}?stream=true"),
    Call("GET", "responses/{response}/input_items"),
    Call("GET", "responses/{response}/input_items?after={asked}"),
    Call("GET", "responses/{response}/context"),
    Call("POST", "responses/{response}/cancel"),
    Call("GET", "chat/completions?after={completion}"),
    Call("GET", "chat/completions/{completion}"),
    Call("POST", "chat/completions/{completion}", {"metadata": {"topic": "mine"}}),
    Call("GET", "chat/completions/{completion}/messages"),
]
DELETIONS = [
    Call("DELETE", "chat/completions/{completion}"),
    Call("DELETE", "responses/{response}"),
    Call("DELETE", "conversations/{conversation}/items/{item}"),
    Call("DELETE", "conversations/{conversation}"),
]
_REFERENCES = [
    {"type": "item_reference", "id": "{item}"},
    {"id": "{item}"},
    {"type": "item_reference", "id": "{said}"},
]
_NAMED: list[dict[str, Any]] = [
    {"previous_response_id": "{response}"},
    {"conversation": "{conversation}", "on_busy": "queue"},
    {"conversation": {"id": "{conversation}"}, "on_busy": "queue"},
    *({"input": [reference]} for reference in _REFERENCES),
]
# Ids in bodies and headers.
BODIES = [
    *(Call("POST", "responses", _asks(**named)) for named in _NAMED),
    *(Call("POST", "responses", _asks(**named, stream=True)) for named in _NAMED),
    *(Call("POST", "responses", _asks(**named, background=True)) for named in _NAMED),
    *(Call("POST", "responses", _asks(**named, store=False)) for named in _NAMED),
    *(Call("POST", "responses/input_tokens", _asks(**named)) for named in _NAMED),
    *(Call("POST", "responses/compact", _asks(**named)) for named in _NAMED),
    *(Call("POST", "conversations", {"items": [reference]}) for reference in _REFERENCES),
    # In a conversation of the caller's own, an item of another's.
    *(Call("POST", "conversations/{own}/items", {"items": [reference]}) for reference in _REFERENCES[1:]),
    Call("POST", "responses", _asks(conversation="{other}", input=[_REFERENCES[0]])),
    Call(
        "POST",
        "chat/completions",
        {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "on_busy": "queue"},
        {"X-Convo-Session": "{conversation}"},
    ),
    Call(
        "POST",
        "chat/completions",
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hello"}],
            "metadata": {"session_id": "{conversation}"},
            "on_busy": "queue",
        },
    ),
]
# These name nothing that is anybody's.
NAMELESS = {("GET", "models"), ("GET", "models/<path:model>"), ("POST", "embeddings")}


@pytest.fixture
def alice(server: Server, alice_key: str) -> Iterator[httpx2.Client]:
    with client_of(server, alice_key) as client:
        yield client


@pytest.fixture
def bob(server: Server, bob_key: str) -> Iterator[httpx2.Client]:
    with client_of(server, bob_key) as client:
        yield client


def objects_of(client: httpx2.Client, person: str) -> dict[str, str]:
    """One object of each kind, made for this end user; '' is nobody."""
    headers = {"X-Convo-User": person} if person else {}

    def made(path: str, body: Any) -> Any:
        answer = client.post(f"/v1/{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    item = {"role": "user", "content": SECRET, "id": f"msg_of_{person or 'nobody'}"}
    conversation = made("conversations", {"items": [item]})["id"]
    response = made("responses", {"model": MODEL, "input": SECRET, "background": True})["id"]
    client.get(f"/v1/responses/{response}?stream=true", headers=headers).read()
    whole = client.get(f"/v1/responses/{response}", headers=headers).json()
    asked = client.get(f"/v1/responses/{response}/input_items", headers=headers).json()["first_id"]
    said = {"model": MODEL, "messages": [{"role": "user", "content": SECRET}], "store": True}
    return {
        "conversation": conversation,
        "item": item["id"],
        "response": response,
        "said": whole["output"][0]["id"],
        "asked": asked,
        "completion": made("chat/completions", said)["id"],
    }


def conversations_of(client: httpx2.Client, person: str | None, fields: Mapping[str, Any]) -> dict[str, str]:
    """Two empty conversations of whom these name: what is put into one isn't in the other."""
    call = Call("POST", "conversations", {})
    return {name: str(call.send(client, {}, person, fields).json()["id"]) for name in ("own", "other")}


def told(answer: httpx2.Response, ids: Mapping[str, str]) -> tuple[int, str]:
    """What an answer says, without the ids that the request named."""
    text = answer.text
    for name, id in ids.items():
        text = text.replace(id, name)
    return answer.status_code, text


def test_the_matrix_has_every_route_of_v1_with_every_method() -> None:
    taken = {
        (method, str(route.pattern))
        for route in urlpatterns
        if hasattr(route.callback, "cls")
        for method in cast(Any, route.callback).cls().allowed_methods
        if method != "OPTIONS"
    }
    entered = {(call.method, call.path.split("?")[0]) for call in (*ADDRESSES, *DELETIONS, *BODIES)}
    named = {
        "{conversation}": "<str:id>",
        "{own}": "<str:id>",
        "{response}": "<str:id>",
        "{completion}": "<str:id>",
    }
    places = set()
    for method, path in entered:
        for ours, theirs in {**named, "{item}": "<str:item_id>"}.items():
            path = path.replace(ours, theirs)
        places.add((method, path))
    assert taken == places | NAMELESS


@pytest.mark.parametrize(
    ("theirs", "key", "person", "fields"),
    [
        ("", "bob", None, {}),
        ("kim", "bob", None, {}),
        ("kim", "bob", "kim", {}),
        ("kim", "alice", "lee", {}),
        ("", "alice", "lee", {}),
        ("kim", "alice", None, {"metadata": {"user": "lee"}}),
        ("", "alice", None, {"metadata": {"user": "lee"}}),
        ("kim", "alice", None, {"user": "lee"}),
    ],
    ids=[
        "another owner, nobody's",
        "another owner, a person's",
        "another owner, a person of that name",
        "another person, by the header",
        "nobody's, by the header",
        "another person, by the metadata",
        "nobody's, by the metadata",
        "another person, by the user field",
    ],
)
def test_what_is_anothers_reads_as_if_it_did_not_exist(
    theirs: str,
    key: str,
    person: str | None,
    fields: dict[str, Any],
    alice: httpx2.Client,
    bob: httpx2.Client,
    upstream: Upstream,
) -> None:
    stranger, ids = {"alice": alice, "bob": bob}[key], objects_of(alice, theirs)
    own = conversations_of(stranger, person, fields)
    ids, missing, wrong = {**ids, **own}, {**UNKNOWN, **own}, {}
    upstream.forget()
    # A field names somebody in a body only.
    for call in BODIES if fields else [*ADDRESSES, *BODIES, *DELETIONS]:
        foreign = call.send(stranger, ids, person, fields)
        unknown = call.send(stranger, missing, person, fields)
        if told(foreign, ids) != told(unknown, missing) or foreign.status_code not in {400, 404}:
            wrong[f"{call.method} {call.path} {call.body}"] = told(foreign, ids)
    assert wrong == {}
    assert upstream.heard == []


@pytest.mark.parametrize(
    ("theirs", "person", "fields"),
    [
        ("", None, {}),
        ("kim", None, {}),
        ("kim", "kim", {}),
        ("kim", None, {"metadata": {"user": "kim"}}),
        ("kim", None, {"user": "kim"}),
        ("", None, {"user": "lee"}),
        ("", None, {"safety_identifier": "lee"}),
    ],
    ids=[
        "the owner, nobody's",
        "the owner, a person's",
        "the person, by the header",
        "the person, by the metadata",
        "the person, by the user field",
        "nobody's, by the user field",
        "nobody's, by the safety identifier",
    ],
)
def test_what_is_ones_own_is_found_by_the_same_requests(
    theirs: str, person: str | None, fields: dict[str, Any], alice: httpx2.Client
) -> None:
    ids = {**objects_of(alice, theirs), **conversations_of(alice, person, fields)}
    for call in [*ADDRESSES, *BODIES, *DELETIONS]:
        answer = call.send(alice, ids, person, fields if call in BODIES else {})
        assert answer.status_code == 200, (call, answer.text)


@pytest.mark.parametrize("named", [{"X-Convo-User": "lee"}, {}], ids=["by the header", "by the metadata"])
def test_an_item_under_an_id_of_nobodys_says_what_was_sent(
    named: dict[str, str], alice: httpx2.Client, upstream: Upstream
) -> None:
    ids = objects_of(alice, "")
    item = {"role": "user", "content": "a tree", "id": ids["item"]}
    fields = {} if named else {"metadata": {"user": "lee"}}
    # The owner, who names nobody, gets the item that is stored.
    for whose, more, heard in (({}, {}, SECRET), (named, fields, "a tree")):
        body = {"model": MODEL, "input": [item], **more}
        assert alice.post("/v1/responses", json=body, headers=whose).status_code == 200
        assert [message["content"] for message in upstream.last["messages"]] == [heard]
        made = alice.post("/v1/conversations", json={"items": [item], **more}, headers=whose).json()
        assert heard in alice.get(f"/v1/conversations/{made['id']}/items").text


@pytest.mark.parametrize("path", ["conversations", "chat/completions"])
def test_a_list_for_an_end_user_shows_nobodys_objects_to_nobody_else(path: str, alice: httpx2.Client) -> None:
    objects_of(alice, "")
    for headers, count in (({}, 1), ({"X-Convo-User": "lee"}, 0)):
        assert len(alice.get(f"/v1/{path}", headers=headers).json()["data"]) == count


def test_an_item_of_a_conversation_that_was_deleted_is_not_read(alice: httpx2.Client) -> None:
    """Between its deletion on the page and the end of the time in which it may come back."""
    ids = objects_of(alice, "")
    item = {"role": "user", "content": "kept", "id": "msg_kept"}
    alice.post("/v1/conversations", json={"items": [item]})
    turns.discard(Session.objects.get(pk=UUID(ids["conversation"].removeprefix("conv_"))))
    for id, status in ((ids["item"], 404), ("msg_kept", 200)):
        named = {"model": MODEL, "input": [{"type": "item_reference", "id": id}]}
        assert alice.post("/v1/responses", json=named).status_code == status
