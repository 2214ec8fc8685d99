"""Learn facts without a model, from plain English sentences that state them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convo.llm.word_overlap import words
from convo.memory.facts import MAX_GIST_LENGTH, MAX_TITLE_LENGTH, Fact, Notes, one_line
from convo.models import Message, UserMemory

# This stands for the full stop of an abbreviation, which does not end a sentence.
_DOT = "\ue000"
_ABBREVIATION = (
    "(?:[Ss]t|[Mm]t|Ft|[Dd]r|[Mm]rs?|[Mm]s|[Pp]rof|[Aa]sst|[Dd]ept|Rev|Capt|Lt|Sgt|Gen|Col|Gov|Sen|Hon|vs|approx"
    "|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
)
_ABBREVIATION_DOTS = re.compile(
    rf"\b{_ABBREVIATION}\.(?!\s+(?:I|My|We|He|She|It|The|And|But)\b)(?=\s+\w)|\b(?:No|Nr)\.(?=\s*\d)|(?<![A-Za-z]\.)\b[A-Z]\.(?=\s[A-Z][a-z.])"
    r"|\b(?:[Ii]nc|[Ll]td|[Cc]orp|[Cc]o|[Bb]ros|[Jj]r|[Ss]r|etc|e\.g|i\.e|(?:[A-Za-z]\.){1,4}[A-Za-z])\.(?=\s+[a-z0-9])"
)
# A name starts with a capital, and extends over all words that do, with particles such as "van" between.
_CAPITALISED = rf"(?:[A-ZÀ-ÖØ-ÞĀ-Ž][\w'’.-]*\w|[A-ZÀ-ÖØ-ÞĀ-Ž]){_DOT}?"
_NAME = (
    rf"(?:{_CAPITALISED})"
    rf"(?: (?:(?:de|da|del|di|la|le|van|von|der|den|bin|ibn|al) )*(?:{_CAPITALISED})){{0,3}}"
)
# A noun phrase is a few words that mean something by themselves: no pronoun, and no negation.
_NO_PRONOUN = (
    r"(?!(?i:this|that|these|those|it|them|him|her|the|one|ones|not|no|none|neither|nothing|either|both|your|my|i|we"
    r"|you|he|she|they)\b)"
)
_NO_CONJUNCTION = r"(?!(?:and|or|but|so|because|since|which|who|where|when|if)\b)"
_NOUN_PHRASE = rf"{_NO_PRONOUN}{_NO_CONJUNCTION}[\w'’-]+{_DOT}?(?: {_NO_CONJUNCTION}[\w'’-]+{_DOT}?){{0,5}}?"
_NOUN_PHRASES = rf"{_NOUN_PHRASE}(?:(?:, and |, or |, | and | or ){_NOUN_PHRASE})*"
_PLACE = rf"(?:the )?{_NAME}|(?:a|an) (?!living\b|while\b|time\b|bit\b){_NOUN_PHRASE}"
_DATE = rf"(?=[^,.;]*(?:\d|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)))[\w {_DOT}]{{3,30}}?"
_DIET = r"vegetarian|vegan|pescatarian|diabetic|c(?:o)?eliac|lactose[- ]intolerant|gluten[- ]intolerant"
_KIN = (
    r"(?P<relation>(?:(?:older|elder|younger|little|big|twin) )?(?:wife|husband|partner|girlfriend|boyfriend"
    r"|fiancée?|mother|mom|mum|father|dad|sister|brother|daughter|son|baby|dog|cat|horse|rabbit|parrot))"
)
_UNIQUE_KIN = {
    "wife",
    "husband",
    "partner",
    "girlfriend",
    "boyfriend",
    "fiancé",
    "fiancée",
    "mother",
    "father",
}

_IS = r"(?: is|['’]s)"
_I_AM = r"i(?: am|['’]m)(?: also| now| a| an| severely| very)*"
_ADVERBS = r"(?: now| currently| actually| just| recently)*"
_TRAILING_ADVERBS = (
    r"(?: (?:now|nowadays|currently|at the moment|these days|again|too|though|actually|by the way|please))*"
)
_END = r"(?=\s*(?:[.,!;:)。！]|$)|\s(?:and|but|so|because|although|which|where|who|since|with|in|-|–|—)\s)"


@dataclass(frozen=True)
class Pattern:
    """A way to state something about oneself, and the resulting fact; `{value}` is the part that varies."""

    kind: str
    slot: str | None
    opening: str
    value: str
    text: str

    @property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(rf"{self.opening} (?P<value>{self.value}){_TRAILING_ADVERBS}{_END}")


_PATTERNS = (
    Pattern(
        "identity", "name", rf"(?:(?:hi|hello|hey) )?my (?:full |first )?name{_IS}", _NAME, "Name is {value}"
    ),
    Pattern("identity", "nickname", r"(?:(?:please|just|but) )*call me", _NAME, "Wants to be called {value}"),
    Pattern("identity", "home", rf"i{_ADVERBS} live in", rf"(?:the )?{_NAME}", "Lives in {value}"),
    Pattern(
        "identity",
        "home",
        rf"i(?:['’]ve| have)?{_ADVERBS} moved to",
        rf"(?:the )?{_NAME}",
        "Lives in {value}",
    ),
    Pattern("work", "occupation", rf"i{_ADVERBS} work as", rf"(?:an? )?{_NOUN_PHRASE}", "Works as {value}"),
    Pattern("work", "employer", rf"i{_ADVERBS} work (?:at|for)", _PLACE, "Works at {value}"),
    Pattern("health", None, rf"{_I_AM} allergic to", _NOUN_PHRASES, "Is allergic to {value}"),
    Pattern("preference", "diet", _I_AM, _DIET, "Is {value}"),
    Pattern(
        "preference", None, r"i(?: really| much| always| generally)* prefer", _NOUN_PHRASES, "Prefers {value}"
    ),
    Pattern("identity", "birthday", rf"my birthday{_IS}(?: on)?", _DATE, "Birthday is {value}"),
    Pattern(
        "relation",
        "",
        rf"my {_KIN}(?:{_IS} (?:called|named)|['’]s name is)",
        _NAME,
        "{relation} is called {value}",
    ),
)
_COMPILED = [(pattern, pattern.compiled) for pattern in _PATTERNS]

_SENTENCES = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_CONJUNCTION = r"(?:and|but|so|because|although|since)\s"
_CLAUSE_START = re.compile(rf"[,;:]\s+(?:{_CONJUNCTION})?|\s[-–—]+\s|\s{_CONJUNCTION}")
# Quoted words are somebody else's, or an example.
# A quotation holds no other opening mark: otherwise each of many opening marks would be read to the end.
_QUOTATION = re.compile(
    r"```.*?```|`[^`]*`|“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»|\"[^\"]*\""
    r"|(?<!\w)['‘][^'‘’\n]{2,}['’](?!\w)|^[^\S\n]*>[^\n]*$",
    re.DOTALL | re.MULTILINE,
)
# Nobody states a fact about themselves in the 200th kilobyte of a log that they paste.
MAX_CHARACTERS = 10_000
_CLOSING_MARKS = '````"”»'
# A message with one of these words hands over a text, which is somebody else's or an example as well.
_TEXT_TASK = re.compile(
    r"\b(?:translate|proofread|rewrite|rephrase|paraphrase|summari[sz]e|role-?play|pretend|poem|lyrics|novel|story"
    r"|screenplay|dialogue|fictional|character)\b",
    re.IGNORECASE,
)
# A sentence with one of these words may not mean what a part of it says.
_UNCERTAIN = re.compile(
    r"\b(?:if|unless|would|could|should|might|(?-i:may)|maybe|perhaps|imagine|suppos\w+|wish|hop(?:e|ing)"
    r"|assum\w+|until|hypothetical(?:ly)?|when i|used to|as if|in case|whether|for example|e\.g|let['’]s say"
    r"|says?|said|tells?|told|wrote|ask(?:s|ed)?|think(?:s|ing)?|thought"
    r"|dream\w*|jok(?:e|ing)|kidding|not true|never)\b",
    re.IGNORECASE,
)


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
    if _TEXT_TASK.search(text):
        return
    for sentence in _SENTENCES.split(_mask_abbreviation_dots(_QUOTATION.sub(" … ", text))):
        if sentence.rstrip().endswith(("?", "？")) or _UNCERTAIN.search(sentence):
            continue
        starts = [0, *(match.end() for match in _CLAUSE_START.finditer(sentence))]
        for clause in (sentence[start:].lstrip() for start in starts):
            yield from _facts_in_clause(clause[:1].lower() + clause[1:])


def _facts_in_clause(clause: str) -> Iterator[tuple[str, str | None, str]]:
    for pattern, compiled in _COMPILED:
        if (match := compiled.match(clause)) and not _is_cut(match["value"]):
            relation = match.groupdict().get("relation", "")
            slot = (relation if relation in _UNIQUE_KIN else None) if pattern.slot == "" else pattern.slot
            text = pattern.text.format(value=match["value"], relation=relation.capitalize())
            yield pattern.kind, slot, text.replace(_DOT, ".")


def _is_cut(value: str) -> bool:
    """Return True if this ends with an abbreviation that a name should follow.

    In "at St" the name is missing; in "at Park St" it is complete.
    """
    *preceding, last = value.split(" ")
    is_abbreviation = re.fullmatch(rf"(?:{_ABBREVIATION}|No|Nr){_DOT}?", last)
    return bool(is_abbreviation) and not (preceding and preceding[-1][:1].isupper())


def _subject(text: str) -> str:
    sentences = (
        " ".join(sentence.split()) for sentence in _SENTENCES.split(_mask_abbreviation_dots(text[:4000]))
    )
    return next((sentence.replace(_DOT, ".") for sentence in sentences if len(words(sentence)) > 1), "")


def _mask_abbreviation_dots(text: str) -> str:
    return _ABBREVIATION_DOTS.sub(lambda match: match[0][:-1] + _DOT, text)
