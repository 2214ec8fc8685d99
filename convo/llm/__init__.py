"""Send a request to a model and stream its reply. Only this package talks to a model server."""

from convo.llm.dispatch import complete, default_model, stream
from convo.llm.types import Completion, Finish, ModelRequest, StreamEvent, TextDelta, ToolCallDelta, Usage
from convo.llm.upstream import embed

__all__ = [
    "Completion",
    "Finish",
    "ModelRequest",
    "StreamEvent",
    "TextDelta",
    "ToolCallDelta",
    "Usage",
    "complete",
    "default_model",
    "embed",
    "stream",
]
