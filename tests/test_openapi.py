"""Whatever an operation of the OpenAPI document is called with, it answers as the document says."""

import gzip
import json
import socket
from collections import Counter
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import httpx2
import pytest
from django.test import Client
from drf_spectacular.settings import patched_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.conftest import Serve
from tests.servers import client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

Schema = dict[str, Any]
Known = dict[str, str]

EXAMPLES = settings(
    max_examples=7, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
# As many are answered with what they are for; an odd call of each is refused.
ANSWERED = 45
FAR = 10**400
LONG = "x" * 3000
ODD_VALUES = [None, True, 0, -1, 0.5, 2**31, 2**63, FAR, 1e308, "", " ", "\0", "\ud83d", "a/b", "💧", LONG]
ODD_PLACES = ["-1", "0", str(FAR), "%2e%2e", "a b", "conv_0", "resp_0", "msg_", "agent/nobody", "💧", LONG]
ODD_BODIES = [b"", b"{", b"null", b"[]", b'"a"', b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 50_000]
ODD_TYPES = ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "none"]
ODD_HEADERS = [
    {"Accept": "image/png"},
    {"Accept": "text/event-stream"},
    {"X-Convo-User": "somebody"},
    {"X-Convo-User": "x" * 300},
    {"Idempotency-Key": "the same everywhere"},
    {"Idempotency-Key": "x" * 300},
]


class Operation(NamedTuple):
    """One operation of the document: what it takes, and how it may answer."""

    method: str
    path: str
    needed: dict[str, Schema]
    asked: dict[str, Schema]
    body: Schema | None
    statuses: set[int]


class Call(NamedTuple):
    """What an operation is called with."""

    path: str
    asked: dict[str, str]
    content: bytes
    headers: dict[str, str]


def operations(document: Schema) -> list[Operation]:
    """All that it has; those that delete come last, so that the others find something."""
    found = []
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            told = [entry for entry in call.get("parameters", []) if entry["in"] == "query"]
            needed = {entry["name"]: entry["schema"] for entry in told if entry.get("required")}
            asked = {entry["name"]: entry["schema"] for entry in told if not entry.get("required")}
            body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            statuses = {int(status) for status in call["responses"]}
            found.append(Operation(method.upper(), path, needed, asked, body, statuses))
    # What lies in something else is deleted before it.
    return sorted(found, key=lambda one: -len(one.path) if one.method == "DELETE" else -1000)


class Guesses:
    """Calls that fit the document nearly: here and there something else stands in the place of a value."""

    def __init__(self, document: Schema, known: Known) -> None:
        self._named, self._known = document["components"]["schemas"], known

    def calls(self, operation: Operation) -> SearchStrategy[Call]:
        needed = {name: self._value(schema).map(as_text) for name, schema in operation.needed.items()}
        asked = {name: self._value(schema).map(as_text) for name, schema in operation.asked.items()}
        content = st.just(b"")
        if operation.body is not None:
            content = mostly(self._value(operation.body).map(as_json), st.sampled_from(ODD_BODIES))
        return st.builds(
            Call,
            self._path(operation.path),
            st.fixed_dictionaries(needed, optional=asked),
            content,
            mostly(st.just({}), st.sampled_from(ODD_HEADERS)),
        )

    def _path(self, path: str) -> SearchStrategy[str]:
        """The address of something that is there; of something else, now and then."""
        places = [name for name in self._known if f"{{{name}}}" in path]
        right = {name: self._known[name] for name in places}
        values = {
            name: mostly(
                st.just(quote(value)), st.sampled_from(ODD_PLACES).map(lambda odd: quote(odd, safe=""))
            )
            for name, value in right.items()
        }
        return st.fixed_dictionaries(values).map(lambda given: filled(path, given))

    def _value(self, schema: Schema) -> SearchStrategy[Any]:
        return mostly(self._fitting(schema), st.sampled_from(ODD_VALUES) | st.text(max_size=3))

    def _fitting(self, schema: Schema) -> SearchStrategy[Any]:
        if "$ref" in schema:
            return self._fitting(self._named[schema["$ref"].rpartition("/")[2]])
        for several in ("oneOf", "anyOf", "allOf"):
            if several in schema:
                return st.one_of([self._fitting(entry) for entry in schema[several]])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kind = schema.get("type", "string")
        if kind == "array":
            return st.lists(self._value(schema["items"]), min_size=1, max_size=2)
        return self._object(schema) if kind == "object" else PLAIN[kind]

    def _object(self, schema: Schema) -> SearchStrategy[Any]:
        inner = {name: self._value(entry) for name, entry in schema.get("properties", {}).items()}
        needed = {name: inner.pop(name) for name in schema.get("required", []) if name in inner}
        if needed or inner:
            return st.fixed_dictionaries(needed) | st.fixed_dictionaries(needed, optional=inner)
        is_map = isinstance(schema.get("additionalProperties"), dict)
        return st.just({"a": "b"} if is_map else {"role": "user", "content": "hello"})


