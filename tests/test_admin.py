"""The admin: who may read what people said, and lists that stay fast."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from convo import history, memory, turns
from convo.admin.lists import MAX_LISTED
from convo.history import NewMessage
from convo.models import (
    ME,
    AgentVersion,
    ApiKey,
    Attachment,
    Feedback,
    IdempotencyRecord,
    Message,
    Person,
    Session,
    Summary,
    Turn,
    TurnRequest,
    UserMemory,
    Work,
)
from tests.staff import READS, TABLES, list_of, page_of, read, staff
from tests.support.admin import talk
from tests.talk import ask, finish

pytestmark = [pytest.mark.django_db, pytest.mark.once]
# A reply is written by threads that see only what is committed.
asks = pytest.mark.django_db(transaction=True)

# Short, so that no page cuts it; in every text of the rows below.
SAID = "Quillfeather"


@pytest.fixture
def person(alice: Any) -> Person:
    return Person.objects.get_or_create_by_ref(alice, ME)


def call(name: str, arguments: str) -> NewMessage:
    item = {"type": "function_call", "call_id": "c1", "name": name, "arguments": arguments}
    return NewMessage(role="assistant", type="function_call", item=item)


def fill(person: Person, number: int = 0, said: str = SAID) -> list[Any]:
    """A row of every table, with this in each of its texts."""
    session = talk(person, f"I am {said}", title=said, metadata={"of": said}, ref=f"mine-{number}")
    turns.record(
        session, [NewMessage(role="user", content="look it up"), call("look", json.dumps({"for": said}))]
    )
    config = {"instructions": said}
    version = AgentVersion.objects.create(sha256=f"{number:064}", name="assistant", config=config)
    turn = Turn.objects.create(
        **{"session": session, "number": 90, "status": "failed", "agent": "assistant", "route_reason": said},
        **{
            "input": [{"role": "user", "content": said}],
            "draft": said,
            "gist": said,
            "agent_version": version,
        },
        error={"code": "upstream_rejected", "message": f"It said: {said}"},
    )
    message = Message.objects.filter(session=session).order_by("position")[0]
    first = Summary.objects.create(
        session=session, from_position=1, to_position=1, text=f"{said} came", source="model"
    )
    fact = UserMemory.objects.create(
        **{"person": person, "kind": said, "slot": f"{said}{number}", "text": f"Is {said} {number}"},
        text_key=memory.text_key(person, f"{said} {number}"),
        source="model",
    )
    fact.evidence.create(message=message)
    person.never_store = [said]
    person.save()
    return [
        session,
        turn,
        message,
        Message.objects.filter(session=session, type="function_call").get(),
        first,
        fact,
        Person.objects.get(pk=person.pk),
        version,
        TurnRequest.objects.create(
            turn=turn, params={"instructions": said}, metadata={"a": said}, options={"b": said}
        ),
        IdempotencyRecord.objects.create(
            owner=person.owner, key=f"{said}{number}", fingerprint="f", body={"it": said}
        ),
        Feedback.objects.create(turn=turn, value=-1, note=said),
        Attachment.objects.create(
            person=person, sha256=f"{said}{number}", mime="text/plain", size=5, data=said.encode()
        ),
        Work.objects.create(kind="learn", target=str(turn.pk), error=f"upstream_rejected: It said: {said}"),
        ApiKey.objects.issue(person.owner)[0],
    ]


# Who may read what people said.


def test_every_table_of_convo_in_the_admin_is_tried_here() -> None:
    assert {table for table in admin.site._registry if table._meta.app_label == "convo"} == set(TABLES)


def test_staff_without_the_permission_see_no_word_of_what_was_said(person: Person) -> None:
    rows, client = fill(person), staff()
    for row in rows:
        page = read(client, page_of(row))
        assert SAID not in page, row
        assert SAID not in read(client, list_of(type(row))), row
    assert "3 words, hidden: needs the permission view content" in read(client, page_of(rows[0]))
    assert not LogEntry.objects.exists()


def test_staff_with_the_permission_read_it_and_it_is_written_down(person: Person) -> None:
    rows, client = fill(person), staff(READS)
    silent = ApiKey
    for row in rows:
        LogEntry.objects.all().delete()
        assert (SAID in read(client, page_of(row))) is not isinstance(row, silent), row
        seen = [(entry.object_id, entry.object_repr) for entry in LogEntry.objects.all()]
        assert seen == ([] if isinstance(row, silent) else [(str(row.pk), str(row))])
    assert SAID not in str(list(LogEntry.objects.values()))


def test_a_list_with_what_was_said_is_written_down_and_one_without_is_not(person: Person) -> None:
    fill(person)
    client = staff(READS)
    for table in (Message, Turn, Work, ApiKey):
        assert SAID not in read(client, list_of(table))
    assert not LogEntry.objects.exists()
    for titled in (Session, UserMemory, Feedback):
        assert SAID in read(client, list_of(titled))
    assert [entry.object_repr for entry in LogEntry.objects.order_by("pk")] == [
        "a list of 1 sessions",
        "a list of 1 user memories",
        "a list of 1 feedback",
    ]


def test_what_was_said_is_kept_by_no_cache(person: Person) -> None:
    session = fill(person)[0]
    for at in (page_of(session), list_of(Session)):
        assert "no-store" in staff(READS, name=at).get(at)["Cache-Control"]


@pytest.mark.parametrize("reads", [True, False])
def test_a_text_cannot_be_guessed_by_narrowing_a_list(person: Person, reads: bool) -> None:
    rows = fill(person)
    client = staff(READS) if reads else staff()
    guesses = {
        Session: ("title", "metadata__of"),
        Turn: ("draft", "gist", "error__message", "session__title"),
        Message: ("content", "name", "item__arguments", "session__title"),
        Summary: ("text",),
        UserMemory: ("text", "kind", "slot"),
        Person: ("never_store",),
        TurnRequest: ("params__it", "turn__draft"),
        IdempotencyRecord: ("key", "body__it"),
        Feedback: ("note",),
        Attachment: ("sha256", "data"),
        Work: ("error",),
        ApiKey: ("hash",),
        AgentVersion: ("config__instructions",),
    }
    for table, fields in guesses.items():
        for field in fields:
            answer = client.get(list_of(table), {f"{field}__startswith": SAID})
            assert answer.status_code == 400, (table, field)
        assert "0 " in read(client, list_of(table), q=SAID) or table is Attachment, table
    # What names a row may be asked for.
    assert rows[0].ref == "mine-0"
    assert str(rows[0].pk) in read(client, list_of(Session), q="mine-0")
    assert str(rows[0].pk) not in read(client, list_of(Session), q="mine")
    assert str(rows[0].pk) in read(client, list_of(Session), q=f"conv_{rows[0].pk.hex}")
    assert str(rows[0].pk) in read(client, list_of(Session), q="alice", state__exact="open")
    assert str(rows[1].key) in read(client, list_of(Turn), error__code="upstream_rejected")
    assert str(rows[1].key) not in read(client, list_of(Turn), error__code="upstream_timeout")


def test_a_search_finds_rows_by_their_whole_ids_and_names(person: Person) -> None:
    rows = {type(row): row for row in fill(person)}
    session, turn, message, fact = rows[Session].pk, rows[Turn].key, rows[Message], rows[UserMemory].key
    client, other = staff(), "0198d0e4-0000-7000-8000-000000000000"
    terms: dict[Any, tuple[object, ...]] = {
        Session: (session, "mine-0", person.owner.username),
        Turn: (f"resp_{turn.hex}", session),
        Message: (message.item_id, session),
        Summary: (session,),
        UserMemory: (f"mem_{fact.hex}", ME),
        Person: (ME, person.owner.username),
        TurnRequest: (turn, session),
        IdempotencyRecord: (person.owner.username,),
        Feedback: (turn, session),
        Attachment: (ME,),
        Work: (rows[Work].target,),
        ApiKey: (rows[ApiKey].prefix, f"convo_{rows[ApiKey].prefix}_secret", person.owner.username),
        AgentVersion: ("assistant", rows[AgentVersion].sha256),
    }
    for table, found in terms.items():
        for term in found:
            assert client.get(list_of(table), {"q": str(term)}).context["cl"].result_count, (table, term)
        for term in (other, f"{found[0]}x", "nobody"):
            assert not client.get(list_of(table), {"q": term}).context["cl"].result_count, (table, term)


def test_the_keyed_hash_of_a_key_is_on_no_page(alice: Any) -> None:
    key, raw = ApiKey.objects.issue(alice)
    pages = read(staff(READS), list_of(ApiKey)) + read(staff(READS, name="other"), page_of(key))
    assert key.prefix in pages
    for secret in (key.hash, raw):
        assert secret not in pages


def test_a_file_is_fetched_by_who_may_read_it_and_never_opened(person: Person) -> None:
    file = Attachment.objects.create(person=person, sha256="a", mime="text/html", size=3, data=b"<b>")
    at = f"{list_of(Attachment)}{file.pk}/file/"
    assert staff().get(at).status_code == 403
    assert not LogEntry.objects.exists()
    answer = staff(READS, name="reader").get(at)
    assert (answer.content, answer["Content-Type"]) == (b"<b>", "application/octet-stream")
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert LogEntry.objects.get().object_id == str(file.pk)
    assert staff(READS, name="late").get(f"{list_of(Attachment)}99/file/").status_code == 404


def test_no_text_becomes_markup(person: Person) -> None:
    rows, client = fill(person, said="<script>alert(1)</script><b>x"), staff(READS)
    Summary.objects.create(
        session=rows[0],
        from_position=1,
        to_position=2,
        text="<script>alert(2)",
        previous=rows[4],
        source="model",
    )
    for row in rows:
        for page in (read(client, page_of(row)), read(client, list_of(type(row)))):
            assert "<script>alert" not in page, row
            assert "<b>x" not in page, row
    assert "&lt;script&gt;alert(1)" in read(client, page_of(rows[0]))
    assert "<ins>&lt;script&gt;alert(2)</ins>" in read(client, page_of(rows[0]))


def test_nothing_is_changed_or_deleted_under_the_rules_of_the_transcript(person: Person) -> None:
    rows = fill(person)
    client = Client()
    client.force_login(type(person.owner).objects.create_superuser("root"))
    for row in rows:
        if not isinstance(row, UserMemory):
            assert client.post(page_of(row), {"title": "x"}).status_code == 403, row
            assert client.post(page_of(row).replace("change", "delete"), {"post": "yes"}).status_code == 403
    # Django would take a user's conversations along, row by row.
    delete_user = reverse("admin:auth_user_delete", args=[person.owner.pk])
    assert SAID not in read(client, delete_user)
    assert client.post(delete_user, {"post": "yes"}).status_code == 403
    assert Message.objects.count() == 4
    assert Session.objects.get().title == SAID


# A conversation's page, and a turn's.


def test_a_session_shows_its_newest_messages_and_the_way_to_earlier_ones(person: Person) -> None:
    session, client = talk(person, *(f"question <{n}>" for n in range(40))), staff(READS)
    page = read(client, page_of(session))
    assert "question &lt;39&gt;" in page
    assert "question &lt;14&gt;" not in page
    assert 'href="?before=31"' in page
    earlier = read(client, page_of(session), before=31)
    assert "question &lt;14&gt;" in earlier
    assert "question &lt;15&gt;" not in earlier
    assert 'href="?before=' not in earlier
    assert "question &lt;39&gt;" in read(client, page_of(session), before="nonsense")


@asks
def test_a_session_shows_what_was_deleted_and_which_answer_is_shown(person: Person) -> None:
    session = Session.objects.create(owner=person.owner, person=person, agent="assistant")
    ask(session, "first")
    ask(session, "second")
    turns_of = [ask_again(session, 2), ask_again(session, 2)]
    history.delete_message(session.pk, 2)
    page = read(staff(READS), page_of(session))
    alternatives = page.split("in its place")[1].split("</small>")[0]
    assert [alternatives.count(f">{number}</a>") for number in (2, 3)] == [1, 1]
    assert f">{turns_of[-1]} (shown)</a>" in alternatives
    assert "on another branch" in page
    assert "· deleted " in page


def ask_again(session: Session, number: int) -> int:
    return finish(turns.regenerate(session, number)).turn.number


def test_a_session_shows_what_changed_between_two_summaries(person: Person) -> None:
    session = talk(person, "one", "two")
    told = {"session": session, "from_position": 1, "source": "model"}
    old = Summary.objects.create(**told, to_position=2, text="Ada lives in Oslo with a cat.")
    Summary.objects.create(**told, to_position=4, text="Ada lives in Bergen with a cat.", previous=old)
    page = read(staff(READS), page_of(session))
    assert "Ada lives in<del> Oslo</del><ins> Bergen</ins> with a cat." in page
    assert "Bergen" not in read(staff(name="other"), page_of(session))


def test_turns_are_drawn_to_one_scale(person: Person) -> None:
    session = talk(person, "one", "two")
    began = timezone.now()
    for turn, (first, whole) in zip(Turn.objects.order_by("number"), [(1, 2), (1, 8)], strict=True):
        turn.started_at, turn.first_token_at = began, began + timedelta(seconds=first)
        turn.finished_at = began + timedelta(seconds=whole)
        turn.save()
    page = read(staff(), page_of(session))
    assert (
        '<rect class="waited" width="12.50" height="10"/><rect class="wrote" x="12.50" width="12.50"' in page
    )
    assert (
        '<rect class="waited" width="12.50" height="10"/><rect class="wrote" x="12.50" width="87.50"' in page
    )


@asks
def test_a_turn_shows_what_the_model_saw_to_who_may_read_it(person: Person) -> None:
    session = talk(person, f"I am {SAID}")
    ask(session, "who am I?")
    turn = Turn.objects.order_by("-number")[0]
    page, closed = read(staff(READS), page_of(turn)), read(staff(name="other"), page_of(turn))
    for told in (page, closed):
        assert 'class="part-verbatim" x="' in told
        assert "all since the summary" in told or "the whole conversation" in told
        assert f"{page_of(session)}?before=2#m1" in told
    assert f"I am {SAID}" in page
    assert SAID not in closed
    instructions = turn.agent_version.config["instructions"][:20]  # type: ignore[union-attr]
    assert (instructions in page, instructions in closed) == (True, False)
    assert "This turn asked no model." in read(staff(name="third"), page_of(Turn.objects.get(number=1)))


# Lists that stay fast.


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_longer_list_takes_no_more_questions_to_the_database(person: Person, table: Any) -> None:
    client = staff(READS)

    def asked() -> int:
        read(client, list_of(table))
        with CaptureQueriesContext(connection) as queries:
            read(client, list_of(table))
        # To count is to read: no further than anybody turns pages.
        assert not [q["sql"] for q in queries if "COUNT(" in q["sql"] and "LIMIT" not in q["sql"]]
        return len(queries)

    for number in range(3):
        fill(person, number)
    few = asked()
    for number in range(3, 30):
        fill(person, number)
    assert asked() == few
    assert few <= 12


def test_a_longer_conversation_takes_no_more_questions_to_the_database(person: Person) -> None:
    client = staff(READS)

    def asked(session: Session) -> int:
        read(client, page_of(session))
        with CaptureQueriesContext(connection) as queries:
            read(client, page_of(session))
        return len(queries)

    short = asked(talk(person, "one", "two"))
    assert asked(talk(person, *map(str, range(30)))) == short
    assert short <= 20


@pytest.mark.parametrize("id", ["9" * 19, "9" * 20, "-" + "9" * 20, "9" * 5000, "x", "🌵"])
def test_an_id_that_no_row_can_have_is_no_error(person: Person, id: str) -> None:
    """Review 13: a number of more digits than the database has room for was a 500."""
    fill(person)
    root = Client()
    root.force_login(get_user_model().objects.create_superuser("root"))
    for table in TABLES:
        at, shown_by = list_of(table), admin.site.get_model_admin(table)
        for page in ("change", "delete", "history"):
            assert root.get(f"{at}{id}/{page}/").status_code in {302, 403, 404}
        for lookup in shown_by.extra_lookups:  # type: ignore[attr-defined]
            assert root.get(at, {lookup: id}).status_code in {200, 302, 400}
        for action in shown_by.get_actions(_request_of(root)):
            form = {"action": action, "_selected_action": [id], "post": "yes"}
            assert root.post(at, form).status_code in {200, 302}
    for row in (person, Turn.objects.all()[0]):
        assert root.get(page_of(row)).status_code == 200
    shown = root.get(list_of(Session), {"owner__exact": person.owner_id})
    assert shown.context["cl"].result_count == Session.objects.filter(owner=person.owner).count() > 0


def _request_of(client: Client) -> Any:
    return client.get(reverse("admin:index")).wsgi_request


def test_a_list_ends_where_nobody_turns_pages_any_more(person: Person) -> None:
    session = talk(person, "one")
    turn = Turn.objects.get()
    fields = {"session": session, "turn": turn, "role": "user", "content": "x"}
    Message.objects.bulk_create(
        Message(position=n, item_id=f"m{n}", **fields) for n in range(3, MAX_LISTED + 3)
    )
    client = staff()
    page = read(client, list_of(Message))
    assert f"{MAX_LISTED} messages" in page
    assert "there are more" in page
    assert read(client, list_of(Message), p=MAX_LISTED // 50)
    assert "there are more" not in read(client, list_of(Message), role__exact="assistant")


def test_filters_are_made_of_what_is_configured_and_read_no_table(person: Person) -> None:
    fill(person)
    client = staff()
    for table in TABLES:
        with CaptureQueriesContext(connection) as queries:
            read(client, list_of(table))
        assert not [q["sql"] for q in queries if "DISTINCT" in q["sql"]], table
    assert "?agent=assistant" in read(client, list_of(Turn))
    assert "1 turn" in read(client, list_of(Turn), agent="assistant", status__exact="failed")
    # One that is configured no more.
    assert "0 turns" in read(client, list_of(Turn), agent="gone")


def test_the_newest_sessions_are_found_by_an_index(person: Person) -> None:
    newest = Session.objects.order_by("-last_activity", "-pk")[:51]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Of a table with few rows it would rather read all.
            cursor.execute("SET enable_seqscan = off")
        plan = newest.explain()
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")
    assert "session_newest" in plan
    assert "TEMP B-TREE" not in plan
