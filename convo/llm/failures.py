"""What goes wrong with a model server, told in our own errors: which one, and what the server said."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2
import openai

from convo.conf import conf
from convo.errors import (
    ConvoError,
    Truncated,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)

# Servers like to repeat the key that they refuse, whole or masked.
LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk-|Bearer )\S+")
LONGEST_TOLD = 300


@contextmanager
def in_our_words() -> Iterator[None]:
    """Whatever goes wrong inside comes out as an error of ours."""
    try:
        yield
    except ConvoError:
        raise
    except openai.APIStatusError as error:
        # Nothing is lost without the cause, and it would carry the key into logs where a server repeats it.
        raise _refusal(error) from None
    except Exception as error:
        raise _failure(error) from error


def _failure(error: Exception) -> ConvoError:
    match error:
        case openai.APIConnectionError():
            # The client's transport calls a refused connection a timeout too, so look at what caused it.
            return UpstreamTimeout() if timed_out(error) else UpstreamUnavailable()
        case TimeoutError():
            return UpstreamTimeout()
        case httpx2.TransportError() | OSError():
            return Truncated()
        case _:
            return UpstreamProtocolError()


def told_by(error: object) -> str:
    """The short message inside a server's error object, without any key."""
    message = error.get("message") or error.get("detail") if isinstance(error, Mapping) else error
    if not isinstance(message, str) or message[:1] in ("", "<"):  # a proxy's web page tells nothing
        return ""
    if key := conf().openai_api_key:
        message = message.replace(key, "[key]")
    safe = LOOKS_LIKE_A_KEY.sub("[key]", " ".join(message.split()))
    return f"It said: {safe[:LONGEST_TOLD]}"


def _refusal(error: openai.APIStatusError) -> ConvoError:
    status, told = error.status_code, told_by(error.body)
    if status == 429:
        return UpstreamRateLimited(_joined(UpstreamRateLimited, told), retry_after=retry_after(error))
    kind = UpstreamUnavailable if status >= 500 else UpstreamRejected
    return kind(_joined(kind, told), upstream_status=status)


def _joined(kind: type[ConvoError], told: str) -> str:
    return f"{kind.__doc__} {told}".strip()


def retry_after(error: openai.APIStatusError) -> float | None:
    """The seconds that the server asks us to wait; a date or nonsense counts as not said."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = error.response.headers.get(name, "")
        if re.fullmatch(r"\d{1,9}(\.\d+)?", told):
            return float(told) * unit
    return None


def timed_out(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__
    return False
