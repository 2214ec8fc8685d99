"""Conversation memory for LLM chat and agents, as a Django application."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    # Django imports this package before its models can exist, so `convo.ask` is looked up when it is used.
    if name == "ask":
        return import_module("convo.turns").ask
    raise AttributeError(f"module 'convo' has no attribute {name!r}")
