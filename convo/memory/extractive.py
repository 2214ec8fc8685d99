"""Summarise without a model, by quoting the most informative sentences word for word."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convo import tokens
from convo.llm.word_overlap import SENTENCE_ENDS, words

SPEAKERS = {"user": "The user said", "assistant": "The reply said", "tool": "A tool said"}
# The user's own account is worth more than the replies to it.
_ROLE_WEIGHTS = {"user": 1.0, "assistant": 0.5, "tool": 0.2}
_EARLIER_WEIGHT = 1.5
_LONGEST_SENTENCE = 40  # tokens
_SEPARATOR = " said: “"


@dataclass(frozen=True)
class Sentence:
    """A sentence, who said it, and how much it counts compared with others."""

    speaker: str
    text: str
    weight: float


def extract(earlier: str, messages: Iterable[tuple[str, str, str]], *, limit: int, model: str) -> str:
    """Quote the most informative sentences of an earlier summary and of later messages, within the limit.

    Each message is a role, a name or '', and a text.
    """
    sentences = [
        *_sentences_of_summary(earlier),
        *(sentence for message in messages for sentence in _sentences_of_message(*message)),
    ]
    sentences = list({(sentence.speaker, sentence.text): sentence for sentence in sentences}.values())
    scores = _scores(sentences)
    selected: list[int] = []
    used_tokens = 0
    for index in sorted(range(len(sentences)), key=lambda index: -scores[index]):
        cost = tokens.count(_line(sentences[index]) + "\n", model)
        if used_tokens + cost <= limit:
            selected.append(index)
            used_tokens += cost
    # A very small limit holds no whole line, so the first one is cut.
    lines = [_line(sentences[index]) for index in sorted(selected)] or [
        _line(sentence) for sentence in sentences[:1]
    ]
    return tokens.truncate("\n".join(lines), limit, model)


def _line(sentence: Sentence) -> str:
    return f"{sentence.speaker}: “{sentence.text}”"


def _sentences_of_summary(text: str) -> list[Sentence]:
    lines = (line.removesuffix("”").partition(_SEPARATOR) for line in text.splitlines() if line.endswith("”"))
    return [
        Sentence(f"{speaker} said", quote, _EARLIER_WEIGHT)
        for speaker, separator, quote in lines
        if separator
    ]


def _sentences_of_message(role: str, name: str, text: str) -> list[Sentence]:
    speaker = f"{name} said" if name else SPEAKERS[role]
    parts = (" ".join(part.split()) for part in SENTENCE_ENDS.split(text))
    beginnings = (tokens.truncate(part, _LONGEST_SENTENCE) for part in parts if part)
    # A question says less than a statement.
    return [
        Sentence(speaker, part, _ROLE_WEIGHTS[role] / (2 if part.endswith("?") else 1)) for part in beginnings
    ]


def _scores(sentences: Sequence[Sentence]) -> list[float]:
    word_sets = [words(sentence.text) for sentence in sentences]
    counts = Counter(word for word_set in word_sets for word in word_set)
    # Words that come back, but not everywhere, say most about the matter.
    rarity = {
        word: math.log(1 + len(word_sets) / count) * math.log(1 + count) for word, count in counts.items()
    }
    return [
        sentence.weight * sum(rarity[word] for word in word_set) / math.sqrt(len(word_set))
        if word_set
        else 0.0
        for sentence, word_set in zip(sentences, word_sets, strict=True)
    ]
