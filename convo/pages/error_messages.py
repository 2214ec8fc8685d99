"""Error messages for visitors of the pages: they say what a visitor can do, and nothing about settings."""

import math

from convo import errors
from convo.errors import ConvoError, UpstreamRejected

_TRY_AGAIN = "Your message is kept; try again in a moment."
_REPORT = "If this keeps happening, tell the people who run this site."
_MISCONFIGURED = (
    "The model is not available at the moment. Your message is kept. Tell the people who run this site that "
    "the model server refuses its requests; the admin shows them why."
)
_MESSAGES = {
    errors.MessageTooLong.code: "This is too long. Shorten the message, or attach less.",
    errors.UpstreamRejected.code: f"The model refused this message. Change it, or try again. {_REPORT}",
    errors.UpstreamRateLimited.code: "The model is too busy just now. Your message is kept.",
    errors.UpstreamTimeout.code: f"The model did not answer in time. {_TRY_AGAIN} {_REPORT}",
    errors.UpstreamUnavailable.code: f"The model can’t be reached just now. {_TRY_AGAIN} {_REPORT}",
    errors.UpstreamProtocolError.code: f"The model’s answer could not be read. {_TRY_AGAIN} {_REPORT}",
    errors.ReplyTruncated.code: (
        "The model’s answer broke off before its end. What arrived is kept; try again."
    ),
    errors.NotConfigured.code: f"This site has no model for this yet. {_REPORT}",
    errors.DatabaseUnavailable.code: (
        f"Something here can’t be reached just now, and nothing was changed. {_REPORT}"
    ),
}
# These messages are for the codes with which a model server rejects the request itself.
_REQUEST_MESSAGES = {
    "context_length_exceeded": "This is too long for the model. Shorten your message, or begin a new "
    "conversation.",
    "content_filter": "The model’s provider does not answer this. Say it in other words.",
}


def message_for_visitor(error: ConvoError) -> str:
    """Return the message for a visitor, with the seconds to wait if the error has any."""
    message = _MESSAGES.get(error.code, error.message)
    if isinstance(error, UpstreamRejected):
        # A 404 means a wrong URL or model name, which a visitor can't change.
        is_about_request = error.details.get("upstream_status") in {400, 413, 422}
        code = str(error.details.get("upstream_code"))
        message = _REQUEST_MESSAGES.get(code) or (message if is_about_request else _MISCONFIGURED)
    if error.retry_after is None:
        return message
    seconds = math.ceil(error.retry_after)
    return f"{message} Try again in {seconds} second{'' if seconds == 1 else 's'}."
