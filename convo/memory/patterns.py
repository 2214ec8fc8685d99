"""Facts without a model: sentences in English that say plainly what they say, and no others."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convo.llm.fitting import words
from convo.memory.facts import LONGEST_GIST, LONGEST_TITLE, Fact, Notes, one_line
from convo.models import Message, UserMemory

# A name is written large, and goes as far as that.
_BIG = r"[A-ZÀ-ÖØ-ÞĀ-Ž][\w'’.-]*\w|[A-ZÀ-ÖØ-ÞĀ-Ž]"
_NAME = rf"(?:{_BIG})(?: (?:(?:de|da|del|di|la|le|van|von|der|den|bin|ibn|al) )*(?:{_BIG})){{0,3}}"
# A thing is a few words, and something by itself: not what was spoken of before, and not a negation.
_NOT_A_THING = (
    r"(?!(?i:this|that|these|those|it|them|him|her|the|one|ones|not|no|none|neither|nothing|either|both|your|my|i|we"
    r"|you|he|she|they)\b)"
)
_NOT_A_LINK = r"(?!(?:and|or|but|so|because|since|which|who|where|when|if)\b)"
_THING = rf"{_NOT_A_THING}{_NOT_A_LINK}[\w'’-]+(?: {_NOT_A_LINK}[\w'’-]+){{0,5}}?"
_THINGS = rf"{_THING}(?:(?:, and |, or |, | and | or ){_THING})*"
_PLACE = rf"(?:the )?{_NAME}|(?:a|an) (?!living\b|while\b|time\b|bit\b){_THING}"
_DATE = r"(?=[^,.;]*(?:\d|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)))[\w ]{3,30}?"
_DIET = r"vegetarian|vegan|pescatarian|diabetic|c(?:o)?eliac|lactose[- ]intolerant|gluten[- ]intolerant"
_KIN = (
    r"(?P<who>(?:(?:older|elder|younger|little|big|twin) )?(?:wife|husband|partner|girlfriend|boyfriend"
    r"|fiancée?|mother|mom|mum|father|dad|sister|brother|daughter|son|baby|dog|cat|horse|rabbit|parrot))"
)
_ONLY_ONE = {"wife", "husband", "partner", "girlfriend", "boyfriend", "fiancé", "fiancée", "mother", "father"}

_IS = r"(?: is|['’]s)"
_I_AM = r"i(?: am|['’]m)(?: also| now| a| an| severely| very)*"
_LATELY = r"(?: now| currently| actually| just| recently)*"
_THEN = (
    r"(?: (?:now|nowadays|currently|at the moment|these days|again|too|though|actually|by the way|please))*"
)
_END = r"(?=\s*(?:[.,!;:)。！]|$)|\s(?:and|but|so|because|although|which|where|who|since|with|in|-|–|—)\s)"


@dataclass(frozen=True)
class Pattern:
    """What somebody says about themselves, and the fact that this is; `{it}` is the part that differs."""

    kind: str
    slot: str | None
    says: str
    it: str
    text: str

    @property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(rf"{self.says} (?P<it>{self.it}){_THEN}{_END}")


_PATTERNS = (
    Pattern(
        "identity", "name", rf"(?:(?:hi|hello|hey) )?my (?:full |first )?name{_IS}", _NAME, "Name is {it}"
    ),
    Pattern("identity", "nickname", r"(?:(?:please|just|but) )*call me", _NAME, "Wants to be called {it}"),
    Pattern("identity", "home", rf"i{_LATELY} live in", rf"(?:the )?{_NAME}", "Lives in {it}"),
    Pattern(
        "identity", "home", rf"i(?:['’]ve| have)?{_LATELY} moved to", rf"(?:the )?{_NAME}", "Lives in {it}"
    ),
    Pattern("work", "occupation", rf"i{_LATELY} work as", rf"(?:an? )?{_THING}", "Works as {it}"),
    Pattern("work", "employer", rf"i{_LATELY} work (?:at|for)", _PLACE, "Works at {it}"),
    Pattern("health", None, rf"{_I_AM} allergic to", _THINGS, "Is allergic to {it}"),
    Pattern("preference", "diet", _I_AM, _DIET, "Is {it}"),
    Pattern("preference", None, r"i(?: really| much| always| generally)* prefer", _THINGS, "Prefers {it}"),
    Pattern("identity", "birthday", rf"my birthday{_IS}(?: on)?", _DATE, "Birthday is {it}"),
    Pattern(
        "relation", "", rf"my {_KIN}(?:{_IS} (?:called|named)|['’]s name is)", _NAME, "{who} is called {it}"
    ),
)
_COMPILED = [(pattern, pattern.compiled) for pattern in _PATTERNS]

_SENTENCES = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_LINK = r"(?:and|but|so|because|although|since)\s"
_NEW_THOUGHT = re.compile(rf"[,;:]\s+(?:{_LINK})?|\s[-–—]+\s|\s{_LINK}")
# What is quoted is somebody else's, or an example; and so is a message that hands over a text.
_QUOTED = re.compile(
    r"```.*?```|`[^`]*`|“[^”]*”|„[^“”]*[“”]|«[^»]*»|\"[^\"]*\"|(?<!\w)['‘][^'’\n]{2,}['’](?!\w)|^\s*>.*?$",
    re.DOTALL | re.MULTILINE,
)
_HANDS_OVER = re.compile(
    r"\b(?:translate|proofread|rewrite|rephrase|paraphrase|summari[sz]e|role-?play|pretend|poem|lyrics|novel|story"
    r"|screenplay|dialogue|fictional|character)\b",
    re.IGNORECASE,
)
# A sentence with one of these may not mean what a part of it says.
_UNSURE = re.compile(
    r"\b(?:if|unless|would|could|should|might|(?-i:may)|maybe|perhaps|imagine|suppos\w+|wish|hop(?:e|ing)"
    r"|assum\w+|until|hypothetical(?:ly)?|when i|used to|as if|in case|whether|for example|e\.g|let['’]s say"
    r"|says?|said|tells?|told|wrote|ask(?:s|ed)?|think(?:s|ing)?|thought"
    r"|dream\w*|jok(?:e|ing)|kidding|not true|never)\b",
    re.IGNORECASE,
)


def noted(said: Sequence[Message]) -> Notes:
    """What these messages of a user leave behind when no model reads them."""
    everything = " ".join(message.content for message in said)
    return Notes(
        gist=one_line(everything, LONGEST_GIST),
        title=one_line(_subject(everything), LONGEST_TITLE),
        facts=[
            Fact(kind=kind, slot=slot, text=text, evidence=[message], source=UserMemory.Source.PATTERN)
            for message in said
            for kind, slot, text in stated(message.content)
        ],
    )


def stated(text: str) -> Iterator[tuple[str, str | None, str]]:
    """The facts about themselves that somebody states in this text, each as kind, slot and text."""
    if _HANDS_OVER.search(text):
        return
    for sentence in _SENTENCES.split(_QUOTED.sub(" … ", text)):
        if sentence.rstrip().endswith(("?", "？")) or _UNSURE.search(sentence):
            continue
        starts = [0, *(match.end() for match in _NEW_THOUGHT.finditer(sentence))]
        for part in (sentence[start:].lstrip() for start in starts):
            yield from _in_part(part[:1].lower() + part[1:])


def _in_part(part: str) -> Iterator[tuple[str, str | None, str]]:
    for pattern, compiled in _COMPILED:
        if found := compiled.match(part):
            who = found.groupdict().get("who", "")
            slot = (who if who in _ONLY_ONE else None) if pattern.slot == "" else pattern.slot
            text = pattern.text.format(it=found["it"], who=who.capitalize())
            yield pattern.kind, slot, text


def _subject(text: str) -> str:
    """The first sentence that is about something; '' while there is none."""
    sentences = (" ".join(sentence.split()) for sentence in _SENTENCES.split(text[:4000]))
    return next((sentence for sentence in sentences if len(words(sentence)) > 1), "")
