"""Screen texts before they become memories: for secrets, for a person's rules, and for prompt injection."""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable, Iterator

from convo.memory.pattern_files import load_patterns
from convo.models import Person, pepper
from convo.unicode import normalize

# Learning reads only this many characters of a message, so text behind them can't take a model over.
MAX_CHARACTERS = 200_000
_PATTERNS = {
    name: list(map(re.compile, patterns))
    for name, patterns in load_patterns("screen.toml")["patterns"].items()
}
# A rule with this prefix names a kind of memory; any other rule is words that the text must not have.
KIND_PREFIX = "kind:"


def text_key(person: Person, text: str) -> str:
    """Return a keyed hash of a text's words without case and punctuation; each person has other hashes."""
    keyed_text = f"{person.pk}:{_plain_words(text)}"
    return hmac.new(pepper(), keyed_text.encode(), hashlib.sha256).hexdigest()


def is_never_stored(person: Person, text: str, kind: str = "") -> bool:
    """Return True if the text is about a secret, or if one of the person's rules forbids it."""
    is_secret = _matches("secret_words", text) or any(_secret_spans(text))
    return is_secret or any(_rules_out(rule, text, kind) for rule in person.never_store)


def mask_secrets(text: str) -> str:
    parts, end = [], 0
    for start, stop in sorted(_secret_spans(text)):
        if stop > end:
            parts += [text[end : max(start, end)], "[…]"]
            end = stop
    return "".join([*parts, text[end:]])


def is_instruction(text: str) -> bool:
    """Return True if the text tells a model what to do, rather than something about a person."""
    return is_injection(text) or _matches("instructions", _plain(text))


def is_injection(text: str) -> bool:
    """Return True if the text tries to take a model over; facts from the same message need review."""
    return _matches("injections", _plain(text))


def _matches(name: str, text: str) -> bool:
    return any(pattern.search(text) for pattern in _PATTERNS[name])


def _rules_out(rule: str, text: str, kind: str) -> bool:
    if rule.startswith(KIND_PREFIX):
        return _plain_words(rule.removeprefix(KIND_PREFIX)) == _plain_words(kind)
    excluded_words = _plain_words(rule)
    return bool(excluded_words) and excluded_words in _plain_words(text)


def _plain(text: str) -> str:
    normalized = normalize("NFKC", text[:MAX_CHARACTERS]).casefold()
    return " ".join(
        "".join(character for character in normalized if unicodedata.category(character) != "Cf").split()
    )


def _plain_words(text: str) -> str:
    characters = (
        character if unicodedata.category(character)[0] in "LMN" else " " for character in _plain(text)
    )
    return " ".join("".join(characters).split())


def _secret_spans(text: str) -> Iterator[tuple[int, int]]:
    for pattern, is_secret in _SECRET_PATTERNS:
        for match in pattern.finditer(text):
            if is_secret(re.sub(r"\W", "", match[0])):
                yield match.span()


def _is_card(digits: str) -> bool:
    # The last digit of a card's number is a check digit, by Luhn's formula.
    doubled_digits = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled_digits)) % 10 == 0 and len(set(digits)) > 1


def _is_iban(letters: str) -> bool:
    rotated_letters = letters[4:] + letters[:4]
    return int("".join(str(int(letter, 36)) for letter in rotated_letters)) % 97 == 1


# Each pattern of a secret, with a check of what it matches.
_SECRET_PATTERNS: list[tuple[re.Pattern[str], Callable[[str], bool]]] = [
    *((pattern, _is_card) for pattern in _PATTERNS["cards"]),
    *((pattern, _is_iban) for pattern in _PATTERNS["ibans"]),
    *((pattern, bool) for pattern in _PATTERNS["secrets"]),
]
