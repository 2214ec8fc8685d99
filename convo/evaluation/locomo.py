"""Measure how much evidence search finds in LoCoMo, a public set of long conversations with questions.

Each conversation becomes a person, each of its sessions a session, and each of its turns a message. They are
written and indexed like all messages, under a user who is deleted afterwards.
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
from django.contrib.auth.models import User
from django.db import transaction

from convo import history, search, turns
from convo.errors import InvalidRequest
from convo.history import NewMessage
from convo.models import Message, Person, Session, Turn

RECALL_AT = (5, 10, 25, 50)
PARTS = search.PARTS
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}

# The messages that --distractors adds are made of these names and syllables.
NAMES = ["Iris", "Tomas", "Noor", "Felix", "Greta", "Bao", "Lena", "Omar"]
SYLLABLES = [
    consonant + ending
    for consonant in "bdfgklmnprstvz"
    for ending in ("a", "e", "i", "o", "u", "an", "el", "or")
]
TOPIC = "*"
SESSION_LENGTH = 250

_SESSION_KEY = re.compile(r"session_(\d+)")
_TURN_ID = re.compile(r"D:?(\d+):0*(\d+)")


@dataclass(frozen=True, kw_only=True)
class DataSetQuestion:
    """A question of the data set, and the messages that contain its answer."""

    person: Person
    text: str
    category: int
    evidence: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one question, with the share of its evidence among the first k hits for each k."""

    category: int
    recall: Mapping[int, float]
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The data set in the database."""

    owner: User
    questions: Sequence[DataSetQuestion]
    messages: int
    index_seconds: float


@contextmanager
def load(
    path: Path, *, distractors: int = 0, report_progress: Callable[[str], None] = print
) -> Iterator[DataSet]:
    """Record and index the data set for the duration of a block, and delete it afterwards."""
    conversations = read(path)
    users = get_user_model()
    owner = users._default_manager.create(
        **{users.USERNAME_FIELD: f"convo-evaluation-{secrets.token_hex(6)}"}
    )
    try:
        shared_person = Person.objects.get_or_create_by_ref(owner, "everybody") if distractors else None
        questions = [
            question
            for number, conversation in enumerate(conversations)
            for question in _record(
                owner,
                shared_person or Person.objects.get_or_create_by_ref(owner, f"conversation {number}"),
                conversation,
            )
        ]
        if shared_person:
            _add_distractors(owner, shared_person, conversations, distractors)
        report_progress("Indexing …")
        start = time.perf_counter()
        index(owner)
        yield DataSet(
            owner=owner,
            questions=questions,
            messages=Message.objects.filter(session__owner=owner).count(),
            index_seconds=time.perf_counter() - start,
        )
    finally:
        for session in Session.objects.filter(owner=owner).values_list("pk", flat=True):
            history.remove(session)
        owner.delete()


def index(owner: User) -> None:
    while Turn.objects.filter(session__owner=owner, indexed_at=None).exists():
        search.index_turns()


def read(path: Path) -> list[dict[str, Any]]:
    """Read the conversations from the file in the format in which LoCoMo is published."""
    try:
        conversations = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(conversations, list)
        assert all(conversation["conversation"] and conversation["qa"] for conversation in conversations)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InvalidRequest(
            f"{path} is not a LoCoMo file, a JSON list of conversations with their questions."
        ) from error
    return conversations


def spread(questions: Sequence[DataSetQuestion], count: int) -> Sequence[DataSetQuestion]:
    """Return about this many of the questions, spread evenly."""
    return questions[:: max(1, len(questions) // count)]


def ask_all(data: DataSet, *, excluded_part: str = "") -> list[Outcome]:
    return [ask(question, data.owner, excluded_part=excluded_part) for question in data.questions]


def ask(question: DataSetQuestion, owner: User, *, excluded_part: str = "") -> Outcome:
    """Search as `GET /search/` does, and compare the hits with the evidence."""
    start = time.perf_counter()
    hits = search.find(
        question.person,
        owner,
        question.text,
        limit=max(RECALL_AT),
        neighbours=0,
        excluded_parts=[excluded_part] if excluded_part else (),
    )
    seconds = time.perf_counter() - start
    hit_ids = [hit.message_id for hit in hits]
    recall = {k: len(question.evidence & set(hit_ids[:k])) / len(question.evidence) for k in RECALL_AT}
    return Outcome(category=question.category, recall=recall, milliseconds=1000 * seconds)


def _record(owner: User, person: Person, data_set_entry: dict[str, Any]) -> list[DataSetQuestion]:
    keys_by_turn: dict[tuple[int, int], int] = {}
    conversation = data_set_entry["conversation"]
    for key in sorted(filter(_SESSION_KEY.fullmatch, conversation), key=lambda key: int(key.split("_")[1])):
        started_at = datetime.strptime(conversation[f"{key}_date_time"], "%I:%M %p on %d %B, %Y")
        named_texts = [(turn["speaker"], _text(turn)) for turn in conversation[key]]
        rows = _record_session(owner, person, named_texts, started_at.replace(tzinfo=UTC))
        for turn, row in zip(conversation[key], rows, strict=True):
            keys_by_turn[_parse_turn_ids(turn["dia_id"])[0]] = row.pk
    return [
        DataSetQuestion(person=person, text=qa["question"], category=qa["category"], evidence=evidence)
        for qa in data_set_entry["qa"]
        if (evidence := _evidence(qa.get("evidence") or [], keys_by_turn))
    ]


def _record_session(
    owner: User, person: Person, named_texts: Sequence[tuple[str, str]], sent_at: datetime
) -> list[Message]:
    session, _ = turns.store_session(turns.new_session(owner, person.ref))
    messages = [NewMessage(role="user", name=name, content=text) for name, text in named_texts]
    with transaction.atomic():
        rows = turns.record(session, messages)
        Message.objects.filter(session=session).update(created_at=sent_at)
    return rows


def _text(turn: Mapping[str, str]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['text']} [{caption}]" if caption else turn["text"]


def _parse_turn_ids(text: str) -> list[tuple[int, int]]:
    return [(int(session), int(turn)) for session, turn in _TURN_ID.findall(text)]


def _evidence(turn_ids: Sequence[str], keys_by_turn: Mapping[tuple[int, int], int]) -> frozenset[int]:
    turn_keys = [turn_key for turn_id in turn_ids for turn_key in _parse_turn_ids(turn_id)]
    return frozenset(keys_by_turn[turn_key] for turn_key in turn_keys if turn_key in keys_by_turn)


def _add_distractors(
    owner: User, person: Person, conversations: Sequence[dict[str, Any]], count: int
) -> None:
    """Add other messages for the person, in the style of these conversations but with made-up topics."""
    rng = random.Random(20230508)
    successors = _successors(conversations)
    for start in range(0, count, SESSION_LENGTH):
        names = rng.sample(NAMES, 2)
        size = min(SESSION_LENGTH, count - start)
        named_texts = [(names[number % 2], _sentence(successors, rng)) for number in range(size)]
        _record_session(owner, person, named_texts, datetime.fromtimestamp(rng.uniform(1.64e9, 1.71e9), UTC))


def _successors(conversations: Sequence[dict[str, Any]]) -> Mapping[str, Sequence[str]]:
    """Return for each word those that follow it. Rare words are replaced with the mark of a topic."""
    texts = [
        turn["text"].split()
        for data_set_entry in conversations
        for key, session_turns in data_set_entry["conversation"].items()
        if _SESSION_KEY.fullmatch(key)
        for turn in session_turns
    ]
    message_counts = Counter(word for words in texts for word in set(words))
    successors: dict[str, list[str]] = defaultdict(list)
    for words in texts:
        common = [word if message_counts[word] > len(texts) / 200 else TOPIC for word in words]
        for word, next_word in zip(["", *common], [*common, ""], strict=True):
            successors[word].append(next_word)
    return successors


def _sentence(successors: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    words: list[str] = []
    while (word := rng.choice(successors[words[-1] if words else ""])) and len(words) < 60:
        words.append(word)
    return " ".join(_invented_word(rng) if word == TOPIC else word for word in words) or "Hm."


def _invented_word(rng: random.Random) -> str:
    """Return an invented word. Some recur often and most hardly ever, as in a natural language."""
    rank = int(rng.paretovariate(0.9)) % 50_000
    word_rng = random.Random(rank)
    return "".join(word_rng.choice(SYLLABLES) for _ in range(word_rng.randint(2, 4)))
