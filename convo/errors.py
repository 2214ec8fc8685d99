"""Every way in which Convo says no: the docstring is the message, the class knows its status and code."""

from typing import Any


class ConvoError(Exception):
    """Something went wrong inside Convo. Try again; if it stays, the server's log tells more."""

    status = 500
    code = "server_error"
    type = "server_error"
    # The status and code that the OpenAI-compatible surface uses, where they differ: its clients retry 409.
    v1_status: int | None = None
    # '' where its clients get a code of null.
    v1_code: str | None = None
    v1_param: str | None = None
    # Was something stored before it went wrong, so that the same request would store it twice?
    kept = False

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
        self.retry_after = retry_after
        self.details = details
        super().__init__(self.message)

    @property
    def retryable(self) -> bool:
        """May the same request succeed later?"""
        return self.status >= 500 or self.status == 429


class InvalidRequest(ConvoError):
    """The request is not valid. The message says which part, and what is expected there."""

    status, code, type = 400, "invalid_value", "invalid_request_error"


class UnknownParameter(InvalidRequest):
    """This field is not known here. Remove it, or see /api/docs/ for the fields of this call."""

    code = "unknown_parameter"


class MissingParameter(InvalidRequest):
    """A field that this call needs is missing. `param` names it."""

    code = "missing_required_parameter"


class WrongType(InvalidRequest):
    """A value is of the wrong type. The message says which type is expected there."""

    code = "invalid_type"


class InvalidItem(InvalidRequest):
    """This item says nothing that could be used later. Send it as it was received, or leave it out."""

    code = "invalid_item"


class ItemInConversation(InvalidRequest):
    """An item with this id is in the conversation already. Leave it out, or leave out its id."""

    code = "item_already_in_conversation"


class InvalidInput(InvalidRequest):
    """The input does not go with what it goes on from. The message names the item."""

    v1_code = ""


class PreviousResponseNotFound(InvalidRequest):
    """There is no such response to go on from: it is unknown, deleted, or was not stored."""

    code = "previous_response_not_found"


class Malformed(InvalidRequest):
    """The body is not valid JSON. Send one JSON object, encoded as UTF-8."""

    code = "malformed_body"


class Unauthenticated(ConvoError):
    """No valid credentials. Sign in, or send `Authorization: Bearer KEY` (see `manage.py create_key`)."""

    status, code, type = 401, "invalid_api_key", "invalid_request_error"


class Forbidden(ConvoError):
    """These credentials may not do this. Use a key whose scopes include the one named."""

    status, code, type = 403, "insufficient_scope", "invalid_request_error"


class CsrfFailed(Forbidden):
    """The CSRF token is missing or wrong. Reload the page, or send an API key in place of a cookie."""

    code = "csrf_failed"


class NeverStored(InvalidRequest):
    """This is never remembered: it looks like a secret, or one of this person's rules forbids it."""

    code = "never_stored"


class UnknownAgent(InvalidRequest):
    """There is no agent of this name. Choose one of those in agents.yaml."""

    code = "unknown_agent"


class NotFound(ConvoError):
    """Nothing is here, or it is not yours. Check the id."""

    status, code, type = 404, "not_found", "invalid_request_error"
    v1_code = ""


class ModelNotFound(NotFound):
    """There is no such model here. `GET /v1/models` lists those that there are."""

    code = v1_code = "model_not_found"


class MethodNotAllowed(ConvoError):
    """This address does not take that method. OPTIONS tells which ones it takes."""

    status, code, type = 405, "method_not_allowed", "invalid_request_error"


class NotAcceptable(ConvoError):
    """None of the media types in Accept can be had. Ask for application/json or text/event-stream."""

    status, code, type = 406, "not_acceptable", "invalid_request_error"


class UnsupportedMedia(ConvoError):
    """This content type is not read here. Send application/json."""

    status, code, type = 415, "unsupported_media_type", "invalid_request_error"


class TurnInProgress(ConvoError):
    """Another turn is running in this session. Wait for it, or try again after the seconds in Retry-After."""

    status, code, type = 409, "turn_in_progress", "invalid_request_error"
    v1_status, v1_code, v1_param = 400, "conversation_locked", "conversation"


class KeyInFlight(ConvoError):
    """The request with this Idempotency-Key is still being answered. Send it again after Retry-After."""

    status, code, type = 409, "idempotency_key_in_use", "invalid_request_error"


class KeyReused(ConvoError):
    """This Idempotency-Key was used for another request. Make a new key for every new request."""

    status, code, type = 422, "idempotency_key_reused", "invalid_request_error"
    v1_status = 400


class BranchNotActive(ConvoError):
    """This turn is not on the branch of the conversation that is shown. Activate that branch first."""

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
    """What is said in this session is not kept as readable text, so it cannot be searched."""

    status, code, type = 409, "not_searchable", "invalid_request_error"


class Gone(ConvoError):
    """What was written with this Idempotency-Key has been deleted since. It is not written again."""

    status, code, type = 410, "deleted", "invalid_request_error"


class TextGone(ConvoError):
    """What was said in this temporary chat is gone: it was idle too long, or the cache was emptied."""

    status, code, type = 410, "text_gone", "invalid_request_error"


class TooLarge(ConvoError):
    """The body is larger than this server accepts. Send less at once."""

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


class UpstreamRateLimited(UpstreamError):
    """The model server is rate limiting. The question is kept; ask again after the seconds in Retry-After."""

    status, code = 429, "upstream_rate_limited"


class UpstreamTimeout(UpstreamError):
    """The model server did not answer in time. The question is kept; ask again."""

    status, code = 504, "upstream_timeout"


class UpstreamUnavailable(UpstreamError):
    """The model server cannot be reached, or failed. The question is kept; ask again."""

    code = "upstream_unavailable"


class UpstreamProtocolError(UpstreamError):
    """The model server sent something that is not a chat completion. Check OPENAI_BASE_URL."""

    code = "upstream_protocol_error"


class Truncated(UpstreamError):
    """The model's answer broke off before its end. What arrived is kept and marked partial."""

    code = "truncated"


class MaxOutputTokens(ConvoError):
    """The reply reached its limit of tokens and stops there."""

    status, code = 200, "max_output_tokens"


class ContentFilter(ConvoError):
    """The model server withheld the rest of this reply."""

    status, code = 200, "content_filter"


class Interrupted(ConvoError):
    """The process that wrote this reply stopped before its end. What was saved is kept; ask again."""

    status, code = 502, "interrupted"


class Cancelled(ConvoError):
    """This turn was cancelled. What had been written is kept."""

    status, code, type = 409, "turn_cancelled", "invalid_request_error"


class ServerShutdown(ConvoError):
    """The server is stopping. What had been written is kept; ask again, the next process answers."""

    status, code = 503, "server_shutdown"


class Unavailable(ConvoError):
    """The database cannot be reached just now, and nothing was changed. Try again after Retry-After."""

    status, code = 503, "unavailable"


class NotConfigured(ConvoError):
    """This needs a model that is not configured. Set the variable that the message names, and restart."""

    status, code = 503, "not_configured"


def by_code(code: str) -> type[ConvoError]:
    """The error class with this code, so that a failure stored on a turn can be told again."""
    return _BY_CODE.get(code, ConvoError)


def _tree(cls: type[ConvoError]) -> list[type[ConvoError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _tree(sub))]


_BY_CODE = {cls.code: cls for cls in reversed(_tree(ConvoError))}
