"""A copy of a transcript up to some message, made inside the database: no row passes through Python."""

from typing import Any
from uuid import UUID

from django.db import connection, models, transaction
from django.db.models import Max
from django.db.models.functions import Now

from convo import database
from convo.errors import NotFound
from convo.history import fleeting
from convo.history.write import lock, recount, take_title_back
from convo.models import Message, Session, Turn

# What a copied turn begins anew: its identity, its ties (made afterwards), and what was spent on the first.
_SPENT = ("input_tokens", "output_tokens", "cached_tokens", "cost", "hot", "started_at", "first_token_at")
_NULL = ("parent", "asks", "manifest", *_SPENT)
_TURN_ANEW = dict.fromkeys((*_NULL, "lease_until", "indexed_at", "learned_at"), "NULL") | {
    "status": "CASE WHEN {whole} THEN status ELSE 'cancelled' END",
    "pieces": "CASE WHEN {whole} THEN pieces ELSE '[]' END",
    "gist": "CASE WHEN {whole} THEN gist ELSE '' END",
    "draft": "''",
}
# A reply that is still being written, or that stands behind the fork, is not taken along.
_WHOLE = (
    "(kind = 'recorded' OR EXISTS (SELECT 1 FROM convo_message reply "
    "WHERE reply.turn_id = convo_turn.id AND reply.agent <> '' AND reply.type <> 'compaction' "
    "AND reply.active AND reply.erased_at IS NULL AND reply.position <= %(upto)s))"
)
_SHOWN = "session_id = %(old)s AND active AND erased_at IS NULL AND position <= %(upto)s"
_NEW_UUID = {"postgresql": "gen_random_uuid()", "sqlite": "lower(hex(randomblob(16)))"}


@database.retried
@transaction.atomic
def fork(session: Session, position: int, **fields: Any) -> Session:
    """A session of its own that begins with what this one shows up to a position; item ids are kept.

    It has the fields of this one, but for those that are given.
    """
    locked = lock(session.pk)
    if not Message.objects.transcript(locked).filter(position=position).exists():
        raise NotFound(f"This session shows no message at position {position}.")
    names = ("owner", "person", "agent", "storage", "title", "title_turn", "metadata")
    taken_over = {name: getattr(locked, name) for name in names}
    made = Session.objects.create(forked_from=locked, forked_at=position, **(taken_over | fields))
    places = {"old": _db(locked.pk), "new": _db(made.pk), "upto": position}
    with connection.cursor() as cursor:
        for statement in (_copy_turns(), _copy_messages(), *_TIE_TURNS, _COPY_USES):
            cursor.execute(statement, places)
    made.last_position = Message.objects.filter(session=made).aggregate(last=Max("position"))["last"]
    made.last_turn = Turn.objects.filter(session=made).aggregate(last=Max("number"))["last"]
    made.save(update_fields=["last_position", "last_turn"])
    if fleeting.is_fleeting(made):
        _copy_words(locked, made, position)
    take_title_back(made, Message.objects.filter(session=locked, position__gt=position))
    if made.kind == Session.Kind.CHAIN:
        Turn.objects.filter(session=made).update(indexed_at=Now(), learned_at=Now())
    recount(made)
    return made


def _copy_words(source: Session, made: Session, position: int) -> None:
    shown = Message.objects.transcript(source).filter(position__lte=position)
    replies = Message.objects.filter(session=made).exclude(agent="")
    numbers = replies.values_list("turn__number", flat=True)
    fleeting.copy(source, made, list(shown.values_list("position", flat=True)), numbers)


def _db(id: UUID) -> Any:
    return Session._meta.pk.get_db_prep_value(id, connection)


def _columns(model: type[models.Model], *without: str) -> list[str]:
    return [str(field.column) for field in model._meta.concrete_fields if field.name not in {"id", *without}]


def _copy_turns() -> str:
    kept = ", ".join(_columns(Turn, "key", "session", *_TURN_ANEW))
    fields = {field.name: str(field.column) for field in Turn._meta.concrete_fields}
    anew = {fields[name]: value.replace("{whole}", _WHOLE) for name, value in _TURN_ANEW.items()}
    return (
        f"INSERT INTO convo_turn (session_id, key, {', '.join(anew)}, {kept}) "
        f"SELECT %(new)s, {_NEW_UUID[connection.vendor]}, {', '.join(anew.values())}, {kept} FROM convo_turn "
        f"WHERE id IN (SELECT turn_id FROM convo_message WHERE {_SHOWN})"
    )


def _copy_messages() -> str:
    # Positions begin at 1 again and without a gap: what the branch leaves out has none here.
    kept = _columns(Message, "session", "turn", "position")
    return (
        f"INSERT INTO convo_message (session_id, turn_id, position, {', '.join(kept)}) "
        "SELECT %(new)s, made.id, ROW_NUMBER() OVER (ORDER BY message.position), "
        f"{', '.join('message.' + column for column in kept)} "
        f"FROM (SELECT * FROM convo_message WHERE {_SHOWN}) message "
        "JOIN convo_turn origin ON origin.id = message.turn_id "
        "JOIN convo_turn made ON made.session_id = %(new)s AND made.number = origin.number"
    )


# What a turn asks is what it asked before. Its parent is the turn that has the last word before its
# question: what was deleted in between is not here.
_TIE_TURNS = (
    "UPDATE convo_turn SET asks_id = (SELECT made.id FROM convo_turn origin "
    "JOIN convo_turn target ON target.id = origin.asks_id "
    "JOIN convo_turn made ON made.session_id = %(new)s AND made.number = target.number "
    "WHERE origin.session_id = %(old)s AND origin.number = convo_turn.number) "
    "WHERE session_id = %(new)s",
    "UPDATE convo_turn SET parent_id = (SELECT earlier.turn_id FROM convo_message earlier "
    "WHERE earlier.session_id = %(new)s AND earlier.position < (SELECT MIN(question.position) "
    "FROM convo_message question WHERE question.turn_id = COALESCE(convo_turn.asks_id, convo_turn.id)) "
    "ORDER BY earlier.position DESC LIMIT 1) WHERE session_id = %(new)s",
)

# The copies show what their originals show; it is not copied itself.
_COPY_USES = (
    "INSERT INTO convo_attached (message_id, attachment_id) SELECT made.id, used.attachment_id "
    "FROM convo_attached used JOIN convo_message origin ON origin.id = used.message_id "
    "JOIN convo_message made ON made.session_id = %(new)s AND made.item_id = origin.item_id "
    "WHERE origin.session_id = %(old)s"
)
