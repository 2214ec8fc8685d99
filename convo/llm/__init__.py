"""Models: ask one, get its reply piece by piece. The only package that talks to a model server."""

from convo.llm.answer import complete, default_model, stream
from convo.llm.ask import Ask, CallPart, Completion, Finish, Piece, Text, Usage
from convo.llm.upstream import embed

__all__ = [
    "Ask",
    "CallPart",
    "Completion",
    "Finish",
    "Piece",
    "Text",
    "Usage",
    "complete",
    "default_model",
    "embed",
    "stream",
]
