"""The values that go into a transcript, and those that prompts are built from."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from convo import tokens
from convo.conf import conf
from convo.history.files.content import ItemFields, PartFields, without_data
from convo.models import Message, ReplyItem, Turn, new_item_id, reply_item_id


@dataclass(frozen=True, kw_only=True)
class NewMessage:
    """A message ready to be appended."""

    role: str
    content: str = ""
    type: str = "message"
    name: str = ""
    agent: str = ""
    item: ItemFields | None = None  # OpenAI's item, where the message is more than its text
    item_id: str = ""
    recallable: bool = True  # False where search, summaries and memory have to leave the message out

    @classmethod
    def from_user(cls, text: str, file_parts: Sequence[PartFields] = ()) -> "NewMessage":
        """Build a user's message, with an item only if it has images or files."""
        if not file_parts:
            return cls(role="user", content=text)
        text_parts = [{"type": "input_text", "text": text}] if text else []
        parts = [*text_parts, *file_parts]
        item = {"type": "message", "role": "user", "status": "completed", "content": parts}
        return cls(role="user", content=text, item=item)

    @classmethod
    def from_reply(cls, turn: Turn, reply_item: ReplyItem) -> "NewMessage":
        """Build the message of one item of a turn's reply, under the item id that its live events had."""
        item_id = reply_item_id(turn.key, reply_item.index, reply_item.kind)
        item = _openai_item(reply_item)
        return cls(
            role="assistant",
            # Reasoning has its text in the item alone: it is not part of the conversation, and search must
            # not find it.
            content="" if reply_item.kind in {ReplyItem.CALL, ReplyItem.REASONING} else reply_item.text,
            type="message" if reply_item.kind == ReplyItem.REFUSAL else reply_item.kind,
            name=reply_item.name,
            agent=turn.agent,
            item={"id": item_id, **item} if item else None,
            item_id=item_id,
        )

    @property
    def call_id(self) -> str:
        """The id that ties a tool call to its result; '' for everything else."""
        return str((self.item or {}).get("call_id", ""))

    @property
    def tokens(self) -> int:
        return count(self.content, self.item)

    def preview_at(self, position: int) -> "TranscriptMessage":
        """Return the message as if it were at this position, to preview a prompt with it."""
        return TranscriptMessage.of(self.row(position=position, turn_id=0))

    def row(self, **columns: Any) -> Message:
        """Return an unsaved row of this message, with these further columns."""
        item_id = self.item_id or new_item_id(self.type)
        return Message(**{**vars(self), "item_id": item_id, "tokens": self.tokens, **columns})


def _openai_item(reply_item: ReplyItem) -> ItemFields | None:
    """Return OpenAI's item for a reply's item, without its id; None for plain text."""
    text = reply_item.text
    match reply_item.kind:
        case ReplyItem.CALL:
            call_fields = {"call_id": reply_item.call_id, "name": reply_item.name, "arguments": text}
            return {"type": "function_call", **call_fields, "status": "completed"}
        case ReplyItem.REASONING:
            parts = [{"type": "reasoning_text", "text": text}]
            return {"type": "reasoning", "summary": [], "content": parts, "status": "completed"}
        case ReplyItem.REFUSAL:
            parts = [{"type": "refusal", "refusal": text}]
            return {"type": "message", "role": "assistant", "status": "completed", "content": parts}
    return None


class TranscriptMessage(NamedTuple):
    """A message of the transcript, with the fields that a prompt needs."""

    position: int
    turn: int  # its primary key
    type: str
    role: str
    name: str
    agent: str
    content: str
    item: ItemFields | None
    tokens: int
    from_model_turn: bool  # True in a turn that asks a model of ours, False in one recorded from elsewhere

    @classmethod
    def of(cls, row: Message, *, from_model_turn: bool = True) -> "TranscriptMessage":
        head = row.position, row.turn_id, row.type, row.role, row.name, row.agent
        return cls(*head, row.content, row.item, row.tokens, from_model_turn)

    @classmethod
    def from_columns(cls, *columns: Any) -> "TranscriptMessage":
        """Build the message from the columns of its fields; the last is the kind of its turn."""
        *head, item, tokens, kind = columns
        parsed_item = json.loads(item) if item else None
        return cls._make([*head, parsed_item, tokens, kind == Turn.Kind.REPLY])

    @property
    def call_id(self) -> str:
        return str((self.item or {}).get("call_id", ""))


# A message whose tokens can be counted.
CountableMessage = NewMessage | TranscriptMessage


def costs(messages: Iterable[CountableMessage], model: str) -> Iterator[int]:
    """Yield each message's tokens for this model: as stored, unless the model has another tokenizer."""
    if tokens.encoding_name(model) == tokens.encoding_name(conf().default_model):
        return (message.tokens + tokens.MESSAGE_OVERHEAD for message in messages)
    return (count(message.content, message.item, model) + tokens.MESSAGE_OVERHEAD for message in messages)


def count(content: str, item: ItemFields | None, model: str = "") -> int:
    """Count a message's tokens: those of its item, images and files included, or of its text without one."""
    model = model or conf().default_model
    if not item:
        return tokens.count(content, model)
    item_without_data, file_tokens = without_data(item)
    return tokens.count(json.dumps(item_without_data, ensure_ascii=False), model) + file_tokens
