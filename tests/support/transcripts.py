"""Transcripts as the choice of the context takes them."""

from typing import Any

from convo.agents import Agent
from convo.context import Prompt
from convo.history import NewMessage, TranscriptMessage


def lines(*said: str | dict[str, Any], start: int = 1) -> list[TranscriptMessage]:
    """Lines from a short form: "u:text", "a:text", or a tool item; each "u:" opens a turn."""
    made = [_draft(what).preview_at(position) for position, what in enumerate(said, start)]
    opened = [0, *(line.position for line in made if line.role == "user")]
    return [line._replace(turn=max(at for at in opened if at <= line.position)) for line in made]


def _draft(what: str | dict[str, Any]) -> NewMessage:
    if isinstance(what, dict):
        role = "tool" if what["type"] == "function_call_output" else "assistant"
        return NewMessage(role=role, type=what["type"], item=what, name=what.get("name", ""))
    role = {"u": "user", "a": "assistant"}[what[0]]
    return NewMessage(role=role, content=what[2:])


def call(id: str, name: str = "look") -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": "{}"}


def result(id: str, output: str = "seen") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": output}


def agent(**fields: Any) -> Agent:
    plain = {"instructions": "", "window_pairs": 10, "context_tokens": 4000, "summaries": False}
    return Agent(**{"name": "test", **plain, **fields})


def messages_of(prompt: Prompt) -> list[Any]:
    """The messages of a prompt, whose fields a test may read without checking their types."""
    return list(prompt.messages)
