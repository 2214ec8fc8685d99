"""Whatever is sent, the answer is a 4xx that says what is wrong, and nothing is stored."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2
import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.test import Client
from pytest_django import Settings

from convo.models import ApiKey
from tests.conftest import Serve
from tests.servers import Server, client_of
from tests.support.rest import QUERY, SESSIONS, Caller, ok, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

KEYS = {"message", "type", "param", "code"}
DEEP = 100_000
NUL, LONE, PAIR = r"\u0000", r"\ud83d", r"\ud83d\ude00"
FAMILY = "👩‍👩‍👧‍👦 e\u0301 \u202egnp.exe\u202c a\u2028b\u2029c \u200b\ufeff ﷽ 家"


@pytest.fixture(autouse=True)
def _instant(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "OFFLINE_WORD_SECONDS": 0}


@pytest.fixture
def caller(alice: User) -> Caller:
    """A key with every scope, already noted as used."""
    found = Caller(ApiKey.objects.issue(alice, scopes=["read", "write", "import"])[1])
    ok(found.get(SESSIONS))
    return found


@pytest.fixture
def session(caller: Caller) -> str:
    """The address of a session with one message."""
    path = f"{SESSIONS}{ok(caller.send(SESSIONS), 201)['id']}/"
    ok(caller.send(f"{path}messages/", appended(role="user", content="hello")), 201)
    return path


def appended(**message: Any) -> dict[str, Any]:
    return {"messages": [message]}


def refused(response: Any, *statuses: int) -> dict[str, Any]:
    """The error of a response that refuses: a 4xx in the one envelope, with exactly its four keys."""
    body = response.json()
    assert response.status_code in (statuses or {400}), response.content
    error: dict[str, Any] = body["error"]
    assert set(error) == KEYS
    assert error["message"]
    assert error["code"]
    assert error["type"] == "invalid_request_error"
    return error


class Place:
    """Somewhere that text can be written: an address, and a body around the text."""

    def __init__(self, method: str, path: str, body: str) -> None:
        self.method, self.path, self.body = method, path, body

    def send(self, caller: Caller, session: str, text: str) -> Any:
        path = session + self.path.removeprefix("./") if self.path.startswith("./") else self.path
        return caller.send(path, (self.body % text).encode("utf-8", "surrogatepass"), method=self.method)


# `%s` stands where text goes, inside of a JSON string.
TEXTS = {
    "title": Place("POST", SESSIONS, '{"title": "%s"}'),
    "ref": Place("POST", SESSIONS, '{"ref": "%s"}'),
    "user": Place("POST", SESSIONS, '{"user": "%s"}'),
    "metadata value": Place("POST", SESSIONS, '{"metadata": {"a": "%s"}}'),
    "metadata key": Place("POST", SESSIONS, '{"metadata": {"%s": "a"}}'),
    "changed title": Place("PATCH", "./", '{"title": "%s"}'),
    "changed metadata": Place("PATCH", "./", '{"metadata": {"%s": "a"}}'),
    "message": Place("POST", "./query/", '{"message": "%s"}'),
    "first message": Place("POST", QUERY, '{"message": "%s"}'),
    "content": Place("POST", "./messages/", '{"messages": [{"role": "user", "content": "%s"}]}'),
    "name": Place("POST", "./messages/", '{"messages": [{"role": "user", "content": "a", "name": "%s"}]}'),
    "item": Place(
        "POST",
        "./messages/",
        '{"messages": [{"role": "assistant", "item": {"type": "reasoning", "summary": "%s"}}]}',
    ),
    "item key": Place(
        "POST", "./messages/", '{"messages": [{"role": "assistant", "item": {"type": "reasoning", "%s": 1}}]}'
    ),
    "arguments": Place(
        "POST",
        "./messages/",
        '{"messages": [{"role": "assistant", "item": '
        '{"type": "function_call", "call_id": "c", "name": "n", "arguments": "%s"}}]}',
    ),
    "part": Place(
        "POST",
        "./messages/",
        '{"messages": [{"role": "user", "item": '
        '{"type": "message", "content": [{"type": "input_text", "text": "%s"}]}}]}',
    ),
}
# Names of agents, states, roles and sessions are looked up, so that good text is no positive control.
LOOKED_UP = {
    "agent": Place("POST", SESSIONS, '{"agent": "%s"}'),
    "state": Place("PATCH", "./", '{"state": "%s"}'),
    "role": Place("POST", "./messages/", '{"messages": [{"role": "%s", "content": "a"}]}'),
    "session": Place("POST", QUERY, '{"message": "a", "session": "%s"}'),
    "unknown key": Place("POST", SESSIONS, '{"%s": 1}'),
}


# Text that cannot be stored, and text that only looks as if (F37, F38).


@pytest.mark.parametrize("place", [*TEXTS, *LOOKED_UP])
def test_nul_and_lone_surrogates_are_refused_everywhere(caller: Caller, session: str, place: str) -> None:
    before = rows()
    for bad in (NUL, f"a{NUL}b", LONE, r"\ude00", r"\uDE00\uD83D", LONE * 2, "\ud83d", "\0"):
        refused((TEXTS | LOOKED_UP)[place].send(caller, session, bad))
    assert rows() == before
    if place in TEXTS:
        assert TEXTS[place].send(caller, session, PAIR).status_code in {200, 201}


IN_HISTORY = ["message", "content", "name", "item", "item key", "arguments", "part"]


@pytest.mark.parametrize("place", IN_HISTORY)
def test_any_other_text_is_kept_to_the_letter(caller: Caller, session: str, place: str) -> None:
    for text in (FAMILY, "  spaces around  ", "</script>", "{{ settings }} %s {0}"):
        assert TEXTS[place].send(caller, session, text).status_code in {200, 201}
        history = ok(caller.get(f"{session}history/", {"order": "desc", "page_size": "2"}))["results"]
        assert json.dumps(text, ensure_ascii=False)[1:-1] in json.dumps(history, ensure_ascii=False)


@pytest.mark.parametrize("field", ["title", "ref"])
def test_a_session_keeps_its_texts_to_the_letter(caller: Caller, field: str) -> None:
    made = ok(caller.send(SESSIONS, {field: FAMILY, "metadata": {FAMILY: FAMILY}}), 201)
    again = ok(caller.get(f"{SESSIONS}{made['id']}/"))
    assert (again[field], again["metadata"]) == (FAMILY, {FAMILY: FAMILY})


def test_the_refusal_points_at_the_place(caller: Caller, session: str) -> None:
    said = TEXTS["item"].send(caller, session, NUL)
    assert refused(said)["param"] == "messages[0].item.summary"
    assert refused(TEXTS["metadata value"].send(caller, session, LONE))["param"] == "metadata.a"
    assert refused(TEXTS["metadata key"].send(caller, session, LONE))["param"] == "metadata"


@pytest.mark.parametrize(
    "bad", ["%00", "a%00b", "%ED%A0%80", "%FF", "%F0%9F", "%25", "%0d%0aX-Evil:1", "%e2%80%ae"]
)
def test_a_strange_address_is_404(caller: Caller, session: str, bad: str) -> None:
    for path in (f"{SESSIONS}{bad}/", f"{SESSIONS}{bad}/history/", f"{session}{bad}/", f"/api/{bad}"):
        answer = caller.get(path)
        assert refused(answer, 404)["code"] == "not_found"
        assert "X-Evil" not in answer.headers
    ok(caller.get(session))


@pytest.mark.parametrize("path", [SESSIONS, "./", "./history/", "./context/", "./messages/1/", "./turns/1/"])
def test_a_strange_query_string_is_no_500(caller: Caller, session: str, path: str) -> None:
    at = session + path.removeprefix("./") if path.startswith("./") else path
    for bad in ("%00", "%ED%A0%80", "%FF", "%0a", "%e2%80%ae"):
        for name in ("q", "query", "cursor", "user", "agent", "page_size", "format", bad):
            answer = caller.get(f"{at}?{name}={bad}")
            assert answer.status_code in {200, 400, 404}, (name, answer.content)
            assert answer.status_code == 200 or refused(answer, 400, 404)
    for name in ("q", "query", "user", "agent", "state"):
        refused(caller.get(f"{at}?{name}=a%00b"), 400)
    ok(caller.get(at))


# JSON that is none, or too much of it (F36).

BODIES = {
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"message":' * DEEP + b"1" + b"}" * DEEP,
    "deep and unended": b"[" * DEEP,
    "deep field": b'{"message": ' + b"[" * 900 + b"]" * 900 + b"}",
    "5,000 digits": b'{"message": ' + b"9" * 5000 + b"}",
    "4,000 digits": b'{"message": ' + b"9" * 4000 + b"}",
    "NaN": b'{"message": NaN}',
    "Infinity": b'{"message": -Infinity}',
    "a float beyond": b'{"message": 1e999}',
    "a float beyond and an end": b'{"message": 1e999,',
    "a float beyond and 5,000 digits": b'{"x": 1e999, "message": ' + b"9" * 5000 + b"}",
    "a float beyond and too deep": b'{"x": 1e999, "message": ' + b"[" * DEEP,
    "a float beyond and a key twice": b'{"x": 1e999, "message": "a", "message": "b"}',
    "the same key twice": b'{"message": "a", "message": "b"}',
    "the same key twice inside": b'{"message": "a", "x": {"b": 1, "b": 1}}',
    "nothing": b"",
    "spaces": b"  \n",
    "a list": b'[{"message": "a"}]',
    "a string": b'"message"',
    "a number": b"5",
    "null": b"null",
    "true": b"true",
    "an empty object": b"{}",
    "half": b'{"message": "a"',
    "two": b'{"message": "a"}{"message": "b"}',
    "single quotes": b"{'message': 'a'}",
    "a comma too many": b'{"message": "a",}',
    "a comment": b'{"message": "a"} // so',
    "a byte order mark": b'\xef\xbb\xbf{"message": "a"}',
    "Latin-1": '{"message": "é"}'.encode("latin-1"),
    "UTF-16": '{"message": "a"}'.encode("utf-16"),
    "overlong UTF-8": b'{"message": "\xc0\x80"}',
    "a raw surrogate": b'{"message": "\xed\xa0\xbd"}',
    "a raw newline": b'{"message": "a\nb"}',
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_no_json_object_is_refused(caller: Caller, session: str, kind: str) -> None:
    before = rows()
    for path in (QUERY, f"{session}query/", f"{session}messages/"):
        refused(caller.send(path, BODIES[kind]))
    if kind not in {"nothing", "an empty object"}:
        refused(caller.send(SESSIONS, BODIES[kind]))
        refused(caller.send(session, BODIES[kind], method="PATCH"))
    assert rows() == before
    ok(caller.send(QUERY, b'{"message": "a"}'))


@pytest.mark.parametrize("depth", [33, 100, 900, 985])
def test_an_item_is_not_nested_deeper_than_can_be_written_again(
    caller: Caller, session: str, depth: int
) -> None:
    def sent(levels: int) -> Any:
        inner = b"[" * (levels - 1) + b"]" * (levels - 1)
        item = b'{"type": "reasoning", "x": ' + inner + b"}"
        body = b'{"messages": [{"role": "assistant", "item": ' + item + b"}]}"
        return caller.send(f"{session}messages/", body)

    before = rows()
    refused(sent(depth))
    assert rows() == before
    ok(sent(32), 201)
    ok(caller.get(f"{session}history/"))


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "text/json",
        "application/xml",
        "application/octet-stream",
        "",
        "nonsense",
        "a/b; q",
    ],
)
def test_another_content_type_is_415(caller: Caller, kind: str) -> None:
    before = rows()
    assert refused(caller.send(QUERY, b'{"message": "a"}', content_type=kind), 415)
    assert rows() == before
    ok(caller.send(QUERY, b'{"message": "a"}', content_type="application/json; charset=UTF-8"))


FORMS = {
    "too many fields": ("application/x-www-form-urlencoded", b"&".join(b"a%d=" % i for i in range(3000))),
    "no boundary": ("multipart/form-data", b"garbage"),
    "a file for a text": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="message"; filename="a"\r\n\r\nhi\r\n--x--\r\n',
    ),
    "a NUL": ("application/x-www-form-urlencoded", b"message=a%00b"),
    "an unknown field": ("application/x-www-form-urlencoded", b"message=a&owner=1"),
    "nothing": ("application/x-www-form-urlencoded", b""),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_bad_form_is_refused(caller: Caller, kind: str) -> None:
    before = rows()
    content_type, body = FORMS[kind]
    refused(caller.send(QUERY, body, content_type=content_type))
    assert rows() == before
    ok(caller.send(QUERY, b"message=a", content_type="application/x-www-form-urlencoded"))


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * DEEP,
        '{"a": "\\u0000"}',
        '{"\\ud83d": "a"}',
        '{"a": "1", "a": "2"}',
        '{"a": NaN}',
        "9" * 5000,
        "{",
        '"a"',
    ],
)
def test_json_inside_of_a_form_is_read_as_strictly(caller: Caller, metadata: str) -> None:
    before = rows()
    refused(caller.post(SESSIONS, {"metadata": metadata}))
    assert rows() == before
    assert ok(caller.post(SESSIONS, {"metadata": '{"a": "1"}'}), 201)["metadata"] == {"a": "1"}


# Fields of the wrong type, unknown ones, and those that are not for callers (F39, F42).

WRONG: dict[str, list[Any]] = {
    "a text": [5, 1.5, True, None, ["a"], {"a": "b"}, [], {}],
    "a longer text than fits": ["x" * 300_001],
    "a metadata": [
        *[5, True, None, "a", ["a"], {"a": 1}, {"a": None}, {"a": True}, {"a": ["b"]}, {"a": {"b": "c"}}],
        *[{"": "a"}, {"k" * 65: "a"}, {"a": "v" * 513}, {str(i): "" for i in range(17)}],
        {"a": "x" * 1_000_000},
        {str(i): "a" for i in range(10_000)},
    ],
    "a choice": [5, True, None, "", "nobody", "ADMIN", ["user"], {"a": 1}],
    "an agent": [5, True, None, "", "nobody", "../../etc/passwd", ["assistant"], {"a": 1}],
    "a yes": ["banana", 2, None, [], {}],
    "messages": [
        None,
        5,
        "a",
        {},
        [],
        [5],
        ["a"],
        [None],
        [[]],
        [{}],
        [{"role": "user", "content": "a"}] * 1001,
    ],
}
FIELDS = [
    ("POST", SESSIONS, {}, "title", "a text"),
    ("POST", SESSIONS, {}, "ref", "a text"),
    ("POST", SESSIONS, {}, "user", "a text"),
    ("POST", SESSIONS, {}, "title", "a longer text than fits"),
    ("POST", SESSIONS, {}, "ref", "a longer text than fits"),
    ("POST", SESSIONS, {}, "user", "a longer text than fits"),
    ("POST", SESSIONS, {}, "metadata", "a metadata"),
    ("POST", SESSIONS, {}, "agent", "an agent"),
    ("PATCH", "./", {}, "title", "a text"),
    ("PATCH", "./", {}, "title", "a longer text than fits"),
    ("PATCH", "./", {}, "metadata", "a metadata"),
    ("PATCH", "./", {}, "agent", "an agent"),
    ("PATCH", "./", {}, "state", "a choice"),
    ("POST", "./query/", {}, "message", "a text"),
    ("POST", "./query/", {"message": "a"}, "stream", "a yes"),
    ("POST", "./query/", {"message": "a"}, "agent", "an agent"),
    ("POST", "./query/", {"message": "a"}, "user", "a text"),
    ("POST", QUERY, {}, "message", "a text"),
    ("POST", QUERY, {"message": "a"}, "session", "a text"),
    ("POST", QUERY, {"message": "a"}, "stream", "a yes"),
    ("POST", "./messages/", {}, "messages", "messages"),
    ("POST", "./turns/1/edit/", {}, "message", "a text"),
    ("POST", "./turns/1/edit/", {"message": "a"}, "agent", "an agent"),
    ("POST", "./turns/1/regenerate/", {}, "agent", "an agent"),
    ("POST", "./turns/1/regenerate/", {}, "stream", "a yes"),
    ("POST", "./messages/", {"messages": [{"role": "user", "content": "a"}]}, "user", "a text"),
]


@pytest.mark.parametrize(("method", "path", "given", "field", "wrong"), FIELDS)
def test_a_field_of_the_wrong_type_is_refused(
    caller: Caller, session: str, method: str, path: str, given: dict[str, Any], field: str, wrong: str
) -> None:
    at, before = path.replace("./", session), (rows(), ok(caller.get(session)))
    for value in WRONG[wrong]:
        error = refused(caller.send(at, {**given, field: value}, method=method))
        assert error["param"] is None or error["param"].startswith(field)
    assert (rows(), ok(caller.get(session))) == before


MESSAGES: dict[str, Any] = {
    "no role": {"content": "a"},
    "no content": {"role": "user"},
    "empty content": {"role": "user", "content": ""},
    "null content": {"role": "user", "content": None},
    "a number for content": {"role": "user", "content": 5},
    "parts for content": {"role": "user", "content": [{"type": "text", "text": "a"}]},
    "an unknown role": {"role": "root", "content": "a"},
    "an unknown field": {"role": "user", "content": "a", "position": 1},
    "a long name": {"role": "user", "content": "a", "name": "n" * 201},
    "a tool without an item": {"role": "tool", "content": "a"},
}
ITEMS: dict[str, tuple[str, Any]] = {
    "null": ("user", None),
    "a string": ("user", "a"),
    "a list": ("user", []),
    "no type": ("user", {}),
    "an unknown type": ("user", {"type": "web_search_call"}),
    "a list for a type": ("user", {"type": ["message"]}),
    "a call by the user": ("user", {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}),
    "a call without an id": ("assistant", {"type": "function_call", "name": "n", "arguments": "{}"}),
    "a call with an empty id": (
        "assistant",
        {"type": "function_call", "call_id": "", "name": "n", "arguments": ""},
    ),
    "a call with arguments that are no text": (
        "assistant",
        {"type": "function_call", "call_id": "c", "name": "n", "arguments": {}},
    ),
    "a call with a long name": (
        "assistant",
        {"type": "function_call", "call_id": "c", "name": "n" * 201, "arguments": "{}"},
    ),
    "a result without its call": (
        "tool",
        {"type": "function_call_output", "call_id": "never", "output": "a"},
    ),
    "a result by the user": ("user", {"type": "function_call_output", "call_id": "c", "output": "a"}),
    "a result without output": ("tool", {"type": "function_call_output", "call_id": "c"}),
    "a result with a number": ("tool", {"type": "function_call_output", "call_id": "c", "output": 5}),
    "a message of a tool": ("tool", {"type": "message", "content": [{"type": "input_text", "text": "a"}]}),
    "a message without parts": ("user", {"type": "message", "content": []}),
    "a message of text": ("user", {"type": "message", "content": "a"}),
    "a part that is text": ("user", {"type": "message", "content": ["a"]}),
    "a part without a type": ("user", {"type": "message", "content": [{"text": "a"}]}),
    "a part with a list for a type": ("user", {"type": "message", "content": [{"type": ["input_text"]}]}),
    "a part with a number for a text": (
        "user",
        {"type": "message", "content": [{"type": "input_text", "text": 5}]},
    ),
    "reasoning with a number": ("assistant", {"type": "reasoning", "content": 5}),
    "reasoning with numbers": ("assistant", {"type": "reasoning", "content": [1]}),
    "reasoning by the user": ("user", {"type": "reasoning"}),
}


@pytest.mark.parametrize("kind", [*MESSAGES, *ITEMS])
def test_a_bad_message_is_refused_and_so_are_those_beside_it(caller: Caller, session: str, kind: str) -> None:
    good = {"role": "user", "content": "fine"}
    message = MESSAGES[kind] if kind in MESSAGES else {"role": ITEMS[kind][0], "item": ITEMS[kind][1]}
    before = rows()
    error = refused(caller.send(f"{session}messages/", {"messages": [good, message, good]}))
    assert error["param"].startswith("messages[1]")
    assert rows() == before
    ok(caller.send(f"{session}messages/", {"messages": [good, good]}), 201)


@pytest.mark.parametrize(
    "field", ["owner", "id", "epoch", "kind", "expires_at", "last_position", "created_at", "x"]
)
def test_fields_that_are_not_for_callers_are_refused(caller: Caller, session: str, field: str) -> None:
    before = (rows(), ok(caller.get(session)))
    query, messages = f"{session}query/", f"{session}messages/"
    for method, path, body in [
        ("POST", SESSIONS, {"title": "a"}),
        ("PATCH", session, {"title": "b"}),
        ("POST", query, {"message": "a"}),
        ("POST", QUERY, {"message": "a"}),
        ("POST", messages, appended(role="user", content="a")),
        ("POST", f"{messages}1/fork/", {}),
        *(("POST", f"{session}turns/1/{act}/", {}) for act in ("edit", "regenerate", "cancel", "activate")),
    ]:
        error = refused(caller.send(path, {**body, field: 1}, method=method))
        assert (error["code"], error["param"]) == ("unknown_parameter", field)
    inside = refused(caller.send(messages, appended(role="user", content="a", **{field: 1})))
    assert (inside["code"], inside["param"]) == ("unknown_parameter", f"messages[0].{field}")
    assert (rows(), ok(caller.get(session))) == before


@pytest.mark.parametrize("field", ["ref", "user", "is_active", "message_count"])
def test_what_was_settled_when_a_session_was_made_is_not_changed(
    caller: Caller, session: str, field: str
) -> None:
    before = ok(caller.get(session))
    assert refused(caller.send(session, {field: "a"}, method="PATCH"))["param"] == field
    assert ok(caller.get(session)) == before


@pytest.mark.parametrize("key", ["__proto__", "constructor", "a.b", "a[0]", "$where", "k" * 64, "'; --"])
def test_any_key_of_metadata_is_only_a_key(caller: Caller, key: str) -> None:
    made = ok(caller.send(SESSIONS, {"metadata": {key: "v" * 512}}), 201)
    assert ok(caller.get(f"{SESSIONS}{made['id']}/"))["metadata"] == {key: "v" * 512}


# Parameters of the query string, cursors, positions (F40).

NUMBERS = ["", "abc", "-1", "1.5", "1e3", " 5", "+5", "0x10", "٣", "9" * 16, "9" * 5000, "None", "5;5"]


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        (SESSIONS, "page_size", [*NUMBERS, "0", "101"]),
        (SESSIONS, "state", ["gone", "OPEN", "open,closed", "open "]),
        (
            SESSIONS,
            "active_after",
            ["", "yesterday", "2026-11-20", "2026-11-20T13:00:00", "2026-13-01T00:00:00Z"],
        ),
        (SESSIONS, "active_before", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "1732107600"]),
        ("./history/", "page_size", [*NUMBERS, "0", "101"]),
        ("./history/", "after", NUMBERS),
        ("./history/", "before", NUMBERS),
        ("./history/", "order", ["up", "ASC", "desc,asc", " "]),
        ("./turns/1/events/", "after", NUMBERS),
        ("./context/", "max_tokens", [*NUMBERS, "0", "10000001"]),
        ("./context/", "agent", ["nobody", "../x"]),
    ],
)
def test_a_parameter_out_of_range_is_refused(
    caller: Caller, session: str, path: str, name: str, values: list[str]
) -> None:
    at = path.replace("./", session)
    for value in values:
        assert refused(caller.get(at, {name: value}))["param"] == name
    assert caller.get(at).status_code == 200


@pytest.mark.parametrize("given", ["abc", "-1", "1.5", "9" * 16, "9" * 5000, "1 2"])
def test_a_last_event_that_is_none_is_refused(caller: Caller, session: str, given: str) -> None:
    at = f"{session}turns/1/events/"
    assert refused(caller.get(at, headers={"Last-Event-ID": given}))["param"] == "Last-Event-ID"
    assert refused(caller.get(f"{session}turns/9/events/"), 404)
    assert caller.get(at, headers={"Last-Event-ID": "0"}).status_code == 200


@pytest.mark.parametrize("depth", [900, 930, 945])
def test_a_deep_body_is_no_500_where_none_is_read(caller: Caller, session: str, depth: int) -> None:
    body = b'{"x": ' + b"[" * depth + b"]" * depth + b"}"
    for method, path in [("DELETE", "history/"), ("POST", "messages/1/fork/"), ("DELETE", "messages/1/")]:
        answer = caller.send(
            session + path, body, method=method, headers={"Idempotency-Key": f"{method} {path}"}
        )
        assert answer.status_code in {201, 204, 404} or refused(answer)


@pytest.mark.parametrize(
    "path",
    [SESSIONS, "./", "./history/", "./context/", "./messages/1/", "./turns/1/", "./query/", "./messages/"],
)
def test_an_unknown_parameter_is_refused(caller: Caller, session: str, path: str) -> None:
    at, before = path.replace("./", session), rows()
    answer = (
        caller.send(f"{at}?pagesize=5")
        if path in {"./query/", "./messages/"}
        else caller.get(f"{at}?pagesize=5")
    )
    error = refused(answer)
    assert (error["code"], error["param"]) == ("unknown_parameter", "pagesize")
    for method in ("POST", "PATCH", "DELETE"):
        assert refused(caller.send(f"{at}?owner=1", method=method), 400, 405)
    assert rows() == before


@pytest.mark.parametrize("cursor", ["garbage", "p=abc", "1", "é", "a:b:c", "x" * 5000, "cD0y", "../", "{}"])
def test_a_garbage_cursor_is_refused(caller: Caller, cursor: str) -> None:
    assert refused(caller.get(SESSIONS, {"cursor": cursor}))["param"] == "cursor"
    ok(caller.get(SESSIONS, {"cursor": ""}))


def test_a_cursor_that_was_changed_or_signed_for_something_else_is_refused(caller: Caller) -> None:
    for _ in range(3):
        ok(caller.send(SESSIONS), 201)
    following = ok(caller.get(SESSIONS, {"page_size": 1}))["next"]
    cursor = httpx2.URL(following).params["cursor"]
    for bad in (cursor[:-1], cursor[1:], cursor.swapcase(), signing.dumps([False, "2026", "x"])):
        refused(caller.get(SESSIONS, {"cursor": bad}))
    assert len(ok(caller.get(SESSIONS, {"cursor": cursor}))["results"]) == 2


def test_somebody_elses_cursor_is_refused(caller: Caller, bob_key: str) -> None:
    bob = Caller(bob_key)
    for _ in range(3):
        ok(caller.send(SESSIONS), 201)
        ok(bob.send(SESSIONS), 201)
    his = ok(bob.get(SESSIONS, {"page_size": 1}))["next"]
    assert refused(caller.get(his))["param"] == "cursor"
    assert len(ok(bob.get(his))["results"]) == 1


@pytest.mark.parametrize(
    "path", ["messages/0/", "messages/2/", "messages/-1/", f"messages/{'9' * 15}/", f"messages/{'9' * 400}/"]
)
def test_a_position_where_nothing_is_is_404(caller: Caller, session: str, path: str) -> None:
    refused(caller.get(session + path), 404)
    ok(caller.get(f"{session}messages/1/"))


@pytest.mark.parametrize(
    "path", ["turns/0/", "turns/2/", "turns/-1/", "turns/999999999/", "turns/9999999999/", "turns/a/"]
)
def test_a_turn_that_is_not_there_is_404(caller: Caller, session: str, path: str) -> None:
    refused(caller.get(session + path), 404)
    ok(caller.get(f"{session}turns/1/"))


@pytest.mark.parametrize("position", ["0", "999999999999999"])
def test_a_position_far_away_is_an_empty_page_or_all(caller: Caller, session: str, position: str) -> None:
    found = [
        len(ok(caller.get(f"{session}history/", {name: position}))["results"]) for name in ("after", "before")
    ]
    assert found == ([1, 0] if position == "0" else [0, 1])


@pytest.mark.parametrize("bad", ["me", "x" * 256, "a\tb", "a\nb", "a\u202eb"])
def test_a_person_of_no_printable_name_is_refused(caller: Caller, session: str, bad: str) -> None:
    before = rows()
    assert refused(caller.send(SESSIONS, {"user": bad}))["param"] == "user"
    assert refused(caller.get(f"{session}?user={quote(bad)}"))["param"] == "user"
    assert rows() == before
    assert ok(caller.send(SESSIONS, {"user": "Zoë 家"}), 201)["user"] == "Zoë 家"


def test_two_different_people_in_one_request_are_refused(caller: Caller) -> None:
    before = rows()
    for path, body, header in [(SESSIONS, {"user": "zoe"}, "yan"), (f"{SESSIONS}?user=zoe", {}, "yan")]:
        assert refused(caller.send(path, body, headers={"X-Convo-User": header}))["param"] == "user"
    assert refused(caller.send(f"{SESSIONS}?user=yan", {"user": "zoe"}))["param"] == "user"
    assert rows() == before
    same = caller.send(f"{SESSIONS}?user=zoe", {"user": "zoe"}, headers={"X-Convo-User": "zoe"})
    assert ok(same, 201)["user"] == "zoe"


# Methods, media types, hosts (F41, F42, F46).


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get"])
def test_another_method_is_405(caller: Caller, session: str, method: str) -> None:
    taken = {
        SESSIONS: {"GET", "POST"},
        session: {"GET", "PATCH", "DELETE"},
        f"{session}query/": {"POST"},
        f"{session}history/": {"GET", "DELETE"},
        f"{session}messages/": {"POST"},
        f"{session}messages/1/": {"GET", "DELETE"},
        f"{session}turns/1/": {"GET", "DELETE"},
        f"{session}turns/1/cancel/": {"POST"},
        f"{session}context/": {"GET"},
        QUERY: {"POST"},
    }
    for path, methods in taken.items():
        if method.upper() not in methods:
            assert refused(caller.send(path, method=method), 405)["code"] == "method_not_allowed"
    ok(caller.get(session))


@pytest.mark.parametrize("accept", ["application/xml", "image/*", "text/event-stream;q=x, a/b"])
def test_a_media_type_that_cannot_be_had_is_406(caller: Caller, accept: str) -> None:
    answer = caller.get(SESSIONS, headers={"Accept": accept})
    assert answer.status_code == 200 or refused(answer, 406)["code"] == "not_acceptable"


def test_an_unknown_format_is_404(caller: Caller) -> None:
    for path in (
        f"{SESSIONS}?format=xyz",
        "/api/v1/sessions.json",
        "/api/v1/sessions.xyz",
        f"{SESSIONS}x.json/",
    ):
        refused(caller.get(path), 404)
    ok(caller.get(f"{SESSIONS}?format=json"))


# Numbers in addresses, of which the database holds none.
TOO_LONG = ["9" * 10, "9" * 15, "9" * 16, "9" * 19, "9" * 20, "9" * 5000]


@pytest.mark.parametrize("number", TOO_LONG)
def test_a_number_in_an_address_that_no_row_has_is_404(
    caller: Caller, session: str, alice: User, number: str
) -> None:
    """Review 13: `/files/<20 digits>/` was a 500."""
    page = session.replace(SESSIONS, "/c/")
    browser = Client()
    browser.force_login(alice)
    for client, method, path in (
        (browser, "get", "/files/{}/"),
        *((browser, "post", f"{page}turns/{{}}/{act}/") for act in ("stop", "again", "choose", "feedback")),
        (browser, "get", f"{page}turns/{{}}/context/"),
        (browser, "post", f"{page}fork/{{}}/"),
        *((caller, "get", f"{session}turns/{{}}/{part}") for part in ("", "events/", "context/")),
        *((caller, "post", f"{session}turns/{{}}/{act}/") for act in ("cancel", "regenerate", "activate")),
        *((caller, method, f"{session}messages/{{}}/") for method in ("get", "delete")),
        (caller, "post", f"{session}messages/{{}}/fork/"),
    ):
        assert getattr(client, method)(path.format(number)).status_code == 404, path
        assert client.get(path.format(1)).status_code in {200, 404, 405}
    assert ok(caller.get(f"{session}messages/1/"))["position"] == 1
    for name in ("after", "before"):
        told = caller.get(f"{session}history/", {name: number})
        assert told.status_code == (200 if len(number) <= 15 else 400)


def test_a_forged_host_is_refused_and_no_link_carries_one(caller: Caller) -> None:
    refused(caller.get(SESSIONS, headers={"Host": "evil.example"}))
    for _ in range(2):
        ok(caller.send(SESSIONS), 201)
    forwarded = caller.get(SESSIONS, {"page_size": 1}, headers={"X-Forwarded-Host": "evil.example"})
    assert ok(forwarded)["next"].startswith("http://testserver/api/v1/sessions/?")


# Size (F34).


def test_ten_megabytes_are_too_long_for_a_question(caller: Caller, session: str) -> None:
    before = rows()
    for path in (f"{session}query/", QUERY):
        error = refused(caller.send(path, {"message": "long " * 2_000_000}), 413)
        assert (error["code"], error["param"]) == ("message_too_long", "message")
    assert rows() == before


def test_ten_megabytes_can_be_appended(caller: Caller, session: str) -> None:
    text = "ten megabytes, " * 700_000
    ok(caller.send(f"{session}messages/", appended(role="user", content=text)), 201)
    assert ok(caller.get(f"{session}messages/2/"))["content"] == text


# What only the wire can show.


@pytest.fixture
def server(share: Serve) -> Server:
    """A server that answers offline."""
    return share(CONVO_OFFLINE_WORD_SECONDS="0")


@pytest.fixture
def wire(server: Server, alice_key: str) -> Iterator[httpx2.Client]:
    with client_of(server, alice_key) as client:
        yield client


def spoken(server: Server, *sent: bytes) -> bytes:
    """All that the server answers to these bytes, until it closes or has said something and is silent."""
    parts = urlsplit(server.url)
    answer = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        # A server that refuses closes while we still write; what it said can be read all the same.
        with suppress(ConnectionError):
            for data in sent:
                connection.sendall(data)
        with suppress(ConnectionError, TimeoutError):
            while received := connection.recv(65536):
                answer += received
                connection.settimeout(2)
    return answer


def head(key: str, *lines: str, path: str = SESSIONS, method: str = "POST") -> bytes:
    common = ("Host: 127.0.0.1", f"Authorization: Bearer {key}", "Content-Type: application/json")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *common, *lines, "", ""]).encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_body_that_says_it_is_too_large_is_refused_unread(server: Server, alice_key: str) -> None:
    before = rows()
    for length in ("20000001", "21000000", "999999999999"):
        answer = spoken(server, head(alice_key, f"Content-Length: {length}"))
        assert status(answer) == 413
        assert set(json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])["error"]) == KEYS
    assert rows() == before


@pytest.mark.both_handlers
def test_a_chunked_body_is_read(wire: httpx2.Client) -> None:
    made = wire.post(
        SESSIONS,
        content=iter([b'{"tit', b'le": "in ', b'pieces"}']),
        headers={"Content-Type": "application/json"},
    )
    assert ok(made, 201)["title"] == "in pieces"


def test_a_chunked_body_that_grows_too_large_is_refused(server: Server, alice_key: str) -> None:
    before = rows()
    megabyte = b"f4240\r\n" + b" " * 1_000_000 + b"\r\n"
    answer = spoken(server, head(alice_key, "Transfer-Encoding: chunked"), *[megabyte] * 25, b"0\r\n\r\n")
    assert status(answer) == 413
    assert rows() == before


@pytest.mark.parametrize("order", ["length first", "encoding first"])
def test_length_and_chunks_in_one_request_smuggle_nothing_in(
    server: Server, alice_key: str, order: str
) -> None:
    both = ["Content-Length: 5", "Transfer-Encoding: chunked"]
    first = head(alice_key, *(both if order == "length first" else both[::-1]))
    smuggled = head(alice_key, "Content-Length: 2") + b"{}"
    before = rows()
    answer = spoken(server, first + b"0\r\n\r\n" + smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert rows() == before or status(answer) == 201


@pytest.mark.parametrize("length", ["-1", "abc", "1, 2", "9" * 5000, "0x10", "+2", "2\r\nContent-Length: 3"])
def test_a_length_that_is_none_is_refused(server: Server, alice_key: str, length: str) -> None:
    before = rows()
    answer = spoken(server, head(alice_key, f"Content-Length: {length}") + b"{}")
    assert status(answer) in {400, 413}
    assert answer.count(b"HTTP/1.1 ") == 1
    assert rows() == before


@pytest.mark.parametrize(
    "path", ["%00", "%ED%A0%80", "%FF", "é", "a%0d%0aX-Evil:%201", "%2e%2e/%2e%2e", "a" * 20_000]
)
def test_a_strange_address_on_the_wire_is_a_4xx(server: Server, alice_key: str, path: str) -> None:
    for at in (f"{SESSIONS}{path}/", f"{SESSIONS}?q={path}"):
        answer = spoken(server, head(alice_key, "Connection: close", path=at, method="GET"))
        assert status(answer) in {200, 400, 404, 414, 431}
        assert b"X-Evil" not in answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "charset",
    [
        "bz2_codec",
        "undefined",
        "utf-16",
        "utf-7",
        "punycode",
        "rot13",
        "latin-1",
        "no",
        "utf-8'; charset=rot13",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
def test_another_charset_is_415(wire: httpx2.Client, kind: str, charset: str) -> None:
    before = rows()
    body = b"{}" if kind == "application/json" else b"title=%C3%A9"
    for named in (f"charset={charset}", f'Charset="{charset}"', f"charset*=utf-8''{charset}"):
        answer = wire.post(f"{SESSIONS}?user=zoe", content=body, headers={"Content-Type": f"{kind}; {named}"})
        assert refused(answer, 415)["code"] == "unsupported_media_type"
    assert rows() == before
    for named in ("charset=utf-8", "Charset=UTF-8", 'charset="utf-8"', "boundary=x"):
        ok(wire.post(SESSIONS, content=body, headers={"Content-Type": f"{kind}; {named}"}), 201)


@pytest.mark.parametrize("name", ["Zoë", "家", "zoe"])
def test_a_name_in_the_header_is_utf_8(wire: httpx2.Client, name: str) -> None:
    header = {b"X-Convo-User": name.encode()}
    made = ok(wire.post(SESSIONS, json={"user": name}, headers=header), 201)
    assert made["user"] == name
    assert ok(wire.get(f"{SESSIONS}{made['id']}/", headers=header))["id"] == made["id"]
    latin_1 = wire.post(SESSIONS, json={}, headers={b"X-Convo-User": b"Zo\xeb"})
    assert refused(latin_1)["param"] == "user"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (QUERY, b"{", 400),
        (QUERY, b"{}", 400),
        (QUERY, b'{"message": "a", "session": "%s"}' % str(uuid4()).encode(), 404),
        (f"{SESSIONS}{uuid4()}/query/", b'{"message": "a"}', 404),
        (QUERY, b'{"message": "%s"}' % (b"a" * 1_000_000), 413),
        (f"{SESSIONS}{uuid4()}/", b"{}", 405),
    ],
)
def test_who_asks_for_events_gets_errors_as_one(
    wire: httpx2.Client, path: str, body: bytes, expected: int
) -> None:
    before = rows()
    kinds = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    answer = wire.post(path, content=body, headers=kinds)
    assert answer.status_code == expected
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    lines = answer.text.splitlines()
    assert lines[:2] == ["id: 0", "event: error"]
    assert set(json.loads(lines[2].removeprefix("data: "))["error"]) == KEYS
    assert lines[3:] == [""]
    assert rows() == before


def test_who_asks_for_events_without_a_key_gets_401_as_an_event(server: Server) -> None:
    with client_of(server) as stranger:
        answer = stranger.post(QUERY, json={"message": "a"}, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 401
    assert answer.text.startswith("id: 0\nevent: error\ndata: {")
