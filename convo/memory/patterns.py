"""Learn facts without a model, from plain English sentences that state them."""

import re
from collections.abc import Iterator, Sequence

from convo.llm.word_overlap import words
from convo.memory.facts import MAX_GIST_LENGTH, MAX_TITLE_LENGTH, Fact, Notes, one_line
from convo.memory.pattern_files import load_patterns
from convo.models import Message, UserMemory

_FILE = load_patterns("patterns.toml")
_DOT: str = _FILE["parts"]["DOT"]
_PATTERNS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern) for name, pattern in _FILE["patterns"].items()
}
_FACTS = [
    (fact, re.compile(f"{fact['opening']} (?P<value>{fact['value']}){_FILE['parts']['END']}"))
    for fact in _FILE["facts"]
]
_SENTENCES = re.compile(r"(?<=[.!?。！？])\s+|\n+")
# Nobody states a fact about themselves in the 200th kilobyte of a log that they paste.
MAX_CHARACTERS = 10_000
_CLOSING_MARKS = '````"”»'


def take_notes(messages: Sequence[Message]) -> Notes:
    all_text = " ".join(message.content[:MAX_CHARACTERS] for message in messages)
    return Notes(
        gist=one_line(all_text, MAX_GIST_LENGTH),
        title=one_line(_subject(all_text), MAX_TITLE_LENGTH),
        facts=[
            Fact(kind=kind, slot=slot, text=text, evidence=[message], source=UserMemory.Source.PATTERN)
            for message in messages
            for kind, slot, text in find_facts(message.content)
        ],
    )


def find_facts(text: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield the facts that people state about themselves in this text, as kind, slot and text."""
    if len(text) > MAX_CHARACTERS:
        # The marks close a quotation that the cut leaves open.
        text = text[:MAX_CHARACTERS] + _CLOSING_MARKS
    if _PATTERNS["text_task"].search(text):
        return
    for sentence in _SENTENCES.split(_mask_abbreviation_dots(_PATTERNS["quotation"].sub(" … ", text))):
        if sentence.rstrip().endswith(("?", "？")) or _PATTERNS["uncertain"].search(sentence):
            continue
        starts = [0, *(match.end() for match in _PATTERNS["clause_start"].finditer(sentence))]
        for clause in (sentence[start:].lstrip() for start in starts):
            yield from _facts_in_clause(clause[:1].lower() + clause[1:])


def _facts_in_clause(clause: str) -> Iterator[tuple[str, str | None, str]]:
    for fact, pattern in _FACTS:
        if (match := pattern.match(clause)) and not _is_cut(match["value"]):
            relation = match.groupdict().get("relation", "")
            slot = relation if relation in fact.get("unique_relations", ()) else fact.get("slot")
            text = fact["text"].format(value=match["value"], relation=relation.capitalize())
            yield fact["kind"], slot, text.replace(_DOT, ".")


def _is_cut(value: str) -> bool:
    """Return True if this ends with an abbreviation that a name should follow.

    In "at St" the name is missing; in "at Park St" it is complete.
    """
    *preceding, last = value.split(" ")
    is_abbreviation = _PATTERNS["abbreviation"].fullmatch(last)
    return bool(is_abbreviation) and not (preceding and preceding[-1][:1].isupper())


def _subject(text: str) -> str:
    sentences = (
        " ".join(sentence.split()) for sentence in _SENTENCES.split(_mask_abbreviation_dots(text[:4000]))
    )
    return next((sentence.replace(_DOT, ".") for sentence in sentences if len(words(sentence)) > 1), "")


def _mask_abbreviation_dots(text: str) -> str:
    return _PATTERNS["abbreviation_dot"].sub(lambda match: match[0][:-1] + _DOT, text)
