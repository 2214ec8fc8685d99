"""What became of a text, for a person to read."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

# Finding the difference takes time by the square of the words.
MOST_WORDS = 3000
_WORD = re.compile(r"\s*\S+")


def changes(before: str, after: str) -> Iterator[tuple[str, str]]:
    """The pieces of both texts in order: kept (''), taken out ('del') or put in ('ins')."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    if not before or max(len(old), len(new)) > MOST_WORDS:
        yield "", after
        return
    for tag, first, last, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield "", "".join(old[first:last])
            continue
        if last > first:
            yield "del", "".join(old[first:last])
        if end > start:
            yield "ins", "".join(new[start:end])
