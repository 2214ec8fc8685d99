"""Every error of Convo. The docstring of a class is its message; its attributes are status and code."""

from collections.abc import Mapping
from copy import copy
from typing import Any, Self


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


class InvalidRequest(ConvoError):
    """The request is not valid. The message says which part is at fault, and what is expected there."""

    status, code, type = 400, "invalid_value", "invalid_request_error"


class UnknownParameter(InvalidRequest):
    """Unknown field. Remove it, or see /api/docs/ for the fields of this call."""

    code = "unknown_parameter"


class UnsupportedValue(InvalidRequest):
    """OpenAI accepts this value, but Convo does not support it. Leave it out."""

    code = "unsupported_value"


class MissingParameter(InvalidRequest):
    """A required field is missing. `param` names it."""

    code = "missing_required_parameter"


class WrongType(InvalidRequest):
    """A value is of the wrong type. The message says which type is expected there."""

    code = "invalid_type"


class InvalidItem(InvalidRequest):
    """This item has no content that can be used later. Send it as you received it, or leave it out."""

    code = "invalid_item"


class ItemInConversation(InvalidRequest):
    """An item with this id is in the conversation already. Leave it out, or leave out its id."""

    code = "item_already_in_conversation"


class InvalidContinuation(InvalidRequest):
    """The input does not fit the conversation that it continues. The message names the item."""

    v1_code = ""


class PreviousResponseNotFound(InvalidRequest):
    """There is no such previous response: it is unknown, deleted, or was not stored."""

    code = "previous_response_not_found"


class MalformedBody(InvalidRequest):
    """The body is not valid JSON. Send one JSON object, encoded as UTF-8."""

    code = "malformed_body"


class NotAuthenticated(ConvoError):
    """No valid credentials. Sign in, or send `Authorization: Bearer KEY` (see `manage.py create_key`)."""

    status, code, type = 401, "invalid_api_key", "invalid_request_error"


class Forbidden(ConvoError):
    """These credentials do not allow this. Use a key whose scopes include the one that is named."""

    status, code, type = 403, "insufficient_scope", "invalid_request_error"


class CsrfFailed(Forbidden):
    """The CSRF token is missing or wrong. Reload the page, or send an API key in place of a cookie."""

    code = "csrf_failed"


class MemoryNotAllowed(InvalidRequest):
    """This is never remembered: it looks like a secret, or one of this person's rules forbids it."""

    code = "never_stored"


class UnknownAgent(InvalidRequest):
    """There is no agent of this name. Choose one of those in agents.yaml."""

    code = "unknown_agent"


class NotFound(ConvoError):
    """There is nothing at this address, or it is not yours. Check the id."""

    status, code, type = 404, "not_found", "invalid_request_error"
    v1_code = ""


class ModelNotFound(NotFound):
    """There is no such model. `GET /v1/models` lists the models of this server."""

    code = v1_code = "model_not_found"


class MethodNotAllowed(ConvoError):
    """This address does not allow this method. OPTIONS lists those that it allows."""

    status, code, type = 405, "method_not_allowed", "invalid_request_error"


class NotAcceptable(ConvoError):
    """None of the media types in Accept is available. Ask for application/json or text/event-stream."""

    status, code, type = 406, "not_acceptable", "invalid_request_error"


class UnsupportedMediaType(ConvoError):
    """Unsupported content type. Send application/json."""

    status, code, type = 415, "unsupported_media_type", "invalid_request_error"


class TurnInProgress(ConvoError):
    """Another turn is running in this session. Wait for it, or try again after the seconds in Retry-After."""

    status, code, type = 409, "turn_in_progress", "invalid_request_error"
    default_retry_after = 1
    v1_status, v1_code, v1_param = 400, "conversation_locked", "conversation"


class IdempotencyKeyInUse(ConvoError):
    """The request with this Idempotency-Key is still in progress. Send it again after Retry-After."""

    status, code, type = 409, "idempotency_key_in_use", "invalid_request_error"
    default_retry_after = 1


class IdempotencyKeyReused(ConvoError):
    """This Idempotency-Key was used for another request. Make a new key for every new request."""

    status, code, type = 422, "idempotency_key_reused", "invalid_request_error"
    v1_status = 400


class BranchNotActive(ConvoError):
    """This turn is not on the active branch of the conversation. Activate its branch first."""

    status, code, type = 409, "branch_not_active", "invalid_request_error"
    v1_status = 400


