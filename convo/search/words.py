"""From text to the words by which it is found: stemmed by language and script, alike for both databases."""

import re
import unicodedata
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache

import Stemmer

from convo.search.languages import ARABIC_STOP_WORDS, LATIN, RUSSIAN_STOP_WORDS

# No database indexes a word of any length.
LONGEST = 40

_RUNS = re.compile(
    r"(?P<cjk>[぀-ヿㇰ-ㇿ㐀-䶿一-鿿豈-﫿가-힯\U00020000-\U0003ffff]+)"
    r"|(?P<word>[^\W_぀-ヿㇰ-ㇿ㐀-䶿一-鿿豈-﫿가-힯\U00020000-\U0003ffff]"
    r"(?:[^\W_぀-ヿㇰ-ㇿ㐀-䶿一-鿿豈-﫿가-힯\U00020000-\U0003ffff]|[\u0300-\u036f\u064b-\u065f])*)"
)
_CONTRACTED = re.compile(r"(?<=\w)(?:n['’]t|['’](?:s|re|ve|ll|d|m))\b")
_MARKS = re.compile("[\u0640\u064b-\u065f\u0670]")
_SENTENCES = re.compile(r"[^.!?。！？؟\n]+[.!?。！？؟\n]*")
_ASKS = re.compile(r"[?？؟]")


def words(text: str) -> list[str]:
    """The words that a text is found by, in their order."""
    runs = list(_runs(text))
    language = language_of([run for kind, run in runs if kind == "word"])
    return _indexed(runs, language)


def asked_words(text: str) -> list[str]:
    """The words to look for. A word of unknown language is looked for under each stem that it may have."""
    runs = list(_runs(text))
    language = language_of([run for kind, run in runs if kind == "word"])
    found = [word for kind, run in runs for word in _words_of(kind, run, language)]
    found += [
        stem(run, other)
        for kind, run in runs
        if kind == "word" and _is_latin(run) and run not in LATIN[language].stop_words
        for other in LATIN
        if other != language and run not in LATIN[other].stop_words
    ]
    return list(dict.fromkeys(found))


def told_and_asked(text: str) -> tuple[list[str], list[str]]:
    """The words of the sentences that state something, and of those that ask."""
    sentences = [(sentence, list(_runs(sentence))) for sentence in _SENTENCES.findall(text)]
    language = language_of([run for _, runs in sentences for kind, run in runs if kind == "word"])
    told: list[str] = []
    asked: list[str] = []
    for sentence, runs in sentences:
        (asked if _ASKS.search(sentence) else told).extend(_indexed(runs, language))
    return told, asked


def language_of(runs: list[str]) -> str:
    """The language whose function words occur most among these; the first one known where none do."""
    said = set(runs)
    counts = {name: len(said & language.stop_words) for name, language in LATIN.items()}
    return max(counts, key=lambda name: counts[name])


def spans(text: str, wanted: Set[str]) -> list[tuple[int, int]]:
    """Where in a text the words stand that were looked for, as (start, end)."""
    found: list[tuple[int, int]] = []
    for match in _RUNS.finditer(text):
        for start, end in _pieces(match):
            run = _normal(text[start:end])
            stems = {word for language in LATIN for word in _words_of(str(match.lastgroup), run, language)}
            if not stems & wanted:
                continue
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return found


def _pieces(match: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The run whole; of Chinese and Japanese each pair of characters, for no space parts their words."""
    start, end = match.span()
    if match.lastgroup != "cjk" or end - start < 2:
        yield start, end
        return
    for at in range(start, end - 1):
        yield at, at + 2


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _runs(text: str) -> Iterator[tuple[str, str]]:
    for match in _RUNS.finditer(_CONTRACTED.sub("", _normal(text))):
        yield str(match.lastgroup), match[0]


def _indexed(runs: Sequence[tuple[str, str]], language: str) -> list[str]:
    found = [word for kind, run in runs for word in _words_of(kind, run, language)]
    # So that a question of one character finds it, too.
    return found + [character for kind, run in runs if kind == "cjk" and len(run) > 1 for character in run]


def _words_of(kind: str, run: str, language: str) -> list[str]:
    if kind == "cjk":
        return [run[at : at + 2] for at in range(len(run) - 1)] or [run]
    found = stem(run, language)
    return [found] if found else []


def _is_latin(run: str) -> bool:
    return run[0] < "ʰ" and not run[0].isdecimal()


@lru_cache(maxsize=100_000)
def stem(run: str, language: str) -> str:
    """The stem of a word, '' for one that says nothing."""
    first = run[0]
    if "؀" <= first <= "ۿ":
        plain = _MARKS.sub("", run)
        return "" if plain in ARABIC_STOP_WORDS else _stemmed("arabic", plain)
    if "Ѐ" <= first <= "ӿ":
        return "" if run in RUSSIAN_STOP_WORDS else _stemmed("russian", run)
    if "Ͱ" <= first <= "Ͽ":
        return _stemmed("greek", run)
    known = LATIN[language]
    if run in known.stop_words:
        return ""
    return _stemmed(known.stemmer, known.forms.get(run, run))


def _stemmed(algorithm: str, run: str) -> str:
    # A stemmer keeps what it is working on in itself; making one is cheap, and threads don't share it.
    return str(Stemmer.Stemmer(algorithm, 0).stemWord(run))[:LONGEST]
