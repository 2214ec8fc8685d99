"""Search: what was said is found by words and by meaning, in every language, by nobody but whose it is."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from convo import history, search, turns
from convo.errors import NotSearchable
from convo.history import NewMessage
from convo.models import (
    ME,
    NOBODY,
    IndexedMemory,
    IndexedMessage,
    Message,
    Person,
    Session,
    Turn,
    UserMemory,
)
from convo.search import Hit, candidates
from convo.search.index import build_index_batch, save_index_batch
from convo.search.scope import SMALL_SCOPE
from convo.search.score import REACH
from convo.search.words import search_words, stemmed_words
from tests.support.search import index_memories
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db

SEARCH = "/api/v1/search/"


def session_of(owner: Any, ref: str = ME, **fields: Any) -> Session:
    made = turns.new_session(owner, ref)
    for name, value in fields.items():
        setattr(made, name, value)
    return turns.store_session(made)[0]


def say(
    session: Session, *texts: str, role: str = "user", indexed: bool = True, name: str = ""
) -> list[Message]:
    rows = turns.record(session, [NewMessage(role=role, content=text, name=name) for text in texts])
    if indexed:
        index()
    return rows


def index() -> int:
    done = 0
    while some := search.index_turns():
        done += some
    return done


def texts(hits: Sequence[Hit]) -> list[str]:
    return [hit.content for hit in hits]


def found(owner: Any, query: str, *, ref: str = ME, **options: Any) -> list[str]:
    return texts(search.find(Person.objects.get_or_create_by_ref(owner, ref), owner, query, **options))


def lexemes() -> set[str]:
    """The words that the database's own text index holds."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS temp.held USING fts5vocab(main, convo_terms, row)"
            )
            cursor.execute("SELECT term FROM temp.held")
        else:
            cursor.execute(
                "SELECT unnest(tsvector_to_array(convo_index_terms(statement_terms, question_terms, "
                "date_terms, scope_key, owner_key))) FROM convo_indexedmessage"
            )
        return {term.partition(".")[2] for (term,) in cursor.fetchall()}


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("We went swimming in the lakes.", "Where did she swim?"),
        ("Die Häuser am Hafen sind teuer geworden.", "Haus"),
        ("Ich habe gestern zwei Zeitungen gekauft.", "Zeitung"),
        ("我昨天在北京吃了烤鸭。", "烤鸭"),
        ("東京タワーに行きました。", "東京"),
        ("我的猫很可爱。", "猫"),
        ("أحب القهوة في المقاهي القديمة", "قهوة"),
        ("Мы живём в больших городах.", "город"),
        ("Nous avons acheté des chevaux blancs.", "cheval chevaux"),
        ("He bought three bikes.", "Who bought 3 bicycles?"),
    ],
)
def test_a_message_is_found_in_its_language(alice: Any, said: str, asked: str) -> None:
    session = session_of(alice)
    say(session, "Something else entirely.", said, "今日は良い天気", "Alles Gute", "كل شيء بخير")
    assert found(alice, asked)[0] == said


def test_a_message_is_found_by_what_it_means(alice: Any) -> None:
    say(
        session_of(alice),
        *(f"Item number {n} of the stock list." for n in range(30)),
        "My kitten purrs all night.",
    )
    assert "My kitten purrs all night." in found(alice, "feline animal")


@pytest.mark.parametrize("size", [1, 3, 10, 30])
def test_where_little_was_said_meaning_finds_what_answers_and_nothing_else(alice: Any, size: int) -> None:
    """Review 4: of n messages none is further than √(n − 1) of their deviations from their mean."""
    stock = [f"Item number {n} of the stock list." for n in range(size)]
    say(session_of(alice, "with"), "My kitten purrs all night.", *stock[1:])
    say(session_of(alice, "without"), *stock)
    for question in ("feline animal", "Which pets are there?"):
        assert found(alice, question, ref="with") == ["My kitten purrs all night."]
        assert found(alice, question, ref="without") == []
    (hit,) = search.find(Person.objects.get_or_create_by_ref(alice, "with"), alice, "feline animal")
    assert hit.parts["meaning"] > 0
    assert "words" not in hit.parts


