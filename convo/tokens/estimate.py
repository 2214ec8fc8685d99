"""An estimate for models whose tokenizer is not installed: it may count too many, not too few."""

import re
from collections.abc import Iterable
from functools import cache
from itertools import filterfalse

from convo.tokens.characters import CHARACTERS, CHEAPER, UNSEEN
from convo.tokens.vocabulary import LOOSE, SPACED, TIGHT, WORDS

# A text is laid out with tiles, from left to right, each the longest that fits. A tile is a token of both
# o200k_base and cl100k_base, so this counts like a byte-pair tokenizer with a smaller vocabulary: not less.
# In runs, every length up to the one given is a token of its own in both.
_RUNS = (
    r"'(?:[sdmtSDMT]|ll|ve|re)"  # cl100k_base splits it off whatever follows: 's|omething
    r"| {1,78}(?= \S)| {2,79}|\t{1,20}|(?:\r?\n){1,2}|\n{1,10}"
    r"|={2,16}|-{2,16}| ?(?:={2,5}|-{2,8}|\*{2,5}|\.{2,6}|_{2,5}|\#{2,5}|/{2,4})"
)
# A word is one tile only where it ends, or nearly so: amid other letters merging often finds other parts.
_WORD_ENDS = r"(?:(?<=[a-zß-ÿ])(?=(?:s|es|d|ed|ing|ly|er|ers)?(?![a-zß-ÿ]))|(?<=[A-Z])(?![A-Za-z]))"
_ASCII = r"[0-9]{1,3}| ?[!-/:-@\[-`{-~]| [A-Za-z]|[\x00-\x7f]"

# Merging by rank is now and then worse than tiling: by a token or two in a short text, by less than 1 % in a
# long one (measured on random letters, characters and pieces of the tests' corpus).
_MARGIN = 100


def at_most(text: str) -> int:
    """How many tokens `text` has at most, whichever of the two vocabularies counts."""
    if not text:
        return 0
    found = _tiles().findall(text)
    # Only a character that no tile knows is in the pattern's group.
    tiles = len(found) + _cost_beyond_one("".join(found))
    return tiles + tiles // _MARGIN + 1


def _cost_beyond_one(rare: str) -> int:
    """What these characters cost beside the one token each that is counted already.

    A byte-level tokenizer makes of them their UTF-8 bytes at most, and one less where it knows a pair.
    """
    return len(rare.encode("utf-8", "surrogatepass")) - len(rare) - len(_cheaper().findall(rare))


@cache
def _tiles() -> re.Pattern[str]:
    words = WORDS.split()
    loose = words + [word.capitalize() for word in words] + _listed(LOOSE)
    sections = ((" ?", loose), (" ", _listed(SPACED)), ("", _listed(TIGHT)))
    whole = [start + _any_of(filter(_is_word, tokens)) + _WORD_ENDS for start, tokens in sections]
    parts = [start + _any_of(filterfalse(_is_word, tokens)) for start, tokens in sections]
    lone = "[" + re.escape("".join(CHARACTERS.split()) + UNSEEN) + "]"
    return re.compile("|".join((_RUNS, *whole, *parts, _ASCII, lone, "(.)")), re.DOTALL)


@cache
def _cheaper() -> re.Pattern[str]:
    numbers = re.sub(r"[0-9a-f]+", lambda number: chr(int(number[0], 16)), CHEAPER)
    return re.compile("[" + "".join(numbers.split()) + "]")


def _listed(section: str) -> list[str]:
    return [token.replace("↵", "\n") for token in section.split()]


def _is_word(token: str) -> bool:
    return len(token) > 3 and token.isalpha() and token < "\u0250"


def _any_of(tokens: Iterable[str]) -> str:
    """A pattern for the longest of these tokens that stands here, with shared beginnings written once."""
    tree: dict[str, list[str]] = {}
    for token in tokens:
        tree.setdefault(token[:1], []).append(token[1:])
    ends = tree.pop("", None) is not None
    branches = [re.escape(first) + _any_of(rest) for first, rest in tree.items() if any(rest)]
    leaves = re.escape("".join(first for first, rest in tree.items() if not any(rest)))
    if leaves:
        branches.append(f"[{leaves}]")
    if not branches:
        return ""
    # Looking at one character first spares trying many branches in vain.
    ahead = f"(?=[{re.escape(''.join(tree))}])" if len(branches) > 8 else ""
    return f"(?:{ahead}(?:{'|'.join(branches)}))" + ("?" if ends else "")
