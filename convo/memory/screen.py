"""Screen texts before they become memories: for secrets, for a person's rules, and for prompt injection."""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable, Iterator

from convo.models import Person, pepper
from convo.unicode import normalize

# Learning reads only this many characters of a message, so text behind them can't take a model over.
MAX_CHARACTERS = 200_000
# A rule with this prefix names a kind of memory; any other rule is words that the text must not have.
KIND_PREFIX = "kind:"


def text_key(person: Person, text: str) -> str:
    """Return a keyed hash of a text's words without case and punctuation; each person has other hashes."""
    keyed_text = f"{person.pk}:{_plain_words(text)}"
    return hmac.new(pepper(), keyed_text.encode(), hashlib.sha256).hexdigest()


def is_never_stored(person: Person, text: str, kind: str = "") -> bool:
    """Return True if the text is about a secret, or if one of the person's rules forbids it."""
    secret = _SECRET_WORDS.search(text) or any(_secret_spans(text))
    return bool(secret) or any(_rules_out(rule, text, kind) for rule in person.never_store)


def mask_secrets(text: str) -> str:
    parts, end = [], 0
    for start, stop in sorted(_secret_spans(text)):
        if stop > end:
            parts += [text[end : max(start, end)], "[…]"]
            end = stop
    return "".join([*parts, text[end:]])


def is_instruction(text: str) -> bool:
    """Return True if the text tells a model what to do, rather than something about a person."""
    plain = _plain(text)
    return is_injection(text) or any(pattern.search(plain) for pattern in _INSTRUCTION_PATTERNS)


def is_injection(text: str) -> bool:
    """Return True if the text tries to take a model over; facts from the same message need review."""
    plain = _plain(text)
    return any(pattern.search(plain) for pattern in _INJECTION_PATTERNS)


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


_PASSWORD = (
    r"(?:\b(?:pass(?:word|phrase|code|wd)|pwd|passwort|kennwort|contraseña|mot de passe|senha|parola"
    r"|secret key|private key|api[ _-]?key|access[ _-]?token|seed phrase)s?\b(?! managers?\b)"
    r"|密码|密碼|口令|パスワード|пароль)"
)
_ACCESS_CODE = (
    r"(?:\b(?:one[- ]time|verification|security|log-?in|sign-?in|confirmation|authentication|access|sms|door"
    r"|card)[ -](?:code|pin|number|token)s?\b|\b(?:otp|2fa|cvv|cvc|pin|m?tan)\b)"
)
_SECRET_WORDS = re.compile(_PASSWORD, re.IGNORECASE)
_SECRET_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r"(?<!\d)[1-9](?:[ -]?\d){12,18}(?!\d)"), _is_card),
    (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.IGNORECASE), _is_iban),
    *(
        (re.compile(pattern), bool)
        for pattern in (
            rf"(?i){_PASSWORD}[^.!?\n]{{0,30}}?(?:\b(?:is|was|ist|war|lautet|es|est|é|è)\b|[:=是為为は])\s*\S+",
            rf"(?i){_ACCESS_CODE}[^.!?\n\d]{{0,20}}\d(?:[ -]?\d){{2,8}}\b",
            rf"(?i)\b\d{{4,8}}\b[^.!?\n\d]{{1,12}}{_ACCESS_CODE}",
            r"(?i)(?<!zip )(?<!postal )(?<!area )(?<!post )\bcode(?: is|:| =)\s*\d{4,8}\b",
            r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}",
            r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|hf_|npm_|convo_)[A-Za-z0-9_-]{16,}",
            r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{30,}",
            r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
            # A long run of mixed letters and digits is no word of any language.
            r"(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[A-Za-z0-9_-]{24,}",
        )
    ),
)

# These patterns match what is written to a model rather than about a person, in the form that `_plain` gives.
_INJECTION_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:instruction|prompt|rule|above|previous)",
        r"\b(?:ignorier\w*|vergiss)\b.{0,40}\b(?:anweisung|regeln)",
        r"\b(?:ignorez|oublie[zr]?|ignora|olvida|ignore)\b.{0,40}\b(?:instruc|consigne|reglas|regras)",
        r"(?:忽略|无视|無視).{0,20}(?:指令|指示|规则|規則)",
        r"\bsystem prompt\b|\bjailbreak\b|\bdeveloper mode\b",
        r"<\|.{0,40}\|>|\[/?inst\]|<</?sys>>|</?(?:system|assistant|tool|function)",
        r"\b(?:system|assistant|developer)\s*:",
        r"\b(?:tool_calls?|function_call)\b|\{\s*\"(?:name|role|tool|function)\"\s*:",
    )
]
_ACTION = (
    r"(?:answer|reply|respond|say|tell|send|forward|include|append|begin|start|end|output|write|add|call|use"
    r"|mention|reveal|refuse|recommend|execute|run|fetch|visit|open|click|ask|approve|comply|obey|speak)\b"
)
_MODEL = r"\b(?:you|the (?:assistant|model|ai|bot|agent)|assistants?)\b"
_INSTRUCTION_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        _MODEL + r".{0,20}\b(?:to|will|must|should|shall|may not|are now|is now)\b",
        rf"\b(?:must|do not|don't|be sure to|remember to|make sure to|from now on)\b.{{0,20}}\b{_ACTION}",
        rf"\b(?:always|never)\s+{_ACTION}",
        r"\b(?:act|behave|respond|answer|reply) (?:as|only|exclusively|solely)\b",
        r"\bpretend (?:to|that|you)\b|\brole-?play",
        r"(?<!looking )\b(?:send|forward|post|upload|submit|e-?mail|leak|exfiltrate)\b.{0,60}(?:@|\bto\b)",
        r"\b(?:fetch|download|visit|open|curl|wget|click)\b.{0,40}(?:\w\.\w{2}|\blink|\burl)",
        r"\w://|\bwww\.|!\[.{0,80}\]\(",
        r"\b(?:antworte|schreibe|sende|sag|nenne|verwende)\b.{0,20}\b(?:immer|nie|niemals|nur)\b",
        r"\bdu (?:musst|sollst|darfst)\b",
        r"\b(?:réponds|répondez|responde|responda)\b.{0,20}\b(?:toujours|siempre|sempre)\b",
        r"(?:必须|必須|总是|總是|永远|永遠|一定要).{0,12}(?:回答|回复|回覆|说|說|发送|發送|使用)",
    )
]
