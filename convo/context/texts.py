"""A prompt as one text, for agents that take no messages: the same parts, the same order."""

from collections.abc import Iterator, Mapping
from typing import Any

from convo.context.parts import Part, Prompt
from convo.history import Line, parts_of, readable

# What the headings take of the budget, beside the parts.
HEADINGS = 24

_SPEAKERS = {
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "system": "System",
    "developer": "System",
}


def single_query(prompt: Prompt) -> str:
    """History and question in one string, the question last: `[CONVERSATION HISTORY]`, `[CURRENT QUERY]`."""
    parts = {part.part: part for part in prompt.parts}
    blocks = [parts[name].text for name in ("pinned", "summary", "recalled", "facts") if name in parts]
    said = "\n".join(_said(parts.get("verbatim")))
    asked = "\n".join(_words(line) for line in _lines(parts.get("question")))
    history = "\n\n".join(filter(None, [*blocks, said]))
    if not history:
        return asked
    return f"[CONVERSATION HISTORY]\n{history}\n\n[CURRENT QUERY]\n{asked}".rstrip()


def for_planning(prompt: Prompt) -> str:
    """The history as a planner reads it: what is known, what went before, who said what; '' for none."""
    parts = {part.part: part for part in prompt.parts}
    known = [parts[name].text for name in ("pinned", "facts", "summary", "recalled") if name in parts]
    said = "\n".join(f"- {line}" for line in _said(parts.get("verbatim")))
    turns = f"Conversation so far:\n{said}" if said else ""
    return "\n\n".join(filter(None, [*known, turns]))


def _said(part: Part | None) -> Iterator[str]:
    for line in _lines(part):
        if line.type == "function_call":
            yield f"Assistant called {line.name}"
        elif words := _words(line):
            yield f"{line.name or _SPEAKERS.get(line.role, line.role)}: {words}"


def _words(line: Line) -> str:
    """What a message says, with the text of its files; of an image there is only the mention."""
    shown = (readable(part) or _mentioned(part) for part in parts_of(line.item))
    return "\n\n".join(filter(None, [line.content, *shown]))


def _mentioned(part: Mapping[str, Any]) -> str:
    return "[image]" if part.get("type") == "input_image" else ""


def _lines(part: Part | None) -> list[Line]:
    return list(part.lines) if part else []
