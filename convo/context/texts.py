"""Write a prompt as one text of the same parts, for agents that take no messages."""

from collections.abc import Iterator

from convo.context.blocks import EMPTY_PART
from convo.context.parts import Prompt, PromptPart
from convo.history import TranscriptMessage
from convo.history.files import parts_of, text_for_model

# The headings take this many tokens of the budget, in addition to the parts.
HEADING_TOKENS = 24

_SPEAKERS = {
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "system": "System",
    "developer": "System",
}


def single_query(prompt: Prompt) -> str:
    """Return history and question as one string, in the form that older clients know.

    The string is `[CONVERSATION HISTORY]`, then `user: …` or `assistant: …` for each message, then
    `[CURRENT QUERY]` and `user: …`. Facts, summary and recalled messages come first in the history, as
    `system: …`. Without a history, the result is the question alone.
    """
    parts = {part.name: part for part in prompt.parts}
    blocks = [parts[name].text for name in ("pinned", "summary", "recalled", "facts") if name in parts]
    conversation = [
        f"{message.role}: {text}" for message, text in _messages_with_text(parts.get("verbatim", EMPTY_PART))
    ]
    history = [*(f"system: {block}" for block in blocks), *conversation]
    query = "\n".join(_full_text(message) for message in parts.get("question", EMPTY_PART).messages)
    if not history:
        return query
    return "\n".join(["[CONVERSATION HISTORY]", *history, "[CURRENT QUERY]", f"user: {query}"])


def for_planning(prompt: Prompt) -> str:
    """Return the history for a planner, or '': facts, summary and recalled messages, then who said what."""
    parts = {part.name: part for part in prompt.parts}
    blocks = [parts[name].text for name in ("pinned", "facts", "summary", "recalled") if name in parts]
    conversation = [
        f"- {message.name or _SPEAKERS.get(message.role, message.role)}: {text}"
        for message, text in _messages_with_text(parts.get("verbatim", EMPTY_PART))
    ]
    transcript = "\n".join(["Conversation so far:", *conversation]) if conversation else ""
    return "\n\n".join(filter(None, [*blocks, transcript]))


def _messages_with_text(part: PromptPart) -> Iterator[tuple[TranscriptMessage, str]]:
    for message in part.messages:
        if message.type == "function_call":
            yield message._replace(role="assistant", name=""), f"[called {message.name}]"
        elif text := _full_text(message):
            yield message, text


def _full_text(message: TranscriptMessage) -> str:
    """Return the text of a message with that of its files; an image is only mentioned."""
    part_texts = (
        text_for_model(part) or ("[image]" if part.get("type") == "input_image" else "")
        for part in parts_of(message.item)
    )
    return "\n\n".join(filter(None, [message.content, *part_texts]))
