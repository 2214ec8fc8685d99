"""Django admin of Convo's tables. Rows that the product itself writes can be looked at, not edited."""

from convo.admin import conversations, files, keys, memories, people, requests, turns, work

__all__ = ["conversations", "files", "keys", "memories", "people", "requests", "turns", "work"]
