"""Which of the things that were said fit a question: by the words they share, in any script."""

import re
import unicodedata
from collections.abc import Sequence

MOST_QUOTES = 3
LONGEST_QUOTE = 280

# What says nothing about a message's subject, in the languages likely to be tried first. A word that means
# something in another of them ("son", "war") is left out.
SAYS_NOTHING = """
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
STOP_WORDS = frozenset(SAYS_NOTHING.split())
# Thai, Lao, Burmese, Khmer, Japanese, Chinese: no spaces, so two neighbouring characters stand for a word.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
ASKS = re.compile(r"[?？؟]\W*$|[吗呢か]\W*$|^(?:what|which|who|where|when|why|how|list|remind|tell)\b", re.I)
LISTS = re.compile(r"[,;、，،؛\n]|\b(?:and|or|vs|versus|und|oder|et|ou|y|o)\b", re.I)
SENTENCE_ENDS = re.compile(r"(?<=[.!?。！？\n])\s*")


def fitting(question: str, said: Sequence[str]) -> list[str]:
    """What shares most words with the question, in the order it was said; statements before questions."""
    sought = words(question)
    shared = {text: len(sought & words(text)) for text in said}
    found = [text for text in said if shared[text]]
    found = [text for text in found if not asks(text)] or found
    most = max((shared[text] for text in found), default=0)
    best = sorted(enumerate(found), key=lambda place: (shared[place[1]], place[0]))[-MOST_QUOTES:]
    return [text for _, text in sorted(best) if 2 * shared[text] >= most]


def asks(text: str) -> bool:
    return bool(ASKS.search(text))


def lists_things(text: str) -> bool:
    """Does it name several things, so that "which of these?" may be about it?"""
    return bool(LISTS.search(text))


def shortened(text: str, question: str) -> str:
    """The text on one line; of a long one, what begins with the sentence that fits the question best."""
    if len(text) > LONGEST_QUOTE:
        sought = words(question)
        sentences = SENTENCE_ENDS.split(text)
        best = max(sentences, key=lambda sentence: len(sought & words(sentence)))
        text = ("" if best == sentences[0] else "… ") + text[text.index(best) :]
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE].rstrip() + " …"


def words(text: str) -> set[str]:
    """The words of a text without those that say nothing, in small letters and the singular."""
    # Vowel signs of Hindi, Thai and others are marks, not letters, and belong to their word all the same.
    parted = "".join(
        sign if sign.isalnum() or unicodedata.category(sign)[0] == "M" else " " for sign in text.casefold()
    )
    return {_singular(word) for run in parted.split() for word in _words(run) if word not in STOP_WORDS}


def _words(run: str) -> list[str]:
    if UNSPACED.search(run) and len(run) > 1:
        return [run[start : start + 2] for start in range(len(run) - 1)]
    return [run]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