PLAIN: dict[str, SearchStrategy[Any]] = {
    "string": st.sampled_from(["a", "hello there"]),
    "integer": st.integers(1, 3),
    "number": st.sampled_from([0, 0.5, 1]),
    "boolean": st.booleans(),
}


def mostly(right: SearchStrategy[Any], odd: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda chance: right if chance else odd)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_text(value: Any) -> str:
    return str(value).encode(errors="replace").decode()


def filled(path: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def world(client: httpx2.Client) -> dict[str, Known]:
    """Something of everything, and under what names the operations of each API find it."""

    def made(path: str, **body: Any) -> Any:
        answer = client.post(path, json=body)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()

    session = made("/api/v1/query/", message="hello")["session"]
    conversation = made("/v1/conversations", items=[{"role": "user", "content": "hello"}])["id"]
    response = made("/v1/responses", model="a", input="hello", background=True)["id"]
    messages = [{"role": "user", "content": "hello"}]
    completion = made("/v1/chat/completions", model="a", messages=messages, store=True)["id"]
    item = client.get(f"/v1/conversations/{conversation}/items").json()["data"][0]["id"]
    model = client.get("/v1/models").json()["data"][0]["id"]
    memory = made("/api/v1/memories/", text="Likes tea.")["id"]
    return {
        "/api/v1/sessions/": {"id": session, "session": session, "position": "1", "number": "1"},
        "/api/v1/memories/": {"id": memory},
        "/v1/conversations": {"id": conversation, "item_id": item},
        "/v1/responses": {"id": response},
        "/v1/chat/completions": {"id": completion},
        "/v1/models": {"model": model},
        "": {},
    }


def told(answer: httpx2.Response) -> None:
    """Assert that a refusal is one that its API's clients can read."""
    if answer.url.path.startswith("/v1/"):
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["content-type"].startswith(("application/json", "text/event-stream"))
    if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, answer.text


def succeeds(client: httpx2.Client, operation: Operation, call: Call) -> bool:
    """Does the operation do what it is for? It must answer as the document says in any case."""
    kind = {} if operation.body is None else {"Content-Type": "application/json"}
    answer = client.request(
        operation.method,
        call.path,
        params=call.asked,
        content=call.content,
        headers={**kind, **call.headers},
    )
    assert answer.status_code < 500, (operation.method, call, answer.text)
    assert answer.status_code in operation.statuses, (operation.method, call, answer.text)
    told(answer)
    return answer.is_success


def successes(client: httpx2.Client, operation: Operation, calls: SearchStrategy[Call]) -> int:
    """How many of a few calls succeed."""
    found = 0

    @settings(EXAMPLES, phases=[Phase.generate])
    @given(calls)
    def check(call: Call) -> None:
        nonlocal found
        found += succeeds(client, operation, call)

    check()
    return found


def test_every_operation_answers_as_the_document_says(share: Serve, alice_key: str) -> None:
    with client_of(share(CONVO_OFFLINE_WORD_SECONDS="0"), alice_key) as client:
        document = client.get("/api/schema/", params={"format": "json"}).json()
        worlds, well = world(client), Counter[str]()
        for operation in operations(document):
            known = next(known for start, known in worlds.items() if operation.path.startswith(start))
            calls = Guesses(document, known).calls(operation)
            well[f"{operation.method} {operation.path}"] = successes(client, operation, calls)
            for kind in ODD_TYPES if operation.body is not None else ():
                path = filled(operation.path, known)
                assert not succeeds(client, operation, Call(path, {}, b"a", {"Content-Type": kind}))
    assert sum(count > 0 for count in well.values()) >= ANSWERED, well


def test_options_tells_the_methods_of_every_address(share: Serve, alice_key: str) -> None:
    with client_of(share(CONVO_OFFLINE_WORD_SECONDS="0"), alice_key) as client:
        document = client.get("/api/schema/", params={"format": "json"}).json()
        for path, calls in document["paths"].items():
            answer = client.options(filled(path, dict.fromkeys(["id", "session", "number", "position"], "1")))
            assert answer.status_code == 200, (path, answer.text)
            allowed = {method.strip().lower() for method in answer.headers["allow"].split(",")}
            assert set(calls) <= allowed, (path, allowed)


def test_what_has_no_content_has_none_as_events_either(share: Serve, alice_key: str) -> None:
    server = share(CONVO_OFFLINE_WORD_SECONDS="0")
    place = urlsplit(server.url)
    with client_of(server, alice_key) as client:
        session = client.post("/api/v1/sessions/", json={}).json()["id"]
    # Of a socket all is read, and clients read only what they expect.
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        lines = [f"DELETE /api/v1/sessions/{session}/ HTTP/1.1", f"Host: {place.netloc}", "Connection: close"]
        lines += [f"Authorization: Bearer {alice_key}", "Accept: text/event-stream", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        heard = connection.makefile("rb").read()
    assert heard.startswith(b"HTTP/1.1 204")
    assert heard.endswith(b"\r\n\r\n")
    assert b"message" not in heard


# The document itself.


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_document_is_rendered_once_and_sent_once(client: Client, form: str) -> None:
    """Review 19: it cost 0.7 s of a processor and 2.4 MB at each hit, of anybody."""
    at = f"/api/schema/?format={form}"
    first = client.get(at)
    # What it would be, were it rendered again.
    with patched_settings({"TITLE": "Another title"}):
        packed = client.get(at, headers={"Accept-Encoding": "br, gzip"})
        known = client.get(at, headers={"If-None-Match": first["ETag"]})
        other = client.get(at, headers={"If-None-Match": 'W/"another"', "Accept-Encoding": "gzip;q=0, br"})
    assert {answer["ETag"] for answer in (first, packed, known, other)} == {first["ETag"]}
    assert gzip.decompress(packed.content) == first.content == other.content
    assert (known.status_code, known.content) == (304, b"")
    assert packed["Content-Encoding"] == "gzip"
    assert not any(answer.has_header("Content-Encoding") for answer in (first, other))
    assert len(packed.content) < 100_000
    assert all("Accept-Encoding" in answer["Vary"] for answer in (first, packed, known))
    assert "public" in first["Cache-Control"]
    assert b"Convo" in first.content


def test_tags_group_the_calls_of_the_document(client: Client) -> None:
    """Review 19: there were two, `api` and `v1`."""
    paths = client.get("/api/schema/?format=json").json()["paths"]
    tags = Counter(tag for calls in paths.values() for call in calls.values() for tag in call["tags"])
    assert set(tags) == {
        *("sessions", "messages", "turns", "memories", "query", "search", "usage"),
        *("OpenAI responses", "OpenAI conversations", "OpenAI chat completions"),
        *("OpenAI models", "OpenAI embeddings"),
    }
    assert sum(tags.values()) == sum(len(calls) for calls in paths.values())
    assert tags["turns"] < 20


def test_the_models_that_validate_a_request_describe_it(client: Client) -> None:
    document = client.get("/api/schema/?format=json").json()

    def body(path: str) -> Schema:
        reference = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema: Schema = document["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
        return schema

    items = body("/v1/conversations/{id}/items")
    assert items["required"] == ["items"]
    assert (items["properties"]["items"]["minItems"], items["properties"]["items"]["maxItems"]) == (1, 20)
    assert body("/v1/chat/completions")["required"] == ["model", "messages"]
    fields = body("/v1/responses")["properties"]
    assert fields["temperature"] == {"type": "number", "minimum": 0, "maximum": 2, "nullable": True}
    # OpenAPI 3.0 has no type null: what may be absent may be null.
    assert all(field["nullable"] for field in fields.values())
    assert "nullable" not in items["properties"]["items"]
