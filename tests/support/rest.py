"""The REST API as the tests call it: one person's requests, and what they expect."""

import json
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Model
from django.test import Client

from convo.models import IndexedMemory, IndexedMessage, Work

SESSIONS = "/api/v1/sessions/"

QUERY = "/api/v1/query/"

MEMORIES = "/api/v1/memories/"

CALL = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city": "Rome"}',
    "x": 1,
}

RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}


class Caller(Client):
    """A program with this API key."""

    def __init__(self, key: str) -> None:
        super().__init__(headers={"Authorization": f"Bearer {key}"})

    def send(self, path: str, body: Any = None, *, method: str = "POST", **options: Any) -> Any:
        """Send this as JSON; bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body)
        return self.generic(method, path, data, **{"content_type": "application/json", **options})

    def make(self, **fields: Any) -> str:
        """The address of a new session."""
        return f"{SESSIONS}{ok(self.send(SESSIONS, fields), 201)['id']}/"

    def ask(self, session: str, message: str, **fields: Any) -> Any:
        return ok(self.send(f"{session}query/", {"message": message, **fields}))

    def append(self, session: str, *messages: Any) -> Any:
        return ok(self.send(f"{session}messages/", {"messages": messages}), 201)["results"]

    def history(self, session: str, **parameters: Any) -> Any:
        return ok(self.get(f"{session}history/", parameters))["results"]


def ok(response: Any, status: int = 200) -> Any:
    """The JSON of a response that must have this status."""
    assert response.status_code == status, response.content
    return response.json()


def rows(*, but: type[Model] | None = None) -> dict[str, int]:
    """How many rows each table has, but the background's own: equal where nothing may change."""
    own = {Work, IndexedMessage, IndexedMemory}
    tables = {get_user_model(), *apps.get_app_config("convo").get_models()} - own - {but}
    return {table.__name__: table._default_manager.count() for table in tables}


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}