@pytest.mark.parametrize("size", [1, 3, 10, 30])
@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("xylophone", "The demo is on Thursday."),
        ("我有什么宠物？", "合同三月份到期，请把它寄给会计。"),
        ("أين مفاتيحي؟", "ينتهي العقد في شهر مارس."),
        ("Где мои ключи?", "Договор заканчивается весной."),
        ("Wann ist die Hochzeit?", "Der Drucker braucht Papier."),
    ],
)
def test_where_little_was_said_a_question_about_something_else_finds_nothing(
    alice: Any, question: str, said: str, size: int
) -> None:
    """Review 4: of two unrelated texts the offline model says .05 in English and .8 in Arabic."""
    say(session_of(alice), *[said] * size)
    assert found(alice, question) == []
    # What has a word of the question is found all the same.
    assert found(alice, said)


def test_what_nobody_ever_said_is_not_found(alice: Any) -> None:
    say(session_of(alice), "The demo is on Thursday.", "The standup moves to 9:45.")
    assert found(alice, "xylophone") == []
    assert found(alice, "demo")[0] == "The demo is on Thursday."


def test_nobody_finds_what_another_owner_said(alice: Any, bob: Any) -> None:
    say(session_of(alice), "The launch code is butterfly.")
    say(session_of(bob), "Nothing of interest.")
    assert found(bob, "launch code butterfly") == []
    assert texts(search.find(None, bob, "launch code butterfly")) == []
    assert found(alice, "launch code butterfly") == ["The launch code is butterfly."]


def test_no_fact_crosses_between_the_people_behind_a_key(alice: Any) -> None:
    say(session_of(alice, "anna"), "Anna lives in Lisbon.")
    say(session_of(alice, "ben"), "Ben lives in Oslo.")
    assert found(alice, "Who lives where?", ref="anna") == ["Anna lives in Lisbon."]
    assert found(alice, "Lisbon", ref="ben") == []
    assert sorted(texts(search.find(None, alice, "lives"))) == ["Anna lives in Lisbon.", "Ben lives in Oslo."]


def test_nobodys_sessions_are_searched_inside_only(alice: Any) -> None:
    here, there = session_of(alice, NOBODY), session_of(alice, NOBODY)
    say(here, "A parrot sits here.")
    say(there, "A parrot sits there.")
    nobody = here.person
    assert search.find(nobody, alice, "parrot") == []
    assert texts(search.find(nobody, alice, "parrot", session=here)) == ["A parrot sits here."]


def test_a_stranger_has_said_nothing(alice: Any) -> None:
    say(session_of(alice), "The demo is on Thursday.")
    assert search.find(Person(owner=alice, ref="stranger"), alice, "demo") == []


def test_a_chain_is_not_searched_and_what_is_not_kept_cannot_be(alice: Any) -> None:
    say(session_of(alice, kind=Session.Kind.CHAIN), "The demo is on Thursday.")
    # It counts as indexed since it was recorded, but not for this.
    search.reindex_turns(list(Turn.objects.values_list("pk", flat=True)))
    assert found(alice, "demo") == []
    assert not Turn.objects.filter(indexed_at=None).exists()
    hidden = session_of(alice, storage=Session.Storage.EPHEMERAL)
    with pytest.raises(NotSearchable):
        search.find(hidden.person, alice, "demo", session=hidden)


def test_system_messages_are_not_indexed(alice: Any) -> None:
    say(session_of(alice), "Never mention the merger.", role="system")
    say(session_of(alice), "The merger is announced.", role="assistant")
    assert found(alice, "merger") == ["The merger is announced."]


def test_a_recorded_turn_that_goes_on_is_indexed_again(alice: Any) -> None:
    session = session_of(alice)
    say(session, "Where is the key?")
    turns.record(session, [NewMessage(role="assistant", content="Under the flowerpot.")])
    assert Turn.objects.get().indexed_at is None
    assert index() == 1
    assert found(alice, "flowerpot")[0] == "Under the flowerpot."


@pytest.mark.parametrize("change", ["clear", "append", "remove", "delete"])
def test_nothing_is_written_of_a_transcript_that_changed_since_it_was_read(alice: Any, change: str) -> None:
    session, other = session_of(alice), session_of(alice)
    row = say(session, "Where is the key?", indexed=False)[0]
    say(other, "Where is the lock?", indexed=False)
    seen = build_index_batch(list(Turn.objects.values_list("pk", flat=True)))
    match change:
        case "clear":
            history.clear(session.pk)
        case "append":
            turns.record(session, [NewMessage(role="assistant", content="Under the flowerpot.")])
        case "remove":
            history.remove(session.pk)
        case "delete":
            history.delete_message(session.pk, row.position)
    assert save_index_batch(seen) == 1
    assert found(alice, "key lock flowerpot") == ["Where is the lock?"]
    index()
    assert ("Under the flowerpot." in found(alice, "flowerpot")) == (change == "append")


