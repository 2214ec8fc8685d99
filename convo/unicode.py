"""Unicode normalization that stays fast for texts which were written to make it slow."""

import re
import unicodedata
from typing import Literal

# Each piece of a text is normalized by itself. In one piece, 40,000 combining marks in the wrong order take
# eight seconds, because `unicodedata` sorts them by insertion. No piece ends before a mark that would join
# its last character (accents, vowel signs, Hangul parts), unless 200 of them follow each other.
_JOINING_MARKS = (
    r"\u0300-\u036f\u0483-\u0487\u05b0-\u05c7\u064b-\u065f\u093c-\u094d\u1160-\u11ff\u1ab0-\u1aff\u3099\u309a"
)
_PIECES = re.compile(rf".{{1,200}}(?![{_JOINING_MARKS}])|.{{1,200}}", re.DOTALL)


def normalize(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Return the text in this normal form, in time linear in its length."""
    if text.isascii():
        return text
    return "".join(unicodedata.normalize(form, piece) for piece in _PIECES.findall(text))
