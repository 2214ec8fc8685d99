"""Translate failures of a model server into our own errors, with what the server said."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import aiohttp
import httpx2
import openai

from convo.conf import conf
from convo.errors import (
    ConvoError,
    ReplyTruncated,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)

logger = logging.getLogger(__name__)

# Servers often repeat the key that they refuse, whole or masked.
LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk-|Bearer )\S+")
MAX_SERVER_MESSAGE_LENGTH = 300
NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
REQUEST_STATUSES = (400, 413, 422)
REQUEST_REFUSED = "The model server refused this request. Change it, or the agent's model and options."
# After these statuses below 500, the same request may well succeed later.
RETRYABLE_STATUSES = (408, 409, 425)
# Inside a stream, these codes stand for a status other than 500.
STATUSES = {"rate_limit_exceeded": 429, "context_length_exceeded": 400, "content_filter": 400}
# vLLM, llama.cpp, Anthropic, Gemini and Cohere have no code for this, and say it only in words.
CONTEXT_IS_FULL = re.compile(
    r"context (?:length|size|window)|prompt is too long|input token count|too many tokens", re.IGNORECASE
)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn any exception inside into one of our errors, and log what an operator can fix."""
    try:
        yield
    except openai.APIStatusError as error:
        # The cause adds nothing, and it would put our key into the logs if the server repeats it.
        raise _log(error_for_response(error.status_code, error.body, retry_after(error))) from None
    except ConvoError as error:
        _log(error)
        raise
    except Exception as error:
        raise _log(_translate(error)) from error


def _log(error: ConvoError) -> ConvoError:
    """Log what to check. The server's own message may quote a conversation, so it isn't logged."""
    if isinstance(error, UpstreamRejected | UpstreamProtocolError):
        # Callers can cause these errors as often as they like, so they are warnings.
        level = logging.WARNING if error.details.get("upstream_status") in REQUEST_STATUSES else logging.ERROR
        logger.log(
            level,
            "the model server's answer could not be used (%s, HTTP %s, code %s): check OPENAI_BASE_URL, "
            "OPENAI_API_KEY, and the model and options of the agent. The admin shows what the server said.",
            error.code,
            error.details.get("upstream_status", 200),
            error.details.get("upstream_code"),
        )
    return error


def _translate(error: Exception) -> ConvoError:
    match error:
        case openai.APIConnectionError():
            # The client's transport reports a refused connection as a timeout too, so the cause decides.
            return UpstreamTimeout() if timed_out(error) else UpstreamUnavailable()
        case TimeoutError():
            return UpstreamTimeout()
        case httpx2.TransportError() | aiohttp.ClientError() | OSError():
            return ReplyTruncated()
        case _:
            return UpstreamProtocolError()


def server_message(error: object) -> str:
    """Return the message inside a server's error object, shortened and without any key."""
    text = error.get("message") or error.get("detail") if isinstance(error, Mapping) else error
    if not isinstance(text, str) or text[:1] in ("", "<"):  # a proxy's web page says nothing useful
        return ""
    return f"It said: {_without_keys(' '.join(text.split()))[:MAX_SERVER_MESSAGE_LENGTH]}"


def _without_keys(text: str) -> str:
    if key := conf().openai_api_key:
        text = text.replace(key, "[key]")
    return LOOKS_LIKE_A_KEY.sub("[key]", text)


def error_for_response(status: int, body: object, wait: float | None = None) -> ConvoError:
    error = error_object(body)
    message, code = server_message(error), _name_in(error, "code")
    if status == 400 and "API_KEY_INVALID" in str(error):
        # Gemini sends this when it doesn't know our key, which is not the caller's fault.
        status = 401
    if status == 429 and code != "insufficient_quota":
        wait = _delay_in(error) if wait is None else wait
        return UpstreamRateLimited(_join_messages(UpstreamRateLimited.__doc__, message), retry_after=wait)
    if status >= 500 or status in RETRYABLE_STATUSES:
        message = _join_messages(UpstreamUnavailable.__doc__, message)
        return UpstreamUnavailable(message, retry_after=wait, upstream_status=status)
    if code is None and status in (400, 413) and CONTEXT_IS_FULL.search(message):
        code = "context_length_exceeded"
    sentence = REQUEST_REFUSED if status in REQUEST_STATUSES else UpstreamRejected.__doc__
    details = {"upstream_code": code, "upstream_param": _name_in(error, "param")}
    details = {name: value for name, value in details.items() if value}
    return UpstreamRejected(_join_messages(sentence, message), upstream_status=status, **details)


def error_for_frame(error: object) -> ConvoError:
    """Return the error for an error object inside a stream, whose status was 200."""
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if isinstance(code, int) else STATUSES.get(str(code), 500)
    if 400 <= status < 500:
        return error_for_response(status, error)
    return UpstreamProtocolError(
        _join_messages("The model server broke off its answer.", server_message(error))
    )


def error_object(body: object) -> object:
    """Return the error object in a response or a frame; Gemini sends a list of one."""
    first = body[0] if isinstance(body, list) and body else body
    return first.get("error") or first if isinstance(first, Mapping) else first


def _name_in(error: object, field: str) -> str | None:
    """Return a code, or a field without its index, which would count the prompt's messages."""
    value = error.get(field) if isinstance(error, Mapping) else None
    name = value.partition("[")[0] if isinstance(value, str) else ""
    return name if NAME.fullmatch(name) and _without_keys(name) == name else None


def _delay_in(error: object) -> float | None:
    """Return the seconds to wait, which Gemini writes into its error in place of a header."""
    details = error.get("details") if isinstance(error, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        delay = re.fullmatch(
            r"(\d{1,9}(?:\.\d+)?)s", str(isinstance(detail, Mapping) and detail.get("retryDelay"))
        )
        if delay:
            return float(delay[1])
    return None


def _join_messages(our_message: str | None, server_message: str) -> str:
    return f"{our_message} {server_message}".strip()


def retry_after(error: openai.APIStatusError) -> float | None:
    """Return the seconds that the server asks us to wait; None for a date or nonsense."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = error.response.headers.get(name, "")
        if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
            return float(value) * unit
    return None


def timed_out(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__
    return False