def test_indexing_twice_is_the_same_as_once(alice: Any) -> None:
    say(session_of(alice), "The demo is on Thursday.")
    Turn.objects.update(indexed_at=None)
    assert index() == 1
    assert index() == 0
    assert IndexedMessage.objects.count() == 1
    assert found(alice, "demo") == ["The demo is on Thursday."]


@pytest.mark.parametrize("way", ["delete", "clear", "remove", "person", "owner", "raw"])
def test_what_is_deleted_is_not_found_and_leaves_no_word(alice: Any, way: str) -> None:
    session = session_of(alice)
    row = say(session, "The demo is on Thursday.")[0]
    assert {"demo", "thursday"} <= lexemes()
    match way:
        case "delete":
            history.delete_message(session.pk, row.position)
        case "clear":
            history.clear(session.pk)
        case "remove":
            history.remove(session.pk)
        case "person":
            Person.objects.all().delete()
        case "owner":
            get_user_model().objects.filter(pk=alice.pk).delete()
        case "raw":
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM convo_indexedmessage")
    assert IndexedMessage.objects.count() == 0
    assert lexemes() == set()
    if way not in {"person", "owner"}:
        assert found(alice, "demo") == []


def test_a_forgotten_message_and_a_branch_that_is_not_shown_are_not_found(alice: Any) -> None:
    session = session_of(alice)
    first, second = say(session, "The demo is on Thursday.", "The demo is on Friday.")
    assert len(found(alice, "demo")) == 2
    Message.objects.filter(pk=first.pk).update(recallable=False)
    Message.objects.filter(pk=second.pk).update(active=False)
    assert found(alice, "demo") == []
    Message.objects.update(recallable=True, active=True)
    assert len(found(alice, "demo")) == 2
    # Nor do they take the place of those that are.
    since: Any = {"after": datetime(2000, 1, 1, tzinfo=UTC), "limit": 1}
    best, other = found(alice, "demo")
    assert found(alice, "demo", **since) == [best]
    Message.objects.filter(content=best).update(active=False)
    assert found(alice, "demo", **since) == [other]


def test_what_was_read_for_one_question_is_read_anew_for_the_next_when_something_has_changed(
    alice: Any,
) -> None:
    session = session_of(alice)
    say(session, "The demo is on Thursday.", "The demo is in Graz.")
    assert len(found(alice, "demo")) == 2
    say(session, "The demo was moved to Linz.")
    assert len(found(alice, "demo")) == 3
    history.delete_message(session.pk, 2)
    assert "The demo is in Graz." not in found(alice, "demo Graz")


def test_vectors_that_come_later_count_although_nothing_else_has_changed(alice: Any) -> None:
    session = session_of(alice)
    say(session, "The demo is on Thursday.", "The demo is at noon.")
    # As when no model could be reached; vectors come later, and the transcript stays as it is.
    IndexedMessage.objects.update(vector=None, model="", dim=0)
    assert all(not hit.parts.get("meaning") for hit in search.find(session.person, alice, "demo"))
    search.index_vectors()
    assert any(hit.parts.get("meaning") for hit in search.find(session.person, alice, "demo"))


def test_of_a_place_that_is_known_only_what_came_since_is_read(alice: Any) -> None:
    session = session_of(alice)
    say(session, "The demo is on Thursday.", "The demo is in Graz.")
    assert len(found(alice, "demo")) == 2
    say(session, "The demo is at noon.", "It lasts an hour.")
    with CaptureQueriesContext(connection) as asked:
        hits = search.find(session.person, alice, "demo")
    reads = [query["sql"] for query in asked.captured_queries if "entry.vector" in query["sql"]]
    assert len(reads) == 1
    assert "entry.message_id > " in reads[0]
    # Asked for a part, which here is all of it, search reads everything.
    anew = search.find(session.person, alice, "demo", after=datetime(2000, 1, 1, tzinfo=UTC))
    assert [(hit.content, hit.score) for hit in hits] == [(hit.content, hit.score) for hit in anew]
    assert len(hits) == 4


