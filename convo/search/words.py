"""Split text into stemmed words, by language and script, in the same way for both databases."""

import re
import tomllib
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache
from pathlib import Path

import Stemmer

from convo.unicode import normalize

_LANGUAGES = tomllib.loads(Path(__file__).with_name("languages.toml").read_text(encoding="utf-8"))
STOP_WORDS = {language: frozenset(words.split()) for language, words in _LANGUAGES["stop_words"].items()}
# A line such as `go = "went gone"` gives two items, from each form to its word.
FORMS = {
    language: {form: word for word, forms in lines.items() for form in forms.split()}
    for language, lines in _LANGUAGES["forms"].items()
}
# The first language is assumed for a text without stop words of any.
LATIN = ("english", "german", "french", "spanish")

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
    runs = list(_runs(text))
    return _index_words(runs, _detect_language(runs))


def search_words(text: str) -> list[str]:
    """Return the words to look for: each word under the stem that it has in each known language."""
    runs = list(_runs(text))
    language = _detect_language(runs)
    stems = [word for kind, run in runs for word in _run_words(kind, run, language)]
    stems += [
        stem(run, other)
        for kind, run in runs
        if kind == "word" and _is_latin(run) and run not in STOP_WORDS[language]
        for other in LATIN
        if other != language and run not in STOP_WORDS[other]
    ]
    return list(dict.fromkeys(stems))


def statement_and_question_words(text: str) -> tuple[list[str], list[str]]:
    sentences = [(sentence, list(_runs(sentence))) for sentence in _SENTENCES.findall(text)]
    language = _detect_language([run for _, runs in sentences for run in runs])
    statements: list[str] = []
    questions: list[str] = []
    for sentence, runs in sentences:
        (questions if _QUESTION_MARK.search(sentence) else statements).extend(_index_words(runs, language))
    return statements, questions


def _detect_language(runs: Sequence[tuple[str, str]]) -> str:
    """Return the language with the most stop words among these; English if none has any."""
    words = {run for kind, run in runs if kind == "word"}
    return max(LATIN, key=lambda language: len(words & STOP_WORDS[language]))


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
        language, run = "arabic", _ARABIC_MARKS.sub("", run)
    elif "Ѐ" <= first <= "ӿ":
        language = "russian"
    elif "Ͱ" <= first <= "Ͽ":
        language = "greek"
    if run in STOP_WORDS.get(language, ()):
        return ""
    word = FORMS.get(language, {}).get(run, run)
    # A stemmer keeps its working state in itself, so threads can't share one. Creating one is cheap.
    return str(Stemmer.Stemmer(language, 0).stemWord(word))[:MAX_WORD_LENGTH]