class MemoryNotCurrent(ConvoError):
    """This memory was replaced and is kept as history only. Change the one in its `superseded_by`."""

    status, code, type = 409, "memory_not_current", "invalid_request_error"


class SessionClosed(ConvoError):
    """This session is archived or closed and takes no new messages. Set its state to `open` first."""

    status, code, type = 409, "session_not_open", "invalid_request_error"
    v1_status = 400


class NotSearchable(ConvoError):
    """The messages of this session are not stored as readable text, so they cannot be searched."""

    status, code, type = 409, "not_searchable", "invalid_request_error"


class ResultDeleted(ConvoError):
    """The result of the request with this Idempotency-Key was deleted. Use a new key to send it again."""

    status, code, type = 410, "deleted", "invalid_request_error"


class ContentsExpired(ConvoError):
    """The messages of this temporary chat are gone: it was idle too long, or the cache was emptied."""

    status, code, type = 410, "text_gone", "invalid_request_error"


class BodyTooLarge(ConvoError):
    """The body is larger than this server accepts. Send less in one request."""

    status, code, type = 413, "body_too_large", "invalid_request_error"


class MessageTooLong(ConvoError):
    """The message does not fit into the token budget. Shorten it, or raise the agent's `context_tokens`."""

    status, code, type = 413, "message_too_long", "invalid_request_error"
    v1_status, v1_code = 400, "context_length_exceeded"


class UpstreamError(ConvoError):
    """The model could not answer. The question is kept; ask again."""

    status, code, type = 502, "upstream_error", "server_error"


class UpstreamRejected(UpstreamError):
    """The model server refused the request. Check OPENAI_BASE_URL, OPENAI_API_KEY and the model's name."""

    code = "upstream_rejected"

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


class UpstreamRateLimited(UpstreamError):
    """The model server is rate limiting. The question is kept; ask again after the seconds in Retry-After."""

    status, code = 429, "upstream_rate_limited"
    # Limits are counted per minute; half a minute is long enough to help and short enough to wait for.
    default_retry_after = 30


class UpstreamTimeout(UpstreamError):
    """The model server did not answer in time. The question is kept; ask again."""

    status, code = 504, "upstream_timeout"


class UpstreamUnavailable(UpstreamError):
    """The model server cannot be reached, or failed. The question is kept; ask again."""

    code = "upstream_unavailable"


class UpstreamProtocolError(UpstreamError):
    """The model server sent something that is not a chat completion. Check OPENAI_BASE_URL."""

    code = "upstream_protocol_error"


class ReplyTruncated(UpstreamError):
    """The model's reply broke off before its end. The part that arrived is kept and marked partial."""

    code = "truncated"


class MaxOutputTokens(ConvoError):
    """The reply reached its token limit and stops there."""

    status, code = 200, "max_output_tokens"


class ContentFilter(ConvoError):
    """The model server withheld the rest of this reply."""

    status, code = 200, "content_filter"


class TurnInterrupted(ConvoError):
    """The process that wrote this reply stopped before it was complete. The saved part is kept; ask again."""

    status, code = 502, "interrupted"


class TurnCancelled(ConvoError):
    """This turn was cancelled. The reply so far is kept."""

    status, code, type = 409, "turn_cancelled", "invalid_request_error"


class ServerShutdown(ConvoError):
    """The server is stopping. The reply so far is kept; ask again, and the next process answers."""

    status, code = 503, "server_shutdown"
    default_retry_after = 1


class DatabaseUnavailable(ConvoError):
    """The database cannot be reached just now, and nothing was changed. Try again after Retry-After."""

    status, code = 503, "unavailable"
    default_retry_after = 1


class NotConfigured(ConvoError):
    """This needs a model that is not configured. Set the variable that the message names, and restart."""

    status, code = 503, "not_configured"


def error_from_json(error: Mapping[str, Any]) -> ConvoError:
    """Rebuild the error that is stored on a turn."""
    details = dict(error)
    return class_by_code(details.pop("code", ""))(details.pop("message", None), **details)


def class_by_code(code: str) -> type[ConvoError]:
    return _CLASSES_BY_CODE.get(code, ConvoError)


def _class_tree(cls: type[ConvoError]) -> list[type[ConvoError]]:
    return [cls, *(error_class for subclass in cls.__subclasses__() for error_class in _class_tree(subclass))]


_CLASSES_BY_CODE = {cls.code: cls for cls in reversed(_class_tree(ConvoError))}
