"""A question in other words: what it showed, it shows still."""

from convo.history.attachments import inlined
from convo.history.contents import FIELDS, parts_of
from convo.history.lines import Draft
from convo.history.read import question_of
from convo.models import Message, Turn


def reworded(turn: Turn, text: str) -> list[Draft]:
    """The question of a turn with another text, and with the images and files that it had."""
    asked = [line for line in question_of(turn.asks or turn) if line.role == Message.Role.USER]
    shown = [part for line in inlined(asked) for part in parts_of(line.item) if part.get("type") in FIELDS]
    if not shown:
        return [Draft(role="user", content=text)]
    words = [{"type": "input_text", "text": text}] if text else []
    item = {"type": "message", "role": "user", "status": "completed", "content": [*words, *shown]}
    return [Draft(role="user", content=text, item=item)]
