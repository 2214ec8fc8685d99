"""Find the texts that fit a question, by the words that they share with it, in any script."""

import re
import unicodedata
from collections.abc import Sequence

MAX_QUOTES = 3
MAX_QUOTE_LENGTH = 280

# These words say nothing about a message's subject, in the languages likely to be tried first. A word that
# means something in another of them ("son", "war") is left out.
STOP_WORD_LIST = """
    a about again all also am an and any are as at be been but by can could did do does done for from had has
    have he her his how i if in into is it its just let me my no not now of off on one ones or our out please
    remember she so some tell than that the their them then there these they thing this those to told too up
    us was we were what when where which who whom whose why will with would yes you your d ll m re s t ve
    aber als auch auf aus bei bin bist da das dass dem den der des du ein eine einen er es für hat habe ich
    im ist ja kann mein meine meinen mir mit nein nicht noch oder sie sind und uns von was welche welcher wer
    wie wir wo zu
    avec ce ces cette dans de du elle en est et il je la le les ma mes mon ne nous ou pas que quel quelle
    qui sa se sont sur tu un une vous
    con cual cuál del el ella en esta este las lo los mi mis para pero por qué si su una y yo
    的 是 了 我 你 在 吗 呢 什么 哪个 这个 那个 我的 你的 です ます した 私の は が を に の
"""
STOP_WORDS = frozenset(STOP_WORD_LIST.split())
# Thai, Lao, Burmese, Khmer, Japanese and Chinese have no spaces, so two neighbouring characters are a word.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
ASKS = re.compile(r"[?？؟]\W*$|[吗呢か]\W*$|^(?:what|which|who|where|when|why|how|list|remind|tell)\b", re.I)
LIST_SEPARATOR = re.compile(r"[,;、，،؛\n]|\b(?:and|or|vs|versus|und|oder|et|ou|y|o)\b", re.I)
_END_CHARS = 100
SENTENCE_ENDS = re.compile(r"(?<=[.!?。！？\n])\s*")


def best_matches(question: str, texts: Sequence[str]) -> list[str]:
    """Return the texts with most words of the question, in their order; statements rather than questions."""
    question_words = words(question)
    shared_counts = {text: len(question_words & words(text)) for text in texts}
    matches = [text for text in texts if shared_counts[text]]
    matches = [text for text in matches if not is_question(text)] or matches
    best_count = max((shared_counts[text] for text in matches), default=0)
    best = sorted(enumerate(matches), key=lambda pair: (shared_counts[pair[1]], pair[0]))[-MAX_QUOTES:]
    return [text for _, text in sorted(best) if 2 * shared_counts[text] >= best_count]


def is_question(text: str) -> bool:
    # The first and last characters are enough, so a long text is not searched.
    return bool(ASKS.search(text if len(text) <= 2 * _END_CHARS else text[:_END_CHARS] + text[-_END_CHARS:]))


def lists_things(text: str) -> bool:
    """Return whether the text names several things, so that "which of these?" may be about it."""
    return bool(LIST_SEPARATOR.search(text))


def shorten(text: str, question: str) -> str:
    """Return the text on one line; a long one starts at the sentence that fits the question best."""
    if len(text) > MAX_QUOTE_LENGTH:
        question_words = words(question)
        sentences = SENTENCE_ENDS.split(text)
        best = max(sentences, key=lambda sentence: len(question_words & words(sentence)))
        text = ("" if best == sentences[0] else "… ") + text[text.index(best) :]
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUOTE_LENGTH else line[:MAX_QUOTE_LENGTH].rstrip() + " …"


def words(text: str) -> set[str]:
    # Vowel signs of Hindi, Thai and others are marks, not letters, but they belong to their word.
    spaced_text = "".join(
        char if char.isalnum() or unicodedata.category(char)[0] == "M" else " " for char in text.casefold()
    )
    return {
        _singular(word) for run in spaced_text.split() for word in _split_run(run) if word not in STOP_WORDS
    }


def _split_run(run: str) -> list[str]:
    if UNSPACED.search(run) and len(run) > 1:
        return [run[start : start + 2] for start in range(len(run) - 1)]
    return [run]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