def test_a_scope_is_not_read_again_because_a_message_waits_to_be_indexed(alice: Any) -> None:
    session = session_of(alice)
    say(session, "The demo is on Thursday.", "The demo is in Graz.")
    assert len(found(alice, "demo")) == 2
    turns.record(session, [NewMessage(role="user", content="Where is the demo?")])
    with CaptureQueriesContext(connection) as queries:
        hits = search.find(session.person, alice, "demo")
    reads = [query["sql"] for query in queries.captured_queries if "entry.vector" in query["sql"]]
    assert all("entry.message_id > " in sql for sql in reads)
    assert len(hits) == 2


def test_a_place_that_has_outgrown_its_pool_is_not_weighed_for_every_question(alice: Any) -> None:
    session = session_of(alice)
    say(session, "The zeppelin landed.")

    def weighed() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert found(alice, "zeppelin")[0] == "The zeppelin landed."
        return sum("SUM(epoch)" in query["sql"] for query in asked.captured_queries)

    assert weighed() == 1
    turns.record(
        session, [NewMessage(role="user", content=f"Item {n} of the stock list.") for n in range(1300)]
    )
    index()
    weighed()
    assert weighed() == 0


def test_an_older_message_that_is_indexed_late_is_found(alice: Any) -> None:
    session = session_of(alice)
    late, _ = say(session, "The demo is on Thursday.", "The demo is in Graz.")
    IndexedMessage.objects.filter(message=late).delete()
    assert found(alice, "demo") == ["The demo is in Graz."]
    Turn.objects.filter(messages=late).update(indexed_at=None)
    index()
    assert len(found(alice, "demo")) == 2


def test_a_message_indexed_late_is_found_though_another_has_gone(alice: Any) -> None:
    """The number of messages, the newest and the sessions stay the same."""
    session = session_of(alice)
    late, gone, _ = say(session, "The demo is on Thursday.", "The demo is off.", "The demo is in Graz.")
    IndexedMessage.objects.filter(message=late).delete()
    assert len(found(alice, "demo")) == 2
    IndexedMessage.objects.filter(message=gone).delete()
    Turn.objects.filter(messages=late).update(indexed_at=None)
    index()
    IndexedMessage.objects.filter(message=gone).delete()
    assert "The demo is on Thursday." in found(alice, "demo")


def test_the_copies_of_a_fork_are_told_once(alice: Any) -> None:
    session = session_of(alice)
    say(session, "The demo is on Thursday.")
    history.fork(session, 1)
    assert index() == 1
    assert IndexedMessage.objects.count() == 2
    assert found(alice, "demo") == ["The demo is on Thursday."]


def test_a_hit_comes_with_its_neighbours_and_the_words_that_match(alice: Any) -> None:
    session = session_of(alice)
    say(session, "one", "two", "The café's demo!", "four", "five", "six")
    hit = search.find(session.person, alice, "demos café", limit=1)[0]
    assert [line.content for line in hit.before] == ["one", "two"]
    assert [line.content for line in hit.after] == ["four", "five"]
    assert [hit.content[start:end] for start, end in hit.highlights] == ["café", "demo"]
    assert hit.parts["words"] > 0
    assert hit.score == pytest.approx(sum(hit.parts.values()), abs=0.001)


def test_only_older_messages_than_asked_for_come_back(alice: Any) -> None:
    session = session_of(alice)
    say(session, "demo one", "demo two", "demo three")
    hits = search.find(session.person, alice, "demo", session=session, before_position=2)
    assert texts(hits) == ["demo one"]
    assert hits[0].after == []


def test_the_answer_is_found_by_the_question_before_it(alice: Any) -> None:
    session = session_of(alice)
    filler = [f"Talk number {n} was about gardening and weather." for n in range(40)]
    say(session, *filler, name="Mel")
    turns.record(
        session, [NewMessage(role="user", name="Mel", content="Which instrument do you play, Cara?")]
    )
    turns.record(session, [NewMessage(role="user", name="Cara", content="The clarinet, since I was six.")])
    index()
    assert found(alice, "What instrument does Cara play?")[0] == "The clarinet, since I was six."


