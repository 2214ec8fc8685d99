"""The text inside a compaction item, signed so that only this server can write one."""

from django.core import signing

_SALT = "convo.compaction"


def sign_text(text: str) -> str:
    return signing.dumps(text, salt=_SALT, compress=True)


def read_signed_text(signed_text: str) -> str:
    """Return the text, or '' if it was not signed by this server."""
    try:
        return str(signing.loads(signed_text, salt=_SALT))
    except signing.BadSignature:
        return ""
