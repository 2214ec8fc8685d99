"""Every route, with the methods it takes and a body that is right."""

import json
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.test import Client
from django.urls import reverse

from convo import memory
from convo.models import ME, Person, UserMemory

APPEND = {"messages": [{"role": "user", "content": "hello"}]}

ASK = {"message": "hello"}

# Every route by its name (its view, where it has none), with each method it takes and a body that is right.
# Addresses of objects are those of one session, of its first message and its second turn, which broke off,
# and of a memory that has the session's id.
OBJECTS: dict[str, dict[str, Any]] = {
    "session-detail": {"get": None, "patch": {"title": "mine"}, "delete": None},
    "session-query": {"post": ASK},
    "session-history": {"get": None, "delete": None},
    "session-context": {"get": None},
    "message-list": {"post": APPEND},
    "message-detail": {"get": None, "delete": None},
    "message-fork": {"post": {}},
    "turn-list": {"get": None},
    "turn-detail": {"get": None, "delete": None},
    "turn-context": {"get": None},
    "turn-events": {"get": None},
    "turn-cancel": {"post": {}},
    "turn-regenerate": {"post": {}},
    "turn-retry": {"post": {}},
    "turn-edit": {"post": ASK},
    "turn-activate": {"post": {}},
    "turn-feedback": {"get": None, "put": {"value": "up"}, "delete": None},
    "memory-detail": {"get": None, "patch": {"pinned": True}, "delete": None},
    "memory-history": {"get": None},
}

COLLECTIONS: dict[str, dict[str, Any]] = {
    "api-root": {"get": None},
    "session-list": {"get": None, "post": {}},
    "query-list": {"post": ASK},
    "usage-list": {"get": None},
    "search-list": {"get": None},
    "memory-list": {"get": None, "post": {"text": "Likes tea"}},
    "memory-forget": {"post": {"q": "Oslo"}},
    "memory-rules": {"get": None, "put": {"rules": ["my salary"]}},
}

EVERY_CALL = [(name, method) for name, methods in (OBJECTS | COLLECTIONS).items() for method in methods]

WRITES = [(name, method) for name, method in EVERY_CALL if method != "get"]


def remember(owner: AbstractBaseUser, id: str) -> None:
    """A memory of the owner's with this id."""
    made, _ = memory.remember(Person.objects.get_or_create_by_ref(owner, ME), "Lives in Oslo", kind="fact")
    UserMemory.objects.filter(pk=made.pk).update(key=id)


QUERIES = {"search-list": "?q=hello"}


def address(name: str, session_id: str) -> str:
    if name in COLLECTIONS:
        return reverse(name) + QUERIES.get(name, "")
    kind, _, action = name.partition("-")
    if kind in {"session", "memory"}:
        return reverse(name, args=[session_id])
    place = {} if action == "list" else {"message": {"position": 1}, "turn": {"number": 2}}[kind]
    return reverse(name, kwargs={"session": session_id, **place})


def call(caller: Client, name: str, method: str, session_id: str, **headers: str) -> Any:
    body = (OBJECTS | COLLECTIONS)[name][method]
    data = "" if body is None else json.dumps(body)
    at = address(name, session_id)
    return caller.generic(method.upper(), at, data, "application/json", headers=headers)
