"""Edit the text of a question and keep its images and files."""

from convo.history.attachments import with_inline_data
from convo.history.files import DATA_FIELDS, parts_of
from convo.history.messages import NewMessage
from convo.history.read import question_of
from convo.models import Message, Turn


def with_text(turn: Turn, text: str) -> list[NewMessage]:
    """Return the question of a turn with another text, and with the images and files that it had."""
    messages = question_of(turn.question_turn or turn)
    question = [message for message in messages if message.role == Message.Role.USER]
    file_parts = [
        part
        for message in with_inline_data(question)
        for part in parts_of(message.item)
        if part.get("type") in DATA_FIELDS
    ]
    if not file_parts:
        return [NewMessage(role="user", content=text)]
    text_parts = [{"type": "input_text", "text": text}] if text else []
    item = {"type": "message", "role": "user", "status": "completed", "content": [*text_parts, *file_parts]}
    return [NewMessage(role="user", content=text, item=item)]
