"""The values that go into a transcript, and those that prompts are built from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convo import tokens
from convo.conf import conf
from convo.history.files import without_file_data


@dataclass(frozen=True, kw_only=True)
class NewMessage:
    """A message ready to be appended."""

    role: str
    content: str = ""
    type: str = "message"
    name: str = ""
    agent: str = ""
    item: Mapping[str, Any] | None = None  # OpenAI's item, where the message is more than its text
    item_id: str = ""
    recallable: bool = True  # False where search, summaries and memory have to leave the message out

    @property
    def call_id(self) -> str:
        """The id that ties a tool call to its result; '' for everything else."""
        return str((self.item or {}).get("call_id", ""))

    @property
    def tokens(self) -> int:
        return count(self.content, self.item)

    def cost(self, model: str) -> int:
        return count(self.content, self.item, model) + tokens.MESSAGE_OVERHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptMessage:
    """A message of the transcript, with the fields that a prompt needs."""

    position: int
    turn: int  # its primary key
    type: str
    role: str
    name: str
    agent: str
    content: str
    item: Mapping[str, Any] | None
    tokens: int
    from_model_turn: bool  # True in a turn that asks a model of ours, False in one recorded from elsewhere

    @property
    def call_id(self) -> str:
        return str((self.item or {}).get("call_id", ""))

    def cost(self, model: str) -> int:
        """Return its tokens for this model: as stored, unless the model has another tokenizer."""
        if tokens.encoding_name(model) == tokens.encoding_name(conf().default_model):
            return self.tokens + tokens.MESSAGE_OVERHEAD
        return count(self.content, self.item, model) + tokens.MESSAGE_OVERHEAD


def count(content: str, item: Mapping[str, Any] | None, model: str = "") -> int:
    """Count a message's tokens: those of its item, images and files included, or of its text without one."""
    model = model or conf().default_model
    if not item:
        return tokens.count(content, model)
    item_without_data, file_tokens = without_file_data(item)
    return tokens.count(json.dumps(item_without_data, ensure_ascii=False), model) + file_tokens
