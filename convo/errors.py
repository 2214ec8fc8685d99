"""Every error of Convo. The docstring of a class is its message."""

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

_CLASSES_BY_CODE: dict[str, type["ConvoError"]] = {}


class ConvoError(Exception):
    """Something went wrong inside Convo. Try again; if it happens again, see the server's log."""

    status = 500
    code = "server_error"
    type = "server_error"
    # Status, code and param on the OpenAI-compatible surface, where they differ: its clients retry 409.
    v1_status: int | None = None
    # An empty string means that the client gets the code null.
    v1_code: str | None = None
    v1_param: str | None = None
    # The seconds in Retry-After, unless the code that raises the error passes others.
    default_retry_after: float | None = None

    def __init_subclass__(
        cls, *, status: int | None = None, code: str | None = None, **attributes: str | int
    ) -> None:
        """Set the attributes that a class statement names; with a status of 4xx the request is at fault."""
        super().__init_subclass__()
        if status is not None:
            cls.status, cls.type = status, "invalid_request_error" if 400 <= status < 500 else "server_error"
        if code is not None:
            cls.code = code
            _CLASSES_BY_CODE[code] = cls
        for name, value in attributes.items():
            setattr(cls, name, value)

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        self.message = message or type(self).__doc__ or ""
        self.param = param
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        self.details = details
        super().__init__(self.message)

    def with_message(self, message: str) -> Self:
        """Return the same error in other words."""
        error = copy(self)
        error.message = message
        return error

    @property
    def retryable(self) -> bool:
        """Return whether the same request may succeed later."""
        return self.status >= 500 or self.status == 429


class InvalidRequest(ConvoError, status=400, code="invalid_value"):
    """The request is not valid. The message says which part is at fault, and what is expected there."""


class UnknownParameter(InvalidRequest, code="unknown_parameter"):
    """Unknown field. Remove it, or see /api/docs/ for the fields of this call."""


class UnsupportedValue(InvalidRequest, code="unsupported_value"):
    """OpenAI accepts this value, but Convo does not support it. Leave it out."""


class MissingParameter(InvalidRequest, code="missing_required_parameter"):
    """A required field is missing. `param` names it."""


class WrongType(InvalidRequest, code="invalid_type"):
    """A value is of the wrong type. The message says which type is expected there."""


class InvalidItem(InvalidRequest, code="invalid_item"):
    """This item has no content that can be used later. Send it as you received it, or leave it out."""


class ItemInConversation(InvalidRequest, code="item_already_in_conversation"):
    """An item with this id is in the conversation already. Leave it out, or leave out its id."""


class InvalidContinuation(InvalidRequest, v1_code=""):
    """The input does not fit the conversation that it continues. The message names the item."""


class PreviousResponseNotFound(InvalidRequest, code="previous_response_not_found"):
    """There is no such previous response: it is unknown, deleted, or was not stored."""


class MalformedBody(InvalidRequest, code="malformed_body"):
    """The body is not valid JSON. Send one JSON object, encoded as UTF-8."""


class NotAuthenticated(ConvoError, status=401, code="invalid_api_key"):
    """No valid credentials. Sign in, or send `Authorization: Bearer KEY` (see `manage.py create_key`)."""


class Forbidden(ConvoError, status=403, code="insufficient_scope"):
    """These credentials do not allow this. Use a key whose scopes include the one that is named."""


class CsrfFailed(Forbidden, code="csrf_failed"):
    """The CSRF token is missing or wrong. Reload the page, or send an API key in place of a cookie."""


class MemoryNotAllowed(InvalidRequest, code="never_stored"):
    """This is never remembered: it looks like a secret, or one of this person's rules forbids it."""


class UnknownAgent(InvalidRequest, code="unknown_agent"):
    """There is no agent of this name. Choose one of those in agents.yaml."""


class NotFound(ConvoError, status=404, code="not_found", v1_code=""):
    """There is nothing at this address, or it is not yours. Check the id."""


class ModelNotFound(NotFound, code="model_not_found", v1_code="model_not_found"):
    """There is no such model. `GET /v1/models` lists the models of this server."""


class MethodNotAllowed(ConvoError, status=405, code="method_not_allowed"):
    """This address does not allow this method. OPTIONS lists those that it allows."""


class NotAcceptable(ConvoError, status=406, code="not_acceptable"):
    """None of the media types in Accept is available. Ask for application/json or text/event-stream."""


class UnsupportedMediaType(ConvoError, status=415, code="unsupported_media_type"):
    """Unsupported content type. Send application/json."""


class TurnInProgress(ConvoError, status=409, code="turn_in_progress", default_retry_after=1):
    """Another turn is running in this session. Wait for it, or try again after the seconds in Retry-After."""

    v1_status, v1_code, v1_param = 400, "conversation_locked", "conversation"


