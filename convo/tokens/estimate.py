"""Estimate the tokens for models whose tokenizer is not installed. The estimate is an upper bound."""

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# Tokens and characters of o200k_base and cl100k_base; the file says what each entry means.
VOCABULARY: dict[str, str] = tomllib.loads(
    Path(__file__).with_name("vocabulary.toml").read_text(encoding="utf-8")
)

# A text is covered with tiles, from left to right, each the longest that fits. A tile is a token of both
# o200k_base and cl100k_base, so this counts like a byte-pair tokenizer with a smaller vocabulary: no fewer.
# A run of any length up to the given one is a token of its own in both.
_RUNS = (
    r"'(?:[sdmtSDMT]|ll|ve|re)"  # cl100k_base splits these off, whatever follows: 's|omething
    r"| {1,78}(?= \S)| {2,79}|\t{1,20}|(?:\r?\n){1,2}|\n{1,10}"
    r"|={2,16}|-{2,16}| ?(?:={2,5}|-{2,8}|\*{2,5}|\.{2,6}|_{2,5}|\#{2,5}|/{2,4})"
)
# A word is a tile only at its end, or before a common ending: amid other letters, merging often splits it.
_WORD_ENDS = r"(?:(?<=[a-zß-ÿ])(?=(?:s|es|d|ed|ing|ly|er|ers)?(?![a-zß-ÿ]))|(?<=[A-Z])(?![A-Za-z]))"
# After ASCII, no tile begins with a combining mark: the mark's bytes merge with the character before it.
_NOT_AFTER_ASCII = r"(?<![\x00-\x7f])"
_ASCII = r"[0-9]{1,3}| ?[!-/:-@\[-`{-~]| [A-Za-z]|[\x00-\x7f]"

# Merging by rank sometimes gives more tokens than tiling: one or two in a short text, and less than 1 % in a
# long one (measured on random letters, characters and pieces of the tests' corpus).
_MARGIN = 100


def upper_bound(text: str) -> int:
    """Return an upper bound of the tokens in `text`, valid for both vocabularies."""
    if not text:
        return 0
    rare_characters = _tile_pattern().findall(text)
    # The pattern's only group matches a character that no tile covers.
    tiles = len(rare_characters) + _extra_cost("".join(rare_characters))
    return tiles + tiles // _MARGIN + 1


def _extra_cost(characters: str) -> int:
    # Each of these characters is already counted once. A byte-level tokenizer needs at most a token for each
    # of its UTF-8 bytes, and one less if it knows a pair of these bytes.
    return (
        len(characters.encode("utf-8", "surrogatepass"))
        - len(characters)
        - len(_cheaper_characters().findall(characters))
    )


@cache
def _tile_pattern() -> re.Pattern[str]:
    words = VOCABULARY["words"].split()
    loose = words + [word.capitalize() for word in words] + _parse_tokens("loose")
    sections = ((" ?", loose), (" ", _parse_tokens("spaced")), ("", _parse_tokens("tight")))
    word_patterns = [start + _any_of(filter(_is_word, tokens)) + _WORD_ENDS for start, tokens in sections]
    part_patterns = [
        after + start + _any_of(parts)
        for start, tokens in sections
        for after, is_mark in (("", False), (_NOT_AFTER_ASCII, True))
        if (parts := [part for part in tokens if not _is_word(part) and _is_mark(part[0]) == is_mark])
    ]
    characters = "".join(VOCABULARY["characters"].split()) + VOCABULARY["invisible"]
    alternatives = (_RUNS, *word_patterns, *part_patterns, _ASCII, f"[{re.escape(characters)}]", "(.)")
    return re.compile("|".join(alternatives), re.DOTALL)


@cache
def _cheaper_characters() -> re.Pattern[str]:
    numbers = re.sub(r"[0-9a-f]+", lambda number: chr(int(number[0], 16)), VOCABULARY["cheaper_ranges"])
    return re.compile("[" + "".join(numbers.split()) + "]")


def _parse_tokens(section: str) -> list[str]:
    return [token.replace("↵", "\n") for token in VOCABULARY[section].split()]


def _is_word(token: str) -> bool:
    return len(token) > 3 and token.isalpha() and token < "\u0250"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _any_of(tokens: Iterable[str]) -> str:
    # The tree writes shared beginnings once, and makes the pattern match the longest token.
    tree: dict[str, list[str]] = {}
    for token in tokens:
        tree.setdefault(token[:1], []).append(token[1:])
    is_optional = tree.pop("", None) is not None
    branches = [re.escape(first) + _any_of(rest) for first, rest in tree.items() if any(rest)]
    leaves = re.escape("".join(first for first, rest in tree.items() if not any(rest)))
    if leaves:
        branches.append(f"[{leaves}]")
    if not branches:
        return ""
    # A lookahead at one character avoids trying many branches in vain.
    lookahead = f"(?=[{re.escape(''.join(tree))}])" if len(branches) > 8 else ""
    return f"(?:{lookahead}(?:{'|'.join(branches)}))" + ("?" if is_optional else "")