def test_a_day_is_found_by_what_was_said_of_it(alice: Any) -> None:
    session = session_of(alice)
    rows = say(session, "I went to the concert yesterday.", "I went to the concert last year.", indexed=False)
    Message.objects.filter(pk__in=[row.pk for row in rows]).update(
        created_at=datetime(2023, 5, 8, 12, tzinfo=UTC)
    )
    index()
    assert found(alice, "Who was at the concert on 7 May 2023?")[0] == "I went to the concert yesterday."


def test_among_many_messages_the_index_proposes_the_right_ones(alice: Any) -> None:
    session, other = session_of(alice), session_of(alice, "ben")
    say(other, "The zeppelin of Ben landed.")
    turns.record(
        session, [NewMessage(role="user", content=f"Item {n} of the stock list.") for n in range(1300)]
    )
    say(session, "The zeppelin landed on a lawn.", "It was green and wet.")
    found_here = found(alice, "On what did the zeppelin land?")
    assert found_here[:2] == ["The zeppelin landed on a lawn.", "It was green and wet."]
    assert "The zeppelin of Ben landed." not in found_here
    assert texts(search.find(None, alice, "zeppelin"))[:2] != []
    assert set(texts(search.find(None, alice, "zeppelin"))) >= {
        "The zeppelin landed on a lawn.",
        "The zeppelin of Ben landed.",
    }
    assert found(alice, "dirigible airship", session=session) is not None
    history.remove(session.pk)
    assert "lawn" not in lexemes()


@pytest.mark.postgres
def test_a_database_with_old_statistics_reads_few_messages_for_a_hit(alice: Any) -> None:
    session = session_of(alice)
    say(session, "The zeppelin landed on a lawn.")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE convo_message, convo_turn, convo_indexedmessage")
    turns.record(session, [NewMessage(role="user", content=f"Item {n}.") for n in range(SMALL_SCOPE + 1)])
    index()
    before = rows_read()
    assert found(alice, "zeppelin", neighbours=2)[0] == "The zeppelin landed on a lawn."
    # A table may be scanned, but not once for each of its rows.
    assert 0 < rows_read() - before < 10 * SMALL_SCOPE


