"""The handler that serves a request in one thread: it answers as Django's own does."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished, request_started
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import override_settings
from django.urls import path, reverse

from convo.http.one_thread import OneThreadHandler

pytestmark = pytest.mark.once

caller: ContextVar[str] = ContextVar("caller", default="nobody")
SECONDS = 10
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", f"{__name__}.record_thread"]

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]

# What the views have seen, emptied before each test.
threads: list[int] = []
seen: list[str] = []
connections: list[BaseDatabaseWrapper] = []
may_go_on = threading.Event()


def record_thread(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Any:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        threads.append(threading.get_ident())
        return get_response(request)

    return middleware


def echo(request: HttpRequest) -> HttpResponse:
    threads.append(threading.get_ident())
    body = request.body.decode()
    return JsonResponse(
        [
            request.method,
            request.path,
            request.GET.dict(),
            body,
            reverse("echo"),
            request.META["SCRIPT_NAME"],
        ],
        safe=False,
    )


def fail(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


def read_file(request: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(b"x" * 200_000), filename="x.txt")


def yield_words(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter(["one ", "two"]))


def post_only(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("a" if request.POST.get("a") else "b", status=201)
    response.set_cookie("k", "v")
    return response


async def answer_async(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse("async")


def remember(request: HttpRequest) -> HttpResponse:
    before = caller.get()
    caller.set(request.GET["name"])
    return HttpResponse(before)


def wait_forever(request: HttpRequest) -> HttpResponse:
    async def wait() -> None:
        seen.append("waits")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async_to_sync(wait)()
    return HttpResponse("never")


def stream_late(request: HttpRequest) -> StreamingHttpResponse:
    seen.append("works")
    may_go_on.wait(SECONDS)

    async def words() -> AsyncIterator[str]:
        yield "never"

    response = StreamingHttpResponse(words())
    response._resource_closers.append(lambda: seen.append("closed"))  # type: ignore[attr-defined]
    return response


def stream(request: HttpRequest) -> StreamingHttpResponse:
    connection.ensure_connection()
    connections.append(connection._connections[connection._alias])  # type: ignore[attr-defined]
    caller.set("streams")

    async def words() -> AsyncIterator[str]:
        try:
            yield caller.get()
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    return StreamingHttpResponse(words())


def query_in_stream(request: HttpRequest) -> StreamingHttpResponse:
    def connect() -> None:
        connection.ensure_connection()
        connections.append(connection._connections[connection._alias])  # type: ignore[attr-defined]

    async def words() -> AsyncIterator[str]:
        await sync_to_async(connect)()
        yield "queried"

    return StreamingHttpResponse(words())


urlpatterns = [
    path("echo/", echo, name="echo"),
    path("fail/", fail),
    path("file/", read_file),
    path("words/", yield_words),
    path("post/", post_only),
    path("async/", answer_async),
    path("remember/", remember),
    path("wait/", wait_forever),
    path("healthz", lambda request: HttpResponse(status=204)),
    path("stream/", stream),
    path("late/", stream_late),
    path("query/", query_in_stream),
]


@pytest.fixture(autouse=True)
def _views() -> Iterator[None]:
    for record in (threads, seen, connections):
        record.clear()
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE, TEMPLATES=TEMPLATES):
        yield


@pytest.fixture(params=["one-thread", "stock"])
def handler(request: pytest.FixtureRequest) -> ASGIHandler:
    return OneThreadHandler(1) if request.param == "one-thread" else ASGIHandler()


@contextmanager
def signals_sent() -> Iterator[list[str]]:
    """Record the beginnings and ends of requests."""
    sent: list[str] = []

    def started(**_: Any) -> None:
        sent.append("started")

    def finished(**_: Any) -> None:
        sent.append("finished")

    request_started.connect(started)
    request_finished.connect(finished)
    try:
        yield sent
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)


def begin(handler: ASGIHandler, target: str, *, method: str = "GET", **scope: Any) -> Any:
    place, _, query = target.partition("?")
    headers = [(b"host", b"localhost"), *scope.pop("headers", [])]
    scope = {"type": "http", "method": method, "path": place, "query_string": query.encode(), **scope}
    whole_scope = {**scope, "headers": headers}
    return ApplicationCommunicator(handler, whole_scope)  # type: ignore[no-untyped-call]


async def whole(asked: Any, body: bytes = b"") -> tuple[int, dict[bytes, bytes], bytes]:
    """The whole response to this request: status, headers and content."""
    await asked.send_input({"type": "http.request", "body": body})
    start = await asked.receive_output(SECONDS)
    content, more = b"", True
    while more:
        part = await asked.receive_output(SECONDS)
        content, more = content + part.get("body", b""), part.get("more_body", False)
    await asked.wait(SECONDS)
    return start["status"], dict(start["headers"]), content


async def leave(asked: Any, *last_seen: str) -> None:
    """Disconnect, and wait until that was seen: by the views as this, by the handler as the end."""
    await asked.send_input({"type": "http.disconnect"})
    await wait_for(lambda: seen[-1:] == list(last_seen))
    await asked.wait(SECONDS)


async def wait_for(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.01)


def run(test: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await test

    return asyncio.run(main())


FORM = [(b"content-type", b"application/x-www-form-urlencoded")]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize(
    ("target", "options", "status", "content"),
    [
        ("/echo/?q=ü", {"method": "PUT"}, 200, b'["PUT", "/echo/", {"q": "\\u00fc"}, "text"'),
        (
            "/app/echo/",
            {"root_path": "/app"},
            200,
            b'["GET", "/app/echo/", {}, "text", "/app/echo/", "/app"]',
        ),
        ("/echo/", {"method": "HEAD"}, 200, b'["HEAD"'),
        ("/echo/?q=\udcff", {}, 400, b""),
        ("/nothing/", {}, 404, b""),
        ("/fail/", {}, 500, b""),
        ("/file/", {}, 200, b"x" * 200_000),
        ("/words/", {}, 200, b"one two"),
        ("/async/", {}, 200, b"async"),
        ("/post/", {"method": "POST", "headers": FORM}, 201, b"b"),
    ],
)
def test_every_kind_of_view_is_answered_as_by_django(
    target: str, options: dict[str, Any], status: int, content: bytes
) -> None:
    answers = []
    for handler in (OneThreadHandler(1), ASGIHandler()):
        with signals_sent() as sent:
            asked = begin(handler, "/", **options)
            place, _, query = target.partition("?")
            asked.scope |= {"path": place, "query_string": query.encode(errors="surrogateescape")}
            answers.append(run(whole(asked, b"text")))
        assert sent == ["started", "finished"]
    assert answers[0] == answers[1]
    assert answers[0][0] == status
    assert answers[0][2].startswith(content)


def test_a_request_takes_one_thread_of_the_pool() -> None:
    handler = OneThreadHandler(1)

    async def ask() -> None:
        for _ in range(3):
            assert (await whole(begin(handler, "/echo/")))[0] == 200

    with signals_sent():
        request_started.connect(note := lambda **_: threads.append(threading.get_ident()))
        request_finished.connect(note)
        run(ask())
    assert len(threads) == 12
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_what_a_request_leaves_in_its_context_the_next_one_does_not_find(handler: ASGIHandler) -> None:
    async def ask() -> list[bytes]:
        return [(await whole(begin(handler, f"/remember/?name={name}")))[2] for name in ("ann", "bob")]

    assert run(ask()) == [b"nobody", b"nobody"]


def test_a_view_that_waits_is_cancelled_when_its_client_leaves(handler: ASGIHandler) -> None:
    async def ask() -> None:
        asked = begin(handler, "/wait/")
        await asked.send_input({"type": "http.request"})
        await wait_for(lambda: seen)
        await leave(asked, "cancelled")

    with signals_sent() as sent:
        run(ask())
    assert seen == ["waits", "cancelled"]
    assert sent == ["started", "finished"]


def test_a_stream_that_comes_after_its_client_has_left_is_closed() -> None:
    may_go_on.clear()

    async def ask() -> None:
        late_request = begin(OneThreadHandler(1), "/late/")
        await late_request.send_input({"type": "http.request"})
        await wait_for(lambda: seen)
        await late_request.send_input({"type": "http.disconnect"})
        await late_request.wait(SECONDS)
        may_go_on.set()
        await wait_for(lambda: len(seen) == 2)

    with signals_sent() as sent:
        run(ask())
    assert seen == ["works", "closed"]
    assert sent == ["started", "finished"]


def test_a_probe_is_answered_while_all_threads_wait() -> None:
    async def ask() -> None:
        handler = OneThreadHandler(1)
        waiting = begin(handler, "/wait/")
        await waiting.send_input({"type": "http.request"})
        await wait_for(lambda: seen)
        probe = begin(handler, "/healthz")
        await probe.send_input({"type": "http.request"})
        assert (await probe.receive_output(SECONDS))["status"] == 204
        await leave(waiting, "cancelled")

    run(ask())


@pytest.mark.django_db(transaction=True)
def test_a_stream_holds_no_connection_and_ends_when_its_client_leaves(handler: ASGIHandler) -> None:
    async def ask() -> None:
        asked = begin(handler, "/stream/")
        await asked.send_input({"type": "http.request"})
        assert (await asked.receive_output(SECONDS))["status"] == 200
        assert (await asked.receive_output(SECONDS))["body"] == b"streams"
        if isinstance(handler, OneThreadHandler):
            assert connections[0].connection is None
            # Nor does it hold the only thread.
            assert (await whole(begin(handler, "/echo/")))[0] == 200
        assert seen == []
        await leave(asked, "closed")

    with signals_sent() as sent:
        run(ask())
    assert seen == ["closed"]
    assert sent.count("started") == sent.count("finished")


@pytest.mark.django_db(transaction=True)
def test_a_stream_closes_the_connections_that_it_has_opened_itself(handler: ASGIHandler) -> None:
    assert run(whole(begin(handler, "/query/")))[2] == b"queried"
    assert connections[0].connection is None


def test_an_upload_takes_a_thread_when_it_is_complete() -> None:
    handler = OneThreadHandler(1)

    async def ask() -> bytes:
        slow = begin(handler, "/echo/", method="POST")
        await slow.send_input({"type": "http.request", "body": b"slow ", "more_body": True})
        assert (await whole(begin(handler, "/echo/")))[0] == 200
        return (await whole(slow, b"upload"))[2]

    assert b"slow upload" in run(ask())


def test_an_upload_that_breaks_off_is_no_request(handler: ASGIHandler) -> None:
    async def ask() -> None:
        slow = begin(handler, "/echo/", method="POST")
        await slow.send_input({"type": "http.request", "body": b"slow ", "more_body": True})
        await leave(slow)

    with signals_sent() as sent:
        run(ask())
    assert sent == []
