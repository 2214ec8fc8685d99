"""What a model was told, in lines to compare."""

import json
from typing import Any

from tests.scenarios import Heard, text_of


def told(heard: Heard) -> list[str]:
    """The request's messages, a line each; a call of a tool shows its id, and so does the tool's output."""
    return [_line(message) for message in heard["messages"]]


def _line(message: dict[str, Any]) -> str:
    if calls := message.get("tool_calls"):
        return "calls: " + " ".join(f"{call['id']}{_spaced(call['function']['arguments'])}" for call in calls)
    if message["role"] == "tool":
        return f"tool {message['tool_call_id']}: {text_of(message)}"
    return f"{message['role']}: {text_of(message)}"


def _spaced(arguments: str) -> str:
    """Clients that read the arguments and write them again have other thoughts about spaces."""
    return json.dumps(json.loads(arguments))