def rows_read() -> int:
    """How many rows of messages and of their index this transaction has read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables"
            " WHERE relname IN ('convo_message', 'convo_indexedmessage')"
        )
        return int(cursor.fetchone()[0])


def test_a_question_of_common_words_only_is_answered_from_some_that_say_them(
    alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten thousand messages would be many; of those here each says "stock".
    monkeypatch.setattr(candidates, "MAX_MATCHES_PER_WORD", 5)
    session = session_of(alice)
    turns.record(
        session, [NewMessage(role="user", content=f"Item {n} of the stock list.") for n in range(1300)]
    )
    say(session, "The stock of zeppelins is low.")
    # Some five of them, and what stands around these.
    some = found(alice, "stock", limit=100)
    assert all("of the stock list" in text for text in some)
    assert 5 <= len(some) <= 5 * (1 + 2 * REACH)
    assert found(alice, "stock of zeppelins")[0] == "The stock of zeppelins is low."


def test_a_question_of_any_kind_is_answered(alice: Any) -> None:
    say(session_of(alice), "Plain words.")
    for query in (
        "' OR 1=1 --",
        '"unclosed',
        "a & b | !c:*",
        "(",
        "*",
        "NEAR(x)",
        "\\",
        "who are you",
        "🙂",
        "x" * 5000,
    ):
        assert found(alice, query) in ([], ["Plain words."])


class TestMemories:
    @pytest.fixture
    def person(self, alice: Any) -> Person:
        return Person.objects.get_or_create_by_ref(alice, ME)

    def remember(self, person: Person, text: str, **fields: Any) -> UserMemory:
        made = UserMemory.objects.create(
            person=person, kind="fact", text=text, text_key=text, source=UserMemory.Source.USER, **fields
        )
        index_memories()
        return made

    def test_the_memory_that_bears_on_a_question_comes_first(self, person: Person, bob: Any) -> None:
        self.remember(person, "Mira is allergic to walnuts.")
        diet = self.remember(person, "Prefers vegetarian food.")
        self.remember(Person.objects.get_or_create_by_ref(bob, ME), "Eats vegetarian food only.")
        found = search.find_memories(person, "vegetarian restaurants")
        assert found[0][0] == diet.pk
        assert len(found) <= 2

    def test_a_memory_that_is_not_active_is_not_found_and_leaves_the_index(self, person: Person) -> None:
        memory = self.remember(person, "Prefers vegetarian food.")
        assert search.find_memories(person, "vegetarian food")
        UserMemory.objects.filter(pk=memory.pk).update(status=UserMemory.Status.SUPERSEDED)
        assert search.find_memories(person, "vegetarian food") == []
        index_memories()
        assert not IndexedMemory.objects.exists()

    def test_a_memory_that_was_changed_is_found_as_it_reads_now(self, person: Person) -> None:
        memory = self.remember(person, "Prefers vegetarian food.")
        UserMemory.objects.filter(pk=memory.pk).update(text="Plays the trombone.", text_key="2")
        assert search.find_memories(person, "vegetarian food") == []
        index_memories()
        assert search.find_memories(person, "trombone")[0][0] == memory.pk


class TestVectors:
    def test_without_the_model_search_goes_by_words_and_vectors_come_later(
        self, alice: Any, settings: Settings
    ) -> None:
        given = settings.CONVO
        settings.CONVO = {
            **given,
            "EMBEDDING_MODEL": "embed-1",
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
            "OPENAI_API_KEY": "key",
            "CONNECT_SECONDS": 0.2,
        }
        say(session_of(alice), "The demo is on Thursday.")
        row = IndexedMessage.objects.get()
        assert (row.vector, row.model) == (None, "")
        assert found(alice, "demo") == ["The demo is on Thursday."]
        assert search.index_vectors() == 0
        settings.CONVO = given
        assert search.index_vectors() == 1
        row = IndexedMessage.objects.get()
        assert (row.model, row.dim, len(bytes(row.vector or b""))) == ("wordllama-256", 256, 512)

    def test_a_configured_model_makes_the_vectors(
        self, alice: Any, settings: Settings, upstream: Upstream
    ) -> None:
        settings.CONVO = {
            **settings.CONVO,
            "EMBEDDING_MODEL": "embed-1",
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": "key",
        }
        say(session_of(alice), "The demo is on Thursday.")
        row = IndexedMessage.objects.get()
        assert row.model == "embed-1"
        assert len(bytes(row.vector or b"")) == 2 * row.dim > 0
        for _ in range(2):
            assert found(alice, "demo") == ["The demo is on Thursday."]
        asked = [heard["input"] for heard in upstream.heard if "input" in heard]
        # Beside these the unrelated sentences, with which the question is compared: once for each model.
        assert [texts for texts in asked if len(texts) == 1] == [
            ["The demo is on Thursday."],
            ["demo"],
            ["demo"],
        ]
        assert len(asked) <= 4

    def test_vectors_of_another_model_are_not_compared(self, alice: Any) -> None:
        say(session_of(alice), "The demo is on Thursday.")
        say(session_of(alice), "The demo is on Friday.")
        first, second = IndexedMessage.objects.order_by("pk")
        IndexedMessage.objects.filter(pk=first.pk).update(model="another")
        hits = search.find(first.person, alice, "demo")
        assert {hit.message_id for hit in hits} == {first.pk, second.pk}
        assert all("meaning" not in hit.parts for hit in hits if hit.message_id == first.pk)

    def test_after_a_change_of_model_search_goes_by_words_until_reindex(self, alice: Any) -> None:
        say(session_of(alice), "The demo is on Thursday.")
        IndexedMessage.objects.update(model="another", dim=3, vector=b"123456")
        assert found(alice, "demo") == ["The demo is on Thursday."]
        told = StringIO()
        call_command("reindex", "--model-only", stdout=told)
        assert "1 of 1 vectors" in told.getvalue()
        assert IndexedMessage.objects.get().model == "wordllama-256"


def test_reindex_makes_the_index_anew_and_can_go_on_where_it_stopped(alice: Any) -> None:
    session = session_of(alice)
    say(session, "The demo is on Thursday.", "The party is on Friday.")
    IndexedMessage.objects.update(statement_terms="wrong")
    first, last = Turn.objects.order_by("pk")
    call_command("reindex", "--from", str(first.pk), stdout=StringIO())
    assert sorted(IndexedMessage.objects.values_list("statement_terms", flat=True)) == [
        "parti friday",
        "wrong",
    ]
    told = StringIO()
    call_command("reindex", stdout=told)
    assert f"2 of 2 turns; to continue from here: reindex --from {last.pk}" in told.getvalue()
    assert found(alice, "demo")[0] == "The demo is on Thursday."


def test_words_are_stems_without_those_that_say_nothing() -> None:
    assert stemmed_words("Caroline's kids didn't go; they went swimming!") == [
        "carolin",
        "child",
        "go",
        "go",
        "swim",
    ]
    assert stemmed_words("") == stemmed_words("¿?") == []
    assert all(len(word) <= 40 for word in stemmed_words("x" * 3000))
    assert "haus" in search_words("Häuser")


@pytest.fixture
def calls(client: Client, alice_key: str) -> Any:
    def get(**parameters: Any) -> Any:
        return client.get(SEARCH, parameters, headers={"Authorization": f"Bearer {alice_key}"})

    return get


def test_the_api_tells_text_highlights_score_neighbours_and_links(
    calls: Any, alice: Any, client: Client, alice_key: str
) -> None:
    session = session_of(alice, "anna")
    say(session, "Hello!", "The demo is on Thursday.", "Good.")
    answer = calls(q="When is the demo?", user="anna")
    assert answer.status_code == 200, answer.content
    hit = answer.json()["results"][0]
    assert (hit["text"], hit["position"], hit["session"]) == ("The demo is on Thursday.", 2, str(session.pk))
    assert [hit["text"][one["start"] : one["end"]] for one in hit["highlights"]] == ["demo"]
    assert hit["score"] == pytest.approx(sum(hit["score_parts"].values()), abs=0.001)
    assert [line["text"] for line in hit["before"] + hit["after"]] == ["Hello!", "Good."]
    message = client.get(
        urlsplit(hit["links"]["message"]).path, headers={"Authorization": f"Bearer {alice_key}"}
    )
    assert message.json()["id"] == hit["id"]


def test_the_api_shows_a_person_what_is_theirs_and_a_key_that_names_none_all_of_its_owners(
    calls: Any, alice: Any, bob: Any
) -> None:
    anna, ben = session_of(alice, "anna"), session_of(alice, "ben")
    say(anna, "Anna's demo is on Monday.")
    say(ben, "Ben's demo is on Tuesday.")
    say(session_of(bob), "Bob's demo is on Wednesday.")

    def seen(**parameters: Any) -> list[str]:
        return sorted(hit["text"] for hit in calls(q="demo", **parameters).json()["results"])

    assert seen(user="anna") == ["Anna's demo is on Monday."]
    assert seen(user="stranger") == []
    assert not Person.objects.filter(ref="stranger").exists()
    assert seen() == ["Anna's demo is on Monday.", "Ben's demo is on Tuesday."]
    assert seen(session=str(ben.pk)) == ["Ben's demo is on Tuesday."]
    assert calls(q="demo", session=str(ben.pk), user="anna").status_code == 404
    assert calls(q="demo", session="nonsense").status_code == 404


def test_the_api_filters_by_agent_and_time(calls: Any, alice: Any) -> None:
    session = session_of(alice)
    old, new = say(session, "The first demo.", "The second demo.")
    Message.objects.filter(pk=old.pk).update(created_at=old.created_at - timedelta(days=9))
    Turn.objects.filter(pk=new.turn_id).update(agent="planner")
    moment = (new.created_at - timedelta(days=1)).isoformat()

    def seen(**parameters: Any) -> list[str]:
        return [hit["text"] for hit in calls(q="demo", **parameters).json()["results"]]

    assert seen(after=moment) == ["The second demo."]
    assert seen(before=moment) == ["The first demo."]
    assert seen(agent="planner") == ["The second demo."]
    assert seen(agent="nobody") == []
    assert len(seen()) == 2
    assert len(seen(page_size=1)) == 1


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({}, "q"),
        ({"q": "  "}, "q"),
        ({"q": "x" * 1001}, "q"),
        ({"q": "x", "sort": "y"}, "sort"),
        ({"q": "x", "after": "yesterday"}, "after"),
        ({"q": "x", "page_size": "0"}, "page_size"),
        ({"q": "a\0b"}, "q"),
    ],
)
def test_the_api_refuses_what_is_not_a_search(calls: Any, parameters: dict[str, str], param: str) -> None:
    answer = calls(**parameters)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert calls(q="x" * 1000).status_code == 200


def test_without_a_key_nothing_is_searched(client: Client) -> None:
    assert client.get(SEARCH, {"q": "demo"}).status_code == 401
