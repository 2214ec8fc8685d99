"""The values in which the transcript crosses borders: what goes in, and what a prompt is built from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convo import tokens
from convo.conf import conf
from convo.history.contents import weighed


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A message that is not in the transcript yet."""

    role: str
    content: str = ""
    type: str = "message"
    name: str = ""
    agent: str = ""
    item: Mapping[str, Any] | None = None
    item_id: str = ""
    recallable: bool = True

    @property
    def call_id(self) -> str:
        """The id that ties a tool call to its result; '' for everything else."""
        return str((self.item or {}).get("call_id", ""))

    @property
    def tokens(self) -> int:
        """What it costs in a prompt, by the tokenizer of the project's model."""
        return count(self.content, self.item)

    def cost(self, model: str) -> int:
        """Its tokens for this model, with the format's overhead."""
        return count(self.content, self.item, model) + tokens.MESSAGE_OVERHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A message of the transcript, as much of it as a prompt needs."""

    position: int
    turn: int
    type: str
    role: str
    name: str
    agent: str
    content: str
    item: Mapping[str, Any] | None
    tokens: int
    asked: bool  # of a model of ours, rather than recorded from elsewhere

    @property
    def call_id(self) -> str:
        """The id that ties a tool call to its result; '' for everything else."""
        return str((self.item or {}).get("call_id", ""))

    def cost(self, model: str) -> int:
        """Its tokens for this model: as stored, unless the model counts by another tokenizer."""
        if tokens.counter(model) == tokens.counter(conf().default_model):
            return self.tokens + tokens.MESSAGE_OVERHEAD
        return count(self.content, self.item, model) + tokens.MESSAGE_OVERHEAD


def count(content: str, item: Mapping[str, Any] | None, model: str = "") -> int:
    """The tokens of a message: of its item whole where it is more than text, images and files included."""
    model = model or conf().default_model
    if not item:
        return tokens.count(content, model)
    told, spent = weighed(item)
    return tokens.count(json.dumps(told, ensure_ascii=False), model) + spent
