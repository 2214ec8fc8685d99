"""Split text into stemmed words, by language and script, in the same way for both databases."""

import re
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache

import Stemmer

from convo.search.languages import ARABIC_STOP_WORDS, LATIN, RUSSIAN_STOP_WORDS
from convo.unicode import normalize

# Longer words are truncated, because no database indexes a word of any length.
MAX_WORD_LENGTH = 40

_RUNS = re.compile(
    r"(?P<cjk>[぀-ヿㇰ-ㇿ㐀-䶿一-鿿豈-﫿가-힯\U00020000-\U0003ffff]+)"
    r"|(?P<word>[^\W_぀-ヿㇰ-ㇿ㐀-䶿一-鿿豈-﫿가-힯\U00020000-\U0003ffff]"
    r"(?:[^\W_぀-ヿㇰ-ㇿ㐀-䶿一-鿿豈-﫿가-힯\U00020000-\U0003ffff]|[\u0300-\u036f\u064b-\u065f])*)"
)
_CONTRACTED = re.compile(r"(?<=\w)(?:n['’]t|['’](?:s|re|ve|ll|d|m))\b")
_ARABIC_MARKS = re.compile("[\u0640\u064b-\u065f\u0670]")
_SENTENCES = re.compile(r"[^.!?。！？؟\n]+[.!?。！？؟\n]*")
_QUESTION_MARK = re.compile(r"[?？؟]")


def stemmed_words(text: str) -> list[str]:
    """Return the stemmed words of a text, in their order."""
    runs = list(_runs(text))
    language = detect_language([run for kind, run in runs if kind == "word"])
    return _index_words(runs, language)


def search_words(text: str) -> list[str]:
    """Return the words to look for: each word under the stem that it has in each known language."""
    runs = list(_runs(text))
    language = detect_language([run for kind, run in runs if kind == "word"])
    stems = [word for kind, run in runs for word in _run_words(kind, run, language)]
    stems += [
        stem(run, other)
        for kind, run in runs
        if kind == "word" and _is_latin(run) and run not in LATIN[language].stop_words
        for other in LATIN
        if other != language and run not in LATIN[other].stop_words
    ]
    return list(dict.fromkeys(stems))


def statement_and_question_words(text: str) -> tuple[list[str], list[str]]:
    """Return the words of the statements in a text, and those of its questions."""
    sentences = [(sentence, list(_runs(sentence))) for sentence in _SENTENCES.findall(text)]
    language = detect_language([run for _, runs in sentences for kind, run in runs if kind == "word"])
    statements: list[str] = []
    questions: list[str] = []
    for sentence, runs in sentences:
        (questions if _QUESTION_MARK.search(sentence) else statements).extend(_index_words(runs, language))
    return statements, questions


def detect_language(runs: list[str]) -> str:
    """Return the language with the most function words among these; English if none has any."""
    distinct_runs = set(runs)
    counts = {name: len(distinct_runs & language.stop_words) for name, language in LATIN.items()}
    return max(counts, key=lambda name: counts[name])


def matching_spans(text: str, query_words: Set[str]) -> list[tuple[int, int]]:
    matches: list[tuple[int, int]] = []
    for match in _RUNS.finditer(text):
        for start, end in _word_spans(match):
            run = _normalize(text[start:end])
            stems = {word for language in LATIN for word in _run_words(str(match.lastgroup), run, language)}
            if not stems & query_words:
                continue
            if matches and start <= matches[-1][1]:
                matches[-1] = (matches[-1][0], end)
            else:
                matches.append((start, end))
    return matches


def _word_spans(match: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Yield the span of a word, or in Chinese, Japanese and Korean of each pair of characters."""
    start, end = match.span()
    if match.lastgroup != "cjk" or end - start < 2:
        yield start, end
        return
    for position in range(start, end - 1):
        yield position, position + 2


def _normalize(text: str) -> str:
    return normalize("NFKC", text).lower()


def _runs(text: str) -> Iterator[tuple[str, str]]:
    for match in _RUNS.finditer(_CONTRACTED.sub("", _normalize(text))):
        yield str(match.lastgroup), match[0]


def _index_words(runs: Sequence[tuple[str, str]], language: str) -> list[str]:
    index_words = [word for kind, run in runs for word in _run_words(kind, run, language)]
    # Single characters are added so that a query of one character finds the text, too.
    return index_words + [
        character for kind, run in runs if kind == "cjk" and len(run) > 1 for character in run
    ]


def _run_words(kind: str, run: str, language: str) -> list[str]:
    if kind == "cjk":
        return [run[position : position + 2] for position in range(len(run) - 1)] or [run]
    run_stem = stem(run, language)
    return [run_stem] if run_stem else []


def _is_latin(run: str) -> bool:
    return run[0] < "ʰ" and not run[0].isdecimal()


def stem(run: str, language: str) -> str:
    """Return the stem of a word, or '' for a stop word."""
    # No real word is so long. Such a run is found by its beginning, and doesn't fill the cache of stems.
    return _stem(run, language) if len(run) <= MAX_WORD_LENGTH else run[:MAX_WORD_LENGTH]


@lru_cache(maxsize=100_000)
def _stem(run: str, language: str) -> str:
    first = run[0]
    if "؀" <= first <= "ۿ":
        unmarked_run = _ARABIC_MARKS.sub("", run)
        return "" if unmarked_run in ARABIC_STOP_WORDS else _apply_stemmer("arabic", unmarked_run)
    if "Ѐ" <= first <= "ӿ":
        return "" if run in RUSSIAN_STOP_WORDS else _apply_stemmer("russian", run)
    if "Ͱ" <= first <= "Ͽ":
        return _apply_stemmer("greek", run)
    rules = LATIN[language]
    if run in rules.stop_words:
        return ""
    return _apply_stemmer(rules.stemmer, rules.forms.get(run, run))


def _apply_stemmer(algorithm: str, run: str) -> str:
    # A stemmer keeps its working state in itself, so threads can't share one. Creating one is cheap.
    return str(Stemmer.Stemmer(algorithm, 0).stemWord(run))[:MAX_WORD_LENGTH]
