"""What a compaction holds: a text that only this server reads, signed so that nobody else writes one."""

from django.core import signing

_SALT = "convo.compaction"


def seal(text: str) -> str:
    return signing.dumps(text, salt=_SALT, compress=True)


def unsealed(sealed: str) -> str:
    """The text; '' of what was sealed elsewhere."""
    try:
        return str(signing.loads(sealed, salt=_SALT))
    except signing.BadSignature:
        return ""
