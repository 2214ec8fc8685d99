"""Requests with an Idempotency-Key, sent again."""

import json
from typing import Any

from django.test import Client


def send(caller: Client, path: str, body: Any = None, *, key: str = "k", method: str = "POST") -> Any:
    data = "" if body is None else json.dumps(body)
    headers = {"Idempotency-Key": key}
    return caller.generic(method.upper(), path, data, "application/json", headers=headers)


def is_replayed(response: Any) -> bool:
    return bool(response.headers.get("Idempotent-Replayed") == "true")
