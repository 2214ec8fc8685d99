"""The admin: what there is, to look at; what the product itself writes is not edited here."""

from convo.admin import conversations, files, keys, memories, people, requests, turns, work

__all__ = ["conversations", "files", "keys", "memories", "people", "requests", "turns", "work"]
