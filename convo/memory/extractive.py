"""A summary without a model: the sentences that tell most, word for word."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convo import tokens
from convo.llm.fitting import SENTENCE_ENDS, words

WHO = {"user": "The user said", "assistant": "The reply said", "tool": "A tool said"}
# What the user tells about the matter is worth more than what is said about it in reply.
_WEIGHT = {"user": 1.0, "assistant": 0.5, "tool": 0.2}
_EARLIER_WEIGHT = 1.5
_LONGEST_SENTENCE = 40  # tokens
_LINE = re.compile(r"(.+? said): “(.*)”")


@dataclass(frozen=True)
class Sentence:
    """One sentence, who said it, and how much it tells beside others."""

    who: str
    text: str
    weight: float


def extract(earlier: str, said: Iterable[tuple[str, str, str]], *, limit: int, model: str) -> str:
    """The most telling sentences of an earlier summary and of what was said since, within the limit."""
    sentences = [*_of_summary(earlier), *(part for line in said for part in _of_message(*line))]
    sentences = list({(one.who, one.text): one for one in sentences}.values())
    scores = _scores(sentences)
    chosen: list[int] = []
    spent = 0
    for place in sorted(range(len(sentences)), key=lambda place: -scores[place]):
        cost = tokens.count(_line(sentences[place]) + "\n", model)
        if spent + cost <= limit:
            chosen.append(place)
            spent += cost
    # A very small limit holds no line whole.
    lines = [_line(sentences[place]) for place in sorted(chosen)] or [_line(one) for one in sentences[:1]]
    return tokens.cut("\n".join(lines), limit, model)


def _line(sentence: Sentence) -> str:
    return f"{sentence.who}: “{sentence.text}”"


def _of_summary(text: str) -> list[Sentence]:
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return [Sentence(line[1], line[2], _EARLIER_WEIGHT) for line in found if line]


def _of_message(role: str, name: str, text: str) -> list[Sentence]:
    who = f"{name} said" if name else WHO[role]
    parts = (" ".join(part.split()) for part in SENTENCE_ENDS.split(text))
    short = (tokens.cut(part, _LONGEST_SENTENCE) for part in parts if part)
    # A question tells less than a statement.
    return [Sentence(who, part, _WEIGHT[role] / (2 if part.endswith("?") else 1)) for part in short]


def _scores(sentences: Sequence[Sentence]) -> list[float]:
    """How much each sentence tells: words that come back, but not everywhere, and who said them."""
    found = [words(sentence.text) for sentence in sentences]
    often = Counter(word for each in found for word in each)
    rare = {word: math.log(1 + len(found) / count) * math.log(1 + count) for word, count in often.items()}
    return [
        sentence.weight * sum(rare[word] for word in each) / math.sqrt(len(each)) if each else 0.0
        for sentence, each in zip(sentences, found, strict=True)
    ]
