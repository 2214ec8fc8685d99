"""LoCoMo, a public set of long conversations with questions: how much of the evidence does search find?

Each conversation becomes a person of its own, each of its sessions a session, each turn a message: written
and indexed the way every message is, under a user who is gone afterwards.
"""

import json
import random
import re
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from convo import history, search, turns
from convo.errors import InvalidRequest
from convo.history import Draft
from convo.models import Message, Person, Session, Turn

AT = (5, 10, 25, 50)
TERMS = search.TERMS
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}

# What the other messages are made of, with --distractors.
NAMES = ["Iris", "Tomas", "Noor", "Felix", "Greta", "Bao", "Lena", "Omar"]
SYLLABLES = [one + other for one in "bdfgklmnprstvz" for other in ("a", "e", "i", "o", "u", "an", "el", "or")]
TOPIC = "*"
SAID_AT_ONCE = 250

_SESSION = re.compile(r"session_(\d+)")
_TURN = re.compile(r"D:?(\d+):0*(\d+)")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question of the set, and the messages in which its answer stands."""

    person: Person
    text: str
    category: int
    evidence: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one question: the share of its evidence among the first k, for each k."""

    category: int
    recall: Mapping[int, float]
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The set as it stands in the database."""

    owner: Any
    questions: Sequence[Asked]
    messages: int
    index_seconds: float


@contextmanager
def loaded(path: Path, *, distractors: int = 0, told: Callable[[str], None] = print) -> Iterator[Loaded]:
    """The set, recorded and indexed; nothing of it is left afterwards."""
    conversations = read(path)
    users = get_user_model()
    owner = users._default_manager.create(
        **{users.USERNAME_FIELD: f"convo-evaluation-{secrets.token_hex(6)}"}
    )
    try:
        one = Person.objects.named(owner, "everybody") if distractors else None
        questions = [
            question
            for number, conversation in enumerate(conversations)
            for question in _record(
                owner, one or Person.objects.named(owner, f"conversation {number}"), conversation
            )
        ]
        if one:
            _distract(owner, one, conversations, distractors)
        told("Indexing …")
        begun = time.perf_counter()
        while Turn.objects.filter(session__owner=owner, indexed_at=None).exists():
            search.index_turns()
        yield Loaded(
            owner=owner,
            questions=questions,
            messages=Message.objects.filter(session__owner=owner).count(),
            index_seconds=time.perf_counter() - begun,
        )
    finally:
        for session in Session.objects.filter(owner=owner).values_list("pk", flat=True):
            history.remove(session)
        owner.delete()


def read(path: Path) -> list[dict[str, Any]]:
    """The conversations of the file, which is as its makers published it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(found, list)
        assert all(one["conversation"] and one["qa"] for one in found)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InvalidRequest(
            f"{path} is no LoCoMo file: a list of conversations with their questions."
        ) from error
    return found


def ask(question: Asked, owner: Any, *, without: str = "") -> Outcome:
    """Search as `GET /search/` does, and compare."""
    begun = time.perf_counter()
    hits = search.find(
        question.person,
        owner,
        question.text,
        limit=max(AT),
        neighbours=0,
        without=[without] if without else (),
    )
    taken = time.perf_counter() - begun
    found = [hit.message_id for hit in hits]
    recall = {k: len(question.evidence & set(found[:k])) / len(question.evidence) for k in AT}
    return Outcome(category=question.category, recall=recall, milliseconds=1000 * taken)


def _record(owner: Any, person: Person, given: dict[str, Any]) -> list[Asked]:
    places: dict[tuple[int, int], int] = {}
    conversation = given["conversation"]
    for key in sorted(filter(_SESSION.fullmatch, conversation), key=lambda key: int(key.split("_")[1])):
        said = _moment(conversation[f"{key}_date_time"])
        rows = _say(owner, person, [(turn["speaker"], _text(turn)) for turn in conversation[key]], said)
        for turn, row in zip(conversation[key], rows, strict=True):
            places[_place(turn["dia_id"])] = row.pk
    return [
        Asked(person=person, text=qa["question"], category=qa["category"], evidence=evidence)
        for qa in given["qa"]
        if (evidence := _evidence(qa.get("evidence") or [], places))
    ]


def _say(owner: Any, person: Person, lines: Sequence[tuple[str, str]], said: datetime) -> list[Message]:
    """Record these lines as a session of this day."""
    session, _ = turns.stored(turns.new_session(owner, person.ref))
    drafts = [Draft(role="user", name=name, content=text) for name, text in lines]
    with transaction.atomic():
        rows = turns.record(session, drafts)
        Message.objects.filter(session=session).update(created_at=said)
    return rows


def _text(turn: Mapping[str, str]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['text']} [{caption}]" if caption else turn["text"]


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)


def _place(id: str) -> tuple[int, int]:
    session, turn = _TURN.findall(id)[0]
    return int(session), int(turn)


def _evidence(ids: Sequence[str], places: Mapping[tuple[int, int], int]) -> frozenset[int]:
    named = [(int(session), int(turn)) for id in ids for session, turn in _TURN.findall(id)]
    return frozenset(places[place] for place in named if place in places)


def _distract(owner: Any, person: Person, conversations: Sequence[dict[str, Any]], count: int) -> None:
    """Other messages of the same user: they talk the way these people do, about things of their own."""
    draw = random.Random(20230508)
    follows = _follows(conversations)
    for start in range(0, count, SAID_AT_ONCE):
        names = draw.sample(NAMES, 2)
        some = min(SAID_AT_ONCE, count - start)
        lines = [(names[number % 2], _sentence(follows, draw)) for number in range(some)]
        _say(owner, person, lines, datetime.fromtimestamp(draw.uniform(1.64e9, 1.71e9), UTC))


def _follows(conversations: Sequence[dict[str, Any]]) -> Mapping[str, Sequence[str]]:
    """Which words follow which; in the place of those that few messages have, the mark of a topic."""
    texts = [
        turn["text"].split()
        for given in conversations
        for key, said in given["conversation"].items()
        if _SESSION.fullmatch(key)
        for turn in said
    ]
    held = Counter(word for words in texts for word in set(words))
    follows: dict[str, list[str]] = defaultdict(list)
    for words in texts:
        common = [word if held[word] > len(texts) / 200 else TOPIC for word in words]
        for one, other in zip(["", *common], [*common, ""], strict=True):
            follows[one].append(other)
    return follows


def _sentence(follows: Mapping[str, Sequence[str]], draw: random.Random) -> str:
    words: list[str] = []
    while (word := draw.choice(follows[words[-1] if words else ""])) and len(words) < 60:
        words.append(word)
    return " ".join(_made_up(draw) if word == TOPIC else word for word in words) or "Hm."


def _made_up(draw: random.Random) -> str:
    """A word that no language has; some are said often, most of them hardly ever, as words are."""
    rank = int(draw.paretovariate(0.9)) % 50_000
    syllables = random.Random(rank)
    return "".join(syllables.choice(SYLLABLES) for _ in range(syllables.randint(2, 4)))