class IdempotencyKeyInUse(ConvoError, status=409, code="idempotency_key_in_use", default_retry_after=1):
    """The request with this Idempotency-Key is still in progress. Send it again after Retry-After."""


class IdempotencyKeyReused(ConvoError, status=422, code="idempotency_key_reused", v1_status=400):
    """This Idempotency-Key was used for another request. Make a new key for every new request."""


class BranchNotActive(ConvoError, status=409, code="branch_not_active", v1_status=400):
    """This turn is not on the active branch of the conversation. Activate its branch first."""


class MemoryNotCurrent(ConvoError, status=409, code="memory_not_current"):
    """This memory was replaced and is kept as history only. Change the one in its `superseded_by`."""


class SessionClosed(ConvoError, status=409, code="session_not_open", v1_status=400):
    """This session is archived or closed and takes no new messages. Set its state to `open` first."""


class NotSearchable(ConvoError, status=409, code="not_searchable"):
    """The messages of this session are not stored as readable text, so they cannot be searched."""


class ResultDeleted(ConvoError, status=410, code="deleted"):
    """The result of the request with this Idempotency-Key was deleted. Use a new key to send it again."""


class ContentsExpired(ConvoError, status=410, code="text_gone"):
    """The messages of this temporary chat are gone: it was idle too long, or the cache was emptied."""


class BodyTooLarge(ConvoError, status=413, code="body_too_large"):
    """The body is larger than this server accepts. Send less in one request."""


class MessageTooLong(ConvoError, status=413, code="message_too_long"):
    """The message does not fit into the token budget. Shorten it, or raise the agent's `context_tokens`."""

    v1_status, v1_code = 400, "context_length_exceeded"


class UpstreamError(ConvoError, status=502, code="upstream_error"):
    """The model could not answer. The question is kept; ask again."""


class UpstreamRejected(UpstreamError, code="upstream_rejected"):
    """The model server refused the request. Check OPENAI_BASE_URL, OPENAI_API_KEY and the model's name."""

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        status, code = self.details.get("upstream_status"), self.details.get("upstream_code")
        if status in {400, 404, 413, 422}:
            # The request is at fault, and not Convo's credentials or account, so OpenAI's clients get the
            # refusal as if they had asked the model server themselves.
            self.v1_status, self.v1_param = status, self.details.get("upstream_param")
            self.v1_code = code or ("model_not_found" if status == 404 else "invalid_value")

    @property
    def retryable(self) -> bool:
        """Return False: the same request is refused until somebody changes it, or the settings."""
        return False


class UpstreamRateLimited(UpstreamError, status=429, code="upstream_rate_limited", type="server_error"):
    """The model server is rate limiting. The question is kept; ask again after the seconds in Retry-After."""

    # Limits are counted per minute; half a minute is long enough to help and short enough to wait for.
    default_retry_after = 30


class UpstreamTimeout(UpstreamError, status=504, code="upstream_timeout"):
    """The model server did not answer in time. The question is kept; ask again."""


class UpstreamUnavailable(UpstreamError, code="upstream_unavailable"):
    """The model server cannot be reached, or failed. The question is kept; ask again."""


class UpstreamProtocolError(UpstreamError, code="upstream_protocol_error"):
    """The model server sent something that is not a chat completion. Check OPENAI_BASE_URL."""


class ReplyTruncated(UpstreamError, code="truncated"):
    """The model's reply broke off before its end. The part that arrived is kept and marked partial."""


class MaxOutputTokens(ConvoError, status=200, code="max_output_tokens"):
    """The reply reached its token limit and stops there."""


class ContentFilter(ConvoError, status=200, code="content_filter"):
    """The model server withheld the rest of this reply."""


class TurnInterrupted(ConvoError, status=502, code="interrupted"):
    """The process that wrote this reply stopped before it was complete. The saved part is kept; ask again."""


class TurnCancelled(ConvoError, status=409, code="turn_cancelled"):
    """This turn was cancelled. The reply so far is kept."""


class ServerShutdown(ConvoError, status=503, code="server_shutdown", default_retry_after=1):
    """The server is stopping. The reply so far is kept; ask again, and the next process answers."""


class DatabaseUnavailable(ConvoError, status=503, code="unavailable", default_retry_after=1):
    """The database cannot be reached just now, and nothing was changed. Try again after Retry-After."""


class NotConfigured(ConvoError, status=503, code="not_configured"):
    """This needs a model that is not configured. Set the variable that the message names, and restart."""


def error_from_json(error: Mapping[str, Any]) -> ConvoError:
    """Rebuild the error that is stored on a turn."""
    details = dict(error)
    return class_by_code(details.pop("code", ""))(details.pop("message", None), **details)


def class_by_code(code: str) -> type[ConvoError]:
    return _CLASSES_BY_CODE.get(code, ConvoError)
