"""Requests to a real model server: the one place where a request for a model leaves the process."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import ClientResponse
from openai import APIStatusError

from convo.conf import conf
from convo.errors import NotConfigured, ReplyTruncated, UpstreamProtocolError
from convo.llm.clients import OPENAI_URL, ModelServer, model_server
from convo.llm.deadlines import Body, Deadlines
from convo.llm.failures import translate_errors
from convo.llm.reply_parser import ReplyParser
from convo.llm.retries import send_with_retry
from convo.llm.types import ModelRequest, StreamEvent

# These OpenAI models reason by default, and while they do, they refuse these fields of a chat completion.
_REASONS_BY_DEFAULT = re.compile(r"gpt-6-(luna|sol)\b")
_REFUSED_WHILE_REASONING = {"tools", "temperature", "top_p"}

# The servers with these base URLs answered only without `stream_options`.
_refuse_stream_options: set[str] = set()


async def reply(ask: ModelRequest, opened: Callable[[], None]) -> AsyncGenerator[StreamEvent, None]:
    """Stream the reply; every way in which it can fail raises one of our errors, and none is silent."""
    max_bytes = conf().max_reply_bytes
    frames, parser = FrameSplitter(max_bytes=max_bytes), ReplyParser(max_bytes=max_bytes)
    with translate_errors():
        server, deadlines = await model_server(), Deadlines()
        response = await deadlines.wait_for(send_with_retry(server.base_url, lambda: _open(server, ask)))
        with Body(response, deadlines) as body:
            opened()
            while not parser.is_done and (chunk := await body.read()):
                for data in frames.feed(chunk):
                    deadlines.start_reply()
                    for event in parser.feed(data):
                        yield event
            for data in frames.finish():
                for event in parser.feed_last(data):
                    yield event
            for event in parser.finish():
                yield event
            await body.drain()


async def embed(texts: Sequence[str]) -> list[list[float]]:
    """Return one vector per text, in the order of the texts."""
    if not conf().embedding_model:
        raise NotConfigured("Embeddings need a model. Set CONVO_EMBEDDING_MODEL, and restart.")
    if conf().offline:
        raise NotConfigured("Embeddings need a server. Set OPENAI_API_KEY or OPENAI_BASE_URL, and restart.")
    if not texts:
        return []
    with translate_errors():
        server = await model_server()
        create, model = server.client.embeddings.create, conf().embedding_model
        async with asyncio.timeout(conf().first_byte_seconds):
            response = await send_with_retry(server.base_url, lambda: create(model=model, input=list(texts)))
        vectors = [item.embedding for item in sorted(response.data, key=lambda item: item.index)]
        if len(vectors) != len(texts):
            raise UpstreamProtocolError(f"The model server sent {len(vectors)} vectors, not {len(texts)}.")
        return vectors


async def _open(server: ModelServer, ask: ModelRequest) -> ClientResponse:
    """Return the response, its body still unread.

    A server that refuses `stream_options` is asked once more without them, and from then on always. Convo
    then counts its tokens.
    """
    body, url = _body(ask), server.base_url
    if url not in _refuse_stream_options:
        try:
            return await _send(server, body)
        except APIStatusError as error:
            # Servers that name the refused field do so in different places.
            if error.status_code not in (400, 422) or "stream_options" not in str(error.body):
                raise
    del body["stream_options"]
    response = await _send(server, body)
    _refuse_stream_options.add(url)
    return response


async def _send(server: ModelServer, body: dict[str, object]) -> ClientResponse:
    response = await server.post("chat/completions", body)
    if not response.content_type.startswith("text/event-stream"):
        response.close()
        raise UpstreamProtocolError(
            f"The model server answered with {response.headers.get('Content-Type') or 'no type'} in place of "
            "an event stream. Check OPENAI_BASE_URL; it usually ends in /v1."
        )
    return response


def _body(ask: ModelRequest) -> dict[str, object]:
    options = {"temperature": ask.temperature, max_tokens_field(): ask.max_output_tokens}
    body: dict[str, object] = {
        **{name: value for name, value in options.items() if value is not None},
        # The options of this turn override those of its agent.
        **ask.extra,
        "model": ask.model,
        "stream": True,
        "messages": list(ask.messages),
        "stream_options": {"include_usage": True},
    }
    if _REASONS_BY_DEFAULT.match(ask.model) and body.keys() & _REFUSED_WHILE_REASONING:
        body.setdefault("reasoning_effort", "none")
    return body


def max_tokens_field() -> str:
    """Return the name of this server's field for the maximum length of a reply.

    OpenAI's newer models refuse `max_tokens`. Ollama and llama.cpp before 2026 accept `max_completion_tokens`
    and ignore it in silence, while they and vLLM honour `max_tokens`: so the host decides.
    """
    host = urlsplit(conf().openai_base_url or OPENAI_URL).hostname or ""
    at_openai = host.endswith((".openai.com", ".openai.azure.com"))
    return "max_completion_tokens" if at_openai else "max_tokens"


class FrameSplitter:
    """A splitter for an event stream: feed it chunks, and it returns the data of the completed frames.

    It works on bytes, so that a character cut in two is never decoded before its other half arrives.
    Lines end in LF or CRLF; comments and fields other than `data` are ignored.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line_parts: list[bytes] = []
        self._line_bytes = 0
        self._data_lines: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        lines = chunk.split(b"\n")
        # The parts of a line stay in a list: joining them at each chunk would copy a long line over and over.
        self._line_parts.append(lines[0])
        self._line_bytes += len(lines[0])
        if self._line_bytes > self._max_bytes:
            raise ReplyTruncated("The model's answer came in one piece longer than CONVO_MAX_REPLY_BYTES.")
        if len(lines) == 1:
            return []
        lines[0] = b"".join(self._line_parts)
        self._line_parts = [lines.pop()]
        self._line_bytes = len(self._line_parts[0])
        return self._complete_frames(lines)

    def finish(self) -> list[bytes]:
        """Return the data of a last frame whose empty line never came."""
        return self._complete_frames([b"".join(self._line_parts), b""])

    def _complete_frames(self, lines: list[bytes]) -> list[bytes]:
        frames = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data_lines.append(line[5:].strip())
            elif self._data_lines and line in (b"", b"\r"):
                frames.append(b"\n".join(self._data_lines))
                self._data_lines = []
        return frames
