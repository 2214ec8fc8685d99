"""Get replies from the configured model server or, without one, from the offline responder."""

from collections.abc import AsyncGenerator, Callable

from convo.conf import conf
from convo.llm import offline, upstream
from convo.llm.types import Completion, Finish, ModelRequest, StreamEvent, TextDelta, Usage


def default_model() -> str:
    return conf().default_model


def stream(ask: ModelRequest, opened: Callable[[], None] = lambda: None) -> AsyncGenerator[StreamEvent, None]:
    """Stream the reply, up to its Finish; closing the generator closes the connection to the model.

    `opened` is called when the server has accepted the request and is about to answer.
    """
    return offline.reply(ask, opened) if conf().offline else upstream.reply(ask, opened)


async def complete(ask: ModelRequest) -> Completion:
    """Return the whole reply, for background work. It is streamed too, so that the same deadlines apply."""
    text, usage, reason = "", None, ""
    async for event in stream(ask):
        match event:
            case TextDelta(text=new_text, kind=kind) if kind != "reasoning":
                text += new_text
            case Usage():
                usage = event
            case Finish():
                reason = event.reason
    return Completion(text=text, usage=usage, finish_reason=reason)
