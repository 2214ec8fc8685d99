"""Find the replies that repeat a fact.

The fact was in the prompt of such a reply, and the reply has a word of it that its question lacks.
"""

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from django.db.models import Sum

from convo import database, search
from convo.models import ManifestSource, Message, Person, Session, Turn, UserMemory

# A word that is in more messages than this, and in more than this share of them, identifies no fact.
COMMON_MESSAGES, COMMON_SHARE = 20, 0.02
# Turns are read with their manifests, which are long.
TURNS_AT_A_TIME = 100


def find_repeats(
    person: Person, memories: Iterable[UserMemory], words: Set[str], sources: Iterable[Message]
) -> list[Message]:
    """Return the recallable messages of the replies that repeat these facts, and their copies in forks.

    `words` are the words that identify the facts, `sources` the messages that the facts were learned from.
    The search index tells which replies have the words, so that not all of the person's turns are read.
    """
    if not words:
        return []
    fact_sources = _FactSources({str(memory.key) for memory in memories})
    fact_sources.add(sources)
    item_ids: list[str] = []
    for turn in _turns_to_check(person, words):
        if fact_sources.are_in_prompt_of(turn) and (reply := _repeating_reply(turn, words)):
            # A later turn that recalled this reply was given the fact as well.
            fact_sources.add(reply)
            item_ids += [row.item_id for row in reply]
    return list(_recallable(person, item_ids))


def identifying_words(person: Person, memories: Sequence[UserMemory]) -> frozenset[str]:
    """Return the words that identify these facts: all but the common ones, and names even if common."""
    words_by_memory = {memory.pk: search.search_words(memory.text) for memory in memories}
    limit = _common_threshold(person)
    messages_by_word = search.message_ids_by_word(
        person,
        sorted({word for memory_words in words_by_memory.values() for word in memory_words}),
        limit=limit,
    )
    common = {word for word, messages in messages_by_word.items() if len(messages) == limit}
    other_memories = (
        UserMemory.objects.for_prompt(person).exclude(pk__in=words_by_memory)
        if common
        else UserMemory.objects.none()
    )
    other_words = {word for row in other_memories for word in search.search_words(row.text)}
    identifying_words: set[str] = set()
    for memory in memories:
        names = {word for name in _names_and_numbers(memory.text) for word in search.search_words(name)}
        indexed_words = set(search.stemmed_words(memory.text))
        # A common name that is in other facts, too, is mostly the person's own.
        selected = {
            word for word in words_by_memory[memory.pk] if word not in common or word in names - other_words
        }
        if indexed_words and indexed_words.isdisjoint(selected):
            # This fact has nothing but common words, so the least common one has to do.
            messages_of_word = search.message_ids_by_word(person, sorted(indexed_words))
            selected.add(min(messages_of_word, key=lambda word: (len(messages_of_word[word]), word)))
        identifying_words |= selected
    return frozenset(identifying_words)


def _common_threshold(person: Person) -> int:
    sessions = Session.objects.filter(person=person, kind=Session.Kind.CONVERSATION)
    messages = sessions.aggregate(total=Sum("message_count"))["total"] or 0
    return max(COMMON_MESSAGES, int(COMMON_SHARE * messages)) + 1


def _names_and_numbers(text: str) -> Iterator[str]:
    # Numbers of three digits or more identify as well as names do.
    yield from re.findall(r"\d{3,}", text)
    for sentence in re.split(r"[.!?。！？\n]", text):
        yield from (word for word in re.findall(r"\w+", sentence)[1:] if word[0].isupper() and len(word) > 1)


@dataclass(frozen=True)
class _FactSources:
    """The ways in which a prompt may have held the facts: by themselves, or in messages that state them."""

    memory_keys: set[str]
    message_keys: set[int] = field(default_factory=set)
    positions: dict[str, set[int]] = field(default_factory=dict)  # positions, by session

    def add(self, rows: Iterable[Message]) -> None:
        for row in rows:
            self.message_keys.add(row.pk)
            self.positions.setdefault(str(row.session_id), set()).add(row.position)

    def are_in_prompt_of(self, turn: Turn) -> bool:
        positions = self.positions.get(str(turn.session_id), ())
        for part in turn.manifest["parts"] if turn.manifest else ():
            if any(part["from"] <= position <= part["to"] for position in positions if "from" in part):
                return True
            if any(map(self._is_fact_source, part.get("sources", ()))):
                return True
        return False

    def _is_fact_source(self, source: ManifestSource) -> bool:
        if "memory" in source:
            return source["memory"] in self.memory_keys or not self.message_keys.isdisjoint(
                source["evidence"]
            )
        return source.get("position") in self.positions.get(str(source.get("session")), ())


def _turns_to_check(person: Person, words: Set[str]) -> Iterator[Turn]:
    messages_by_word = search.message_ids_by_word(person, sorted(words))
    message_keys = sorted(set().union(*messages_by_word.values()))
    turn_keys: set[int] = set()
    for batch in database.in_batches(message_keys):
        replies = Message.objects.filter(pk__in=batch, turn__manifest__isnull=False).exclude(agent="")
        turn_keys.update(replies.values_list("turn_id", flat=True))
    # These turns are not in the index yet, for instance after `manage.py reindex`.
    unindexed_turns = Turn.objects.filter(session__person=person, indexed_at=None, manifest__isnull=False)
    turn_keys.update(unindexed_turns.values_list("pk", flat=True))
    for batch in database.in_batches(sorted(turn_keys), TURNS_AT_A_TIME):
        turns = Turn.objects.filter(pk__in=batch).order_by("pk")
        yield from turns.only("session_id", "question_turn_id", "manifest")


def _repeating_reply(turn: Turn, words: Set[str]) -> list[Message]:
    """Return the messages of this turn's reply if it has one of these words that its question lacks."""
    exchange = [turn.pk, turn.question_turn_id or turn.pk]
    rows = list(Message.objects.filter(turn__in=exchange, erased_at=None).exclude(type="reasoning"))
    reply = [row for row in rows if row.agent and row.turn_id == turn.pk]
    question_words = {
        word
        for row in rows
        if not row.agent
        for word in search.search_words(row.content[: search.MAX_INDEXED_CHARACTERS])
    }
    reply_words = {
        word
        for row in reply
        for word in search.stemmed_words(row.reply_text[: search.MAX_INDEXED_CHARACTERS])
    }
    return reply if reply_words & words - question_words else []


def _recallable(person: Person, item_ids: Sequence[str]) -> Iterator[Message]:
    for batch in database.in_batches(item_ids):
        rows = Message.objects.filter(session__person=person, item_id__in=batch, recallable=True)
        yield from rows.filter(erased_at=None).only("session_id", "turn_id", "position", "recallable")
