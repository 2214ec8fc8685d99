"""Who answers: the configured model server, or without one the responder that needs none."""

from collections.abc import AsyncGenerator, Callable

from convo.conf import conf
from convo.llm import offline, upstream
from convo.llm.ask import Ask, Completion, Finish, Piece, Text, Usage


def default_model() -> str:
    """The model that answers when nobody asked for another."""
    return conf().default_model


def stream(ask: Ask, opened: Callable[[], None] = lambda: None) -> AsyncGenerator[Piece, None]:
    """The reply as it is written, to its Finish; closing the generator closes the model's connection.

    `opened` is called when the server has taken the question and is about to answer.
    """
    return offline.reply(ask, opened) if conf().offline else upstream.reply(ask, opened)


async def complete(ask: Ask) -> Completion:
    """The whole reply, for background work; streamed underneath, so that its deadlines are the same."""
    text, usage, reason = "", None, ""
    async for piece in stream(ask):
        match piece:
            case Text(text=words, kind=kind) if kind != "reasoning":
                text += words
            case Usage():
                usage = piece
            case Finish():
                reason = piece.reason
    return Completion(text=text, usage=usage, finish_reason=reason)
