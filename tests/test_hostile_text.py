"""Every function that meets people's text takes time linear in it, whatever the text is made of (review 1).

A quadratic one holds the interpreter's lock: one message of blank lines once stopped a whole installation.
"""

import gc
import re
import time
from collections.abc import Callable
from datetime import date
from types import SimpleNamespace

import pytest

from convo import tokens
from convo.admin import transcript
from convo.context import blocks
from convo.llm import offline, word_overlap
from convo.llm.reply_parser import storable
from convo.memory import extractive, facts, patterns, screen
from convo.models import Person
from convo.pages import markdown
from convo.pages.search import excerpt
from convo.search import dates
from convo.search.embed import remove_names
from convo.search.words import matching_spans, search_words, statement_and_question_words, stemmed_words
from convo.tokens.estimate import upper_bound
from convo.unicode import normalize
from tests.support.hostile import UNITS

pytestmark = [pytest.mark.once, pytest.mark.slow]

PERSON = Person(pk=1, never_store=["peanuts"])


def _noted(text: str) -> object:
    return patterns.take_notes([SimpleNamespace(content=text)])  # type: ignore[list-item]


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "learning by patterns": _noted,
    "secrets": lambda text: screen.is_never_stored(PERSON, text),
    "instructions": screen.is_instruction,
    "text key": lambda text: screen._plain_words(text),
    "one line": lambda text: facts.one_line(text, 160),
    "a model's notes": facts._strip_code_fence,
    "slot name": facts.normalize_slot,
    "indexed words": stemmed_words,
    "asked words": search_words,
    "told and asked": statement_and_question_words,
    "highlights": lambda text: matching_spans(text, {"peanut"}),
    "days": lambda text: dates.index_days(text, date(2026, 11, 30)),
    "names taken out": lambda text: remove_names(["Ann Lee"], text),
    "normal form": lambda text: normalize("NFC", text),
    "estimate of tokens": upper_bound,
    "cut to tokens": lambda text: tokens.truncate(text, len(text) // 200),
    "summary by rules": lambda text: extractive.extract("", [("user", "", text)], limit=400, model=""),
    "summary continued": lambda text: extractive.extract(text, [], limit=400, model=""),
    "quoted in the prompt": blocks._escape_block_lines,
    "offline answer from memory": lambda text: offline.answer(
        [{"role": "user", "content": text}, {"role": "user", "content": "What is my name?"}]
    ),
    "offline answer to a file": lambda text: offline._is_file({"text": text}),
    "fitting": lambda text: word_overlap.best_matches(text, [text, "a b c"]),
    "shortened": lambda text: word_overlap.shorten(text, "a b c"),
    "lists things": word_overlap.lists_things,
    "storable": storable,
    "difference": lambda text: list(transcript.changes(text, text)),
    "reply as HTML": markdown.to_html,
    "title of a link": lambda text: markdown.to_html(f'[a](/b "{text}")'),
    "found on the page": lambda text: list(excerpt(text, [(5, 9)])),
}

SHORT, LONG = 6_250, 50_000
# Four times what a linear function may take. What takes less than this at its longest is not compared: if it
# were quadratic, 100,000 bytes would take a tenth of a second.
SLACK, SHORT_SECONDS, TRIES = 4, 0.025, 4


def _text_of(unit: str, length: int) -> str:
    """Return a text of this unit and length that is no single token of any kind at its end."""
    return (unit * (length // len(unit.encode()) + 1)).encode()[:length].decode(errors="ignore") + "x"


def _seconds(function: Callable[[str], object], text: str) -> float:
    # How long a collection of garbage takes depends on what other tests left in memory.
    gc.disable()
    try:
        began = time.thread_time()
        function(text)
        return time.thread_time() - began
    finally:
        gc.enable()


def _grows_too_fast(function: Callable[[str], object], unit: str) -> str:
    """Say how the time grew, or '' where it grew no faster than the text.

    What looks too slow is measured again, for a busy machine disturbs even the time of a processor.
    """
    shortest = longest = float("inf")
    for _ in range(TRIES):
        longest = min(longest, _seconds(function, _text_of(unit, LONG)))
        if longest < SHORT_SECONDS:
            return ""
        shortest = min(shortest, _seconds(function, _text_of(unit, SHORT)))
        if longest <= SLACK * (LONG / SHORT) * shortest:
            return ""
    return f"{shortest:.3f} s for {SHORT} bytes, {longest:.3f} s for {LONG}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_time_grows_with_the_text_and_no_faster(name: str) -> None:
    function = FUNCTIONS[name]
    function("Warm up, please: what is 1 + 1?")
    slow = {unit: told for unit in UNITS if (told := _grows_too_fast(function, unit))}
    assert not slow, f"{name}: {slow}"


def test_the_measurement_sees_a_quadratic_function() -> None:
    """The positive control: the pattern that once stopped an installation, on a tenth of the text."""
    quoted_line = re.compile(r"^\s*>.*?$", re.DOTALL | re.MULTILINE)
    short, long = (_seconds(quoted_line.search, "\n" * length) for length in (2_000, 20_000))
    assert long > SLACK * 10 * short
