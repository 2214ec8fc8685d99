"""Asking a real model server: the one place where a request leaves the process for a model."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

from openai import AsyncAPIResponse, AsyncOpenAI

from convo.conf import conf
from convo.errors import NotConfigured, UpstreamProtocolError
from convo.llm.ask import Ask, Piece
from convo.llm.clients import OPENAI_URL, client
from convo.llm.deadlines import Deadlines
from convo.llm.failures import in_our_words
from convo.llm.frames import Frames
from convo.llm.reaching import reached
from convo.llm.reading import Reading

LINGER_SECONDS = 0.1


async def reply(ask: Ask, opened: Callable[[], None]) -> AsyncGenerator[Piece, None]:
    """The reply piece by piece; every way in which it can fail is one of our errors, none is silent."""
    most = conf().max_reply_bytes
    frames, reading = Frames(max_bytes=most), Reading(max_bytes=most)
    with in_our_words():
        server = await client()
        deadlines = Deadlines()
        async with AsyncExitStack() as stack:
            response = await deadlines.keep(reached(server, lambda: _opened(server, ask, stack)))
            opened()
            chunks = response.iter_bytes()
            while not reading.done and (chunk := await deadlines.keep(anext(chunks, b""))):
                for data in frames.feed(chunk):
                    deadlines.speaking()
                    for piece in reading.pieces(data):
                        yield piece
            for piece in reading.end():
                yield piece
            await _drain(chunks)


async def embed(texts: Sequence[str]) -> list[list[float]]:
    """One vector per text, in the order of the texts."""
    if not conf().embedding_model:
        raise NotConfigured("Embeddings need a model. Set CONVO_EMBEDDING_MODEL, and restart.")
    if conf().offline:
        raise NotConfigured("Embeddings need a server. Set OPENAI_API_KEY or OPENAI_BASE_URL, and restart.")
    if not texts:
        return []
    with in_our_words():
        server = await client()
        async with asyncio.timeout(conf().first_byte_seconds):
            answer = await reached(
                server, lambda: server.embeddings.create(model=conf().embedding_model, input=list(texts))
            )
        vectors = [found.embedding for found in sorted(answer.data, key=lambda found: found.index)]
        if len(vectors) != len(texts):
            raise UpstreamProtocolError(f"The model server sent {len(vectors)} vectors, not {len(texts)}.")
        return vectors


async def _opened(server: AsyncOpenAI, ask: Ask, stack: AsyncExitStack) -> AsyncAPIResponse[Any]:
    """The answer whose body is still to be read; closed, and its connection with it, when the stack ends."""
    completions = server.chat.completions.with_streaming_response
    # What goes as `extra_body` is sent as it is; arguments are compared with the client's types, message by
    # message, which for twenty of them takes longer than all the rest of a reply.
    opening = completions.create(model=ask.model, messages=[], stream=True, extra_body=_body(ask))
    response = await stack.enter_async_context(opening)
    content_type = response.headers.get("content-type", "")
    if not content_type.lower().startswith("text/event-stream"):
        raise UpstreamProtocolError(
            f"The model server answered with {content_type or 'no type'} in place of an event stream. "
            "Check OPENAI_BASE_URL; it usually ends in /v1."
        )
    return response


def _body(ask: Ask) -> dict[str, Any]:
    wanted = {
        "temperature": ask.temperature,
        limit_name(): ask.max_output_tokens,
    }
    return {
        **{name: value for name, value in wanted.items() if value is not None},
        # What was asked for with this one turn holds, whatever its agent says.
        **ask.extra,
        "messages": list(ask.messages),
        "stream_options": {"include_usage": True},
    }


def limit_name() -> str:
    """The name under which this server knows the greatest length of a reply.

    OpenAI's newer models refuse `max_tokens`. Ollama and llama.cpp before 2026 accept `max_completion_tokens`
    and ignore it in silence, while they and vLLM honour `max_tokens`: so the host decides.
    """
    host = urlsplit(conf().openai_base_url or OPENAI_URL).hostname or ""
    at_openai = host.endswith((".openai.com", ".openai.azure.com"))
    return "max_completion_tokens" if at_openai else "max_tokens"


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read the few bytes after a whole reply, so that its connection can serve the next one.

    Whatever goes wrong here costs only that: the reply has been given.
    """
    with suppress(Exception):
        async with asyncio.timeout(LINGER_SECONDS):
            async for _ in chunks:
                pass
