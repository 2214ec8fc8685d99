"""The HTTP request on whose behalf code runs: its id and its key's prefix, for the log."""

import logging
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

# Other characters could forge a line of the log.
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass
class RequestContext:
    id: str
    key_prefix: str = ""


_current: ContextVar[RequestContext | None] = ContextVar("convo_request", default=None)


def start_request(client_id: str = "") -> str:
    """Begin a request and return its id: the one that the client sent, if well-formed, or a new one."""
    id = client_id if _SAFE_ID.fullmatch(client_id) else _new_id()
    _current.set(RequestContext(id))
    return id


def current() -> RequestContext | None:
    """Return the request that this code runs for; None in commands, workers and sweeps."""
    return _current.get()


def request_id() -> str:
    """Return the id of this request, or a new one if no middleware has set one."""
    request = _current.get()
    return request.id if request else _new_id()


def _new_id() -> str:
    return f"req_{secrets.token_hex(16)}"


class LogFilter(logging.Filter):
    """Adds `request` to each record: " [id key]" for what is logged on behalf of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = _current.get()
        key = f" key={request.key_prefix}" if request and request.key_prefix else ""
        record.request = f" [{request.id}{key}]" if request else ""
        return True
