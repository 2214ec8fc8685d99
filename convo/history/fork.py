"""Copy a transcript up to some message, inside the database: no row passes through Python."""

from typing import Any

from django.db import connection, models, transaction
from django.db.models import Max
from django.db.models.functions import Now

from convo import database
from convo.errors import NotFound
from convo.history import ephemeral
from convo.history.session_row import lock, recount, reset_title
from convo.models import Message, Session, Turn
from convo.sql import db_value

# A copied turn has its own identity, links to other copies (set afterwards), and no usage of its original.
_TOKEN_COUNTS = ("input_tokens", "output_tokens", "cached_tokens")
_USAGE = (*_TOKEN_COUNTS, "cost", "cache_hit", "started_at", "first_token_at")
_NULL_FIELDS = ("parent", "question_turn", "manifest", *_USAGE)
_RESET_FIELDS = dict.fromkeys((*_NULL_FIELDS, "lease_until", "indexed_at", "learned_at"), "NULL") | {
    "status": "CASE WHEN {is_whole} THEN status ELSE 'cancelled' END",
    "chunks": "CASE WHEN {is_whole} THEN chunks ELSE '[]' END",
    "gist": "CASE WHEN {is_whole} THEN gist ELSE '' END",
    "draft": "''",
}
# A turn is whole unless the copy lacks its reply, which is still being written or comes after the fork's
# position.
_IS_WHOLE = (
    "(kind = 'recorded' OR EXISTS (SELECT 1 FROM convo_message reply "
    "WHERE reply.turn_id = convo_turn.id AND reply.agent <> '' AND reply.type <> 'compaction' "
    "AND reply.active AND reply.erased_at IS NULL AND reply.position <= %(upto)s))"
)
_IS_COPIED = "session_id = %(old)s AND active AND erased_at IS NULL AND position <= %(upto)s"
_NEW_UUID = {"postgresql": "gen_random_uuid()", "sqlite": "lower(hex(randomblob(16)))"}


@database.retry_conflicts
@transaction.atomic
def fork(session: Session, position: int, **fields: Any) -> Session:
    """Create a session that begins with this one's transcript up to a position; item ids stay the same.

    It takes over the fields of this session, except those that the caller gives.
    """
    source = lock(session.pk)
    if not Message.objects.transcript(source).filter(position=position).exists():
        raise NotFound(f"This session shows no message at position {position}.")
    field_names = ("owner", "person", "agent", "storage", "title", "title_turn", "metadata")
    inherited_fields = {name: getattr(source, name) for name in field_names}
    copy = Session.objects.create(forked_from=source, fork_position=position, **(inherited_fields | fields))
    params = {
        "old": db_value(Session, "id", source.pk),
        "new": db_value(Session, "id", copy.pk),
        "upto": position,
    }
    with connection.cursor() as cursor:
        for statement in (_copy_turns(), _copy_messages(), *_LINK_TURNS, _COPY_ATTACHMENTS):
            cursor.execute(statement, params)
    copy.last_position = Message.objects.filter(session=copy).aggregate(last=Max("position"))["last"]
    copy.last_turn = Turn.objects.filter(session=copy).aggregate(last=Max("number"))["last"]
    copy.save(update_fields=["last_position", "last_turn"])
    if copy.is_ephemeral:
        _copy_contents(source, copy, position)
    reset_title(copy, Message.objects.filter(session=source, position__gt=position))
    if copy.kind == Session.Kind.CHAIN:
        Turn.objects.filter(session=copy).update(indexed_at=Now(), learned_at=Now())
    recount(copy)
    return copy


def _copy_contents(source: Session, target: Session, position: int) -> None:
    transcript = Message.objects.transcript(source).filter(position__lte=position)
    replies = Message.objects.filter(session=target).exclude(agent="")
    turn_numbers = replies.values_list("turn__number", flat=True)
    ephemeral.copy_contents(source, target, list(transcript.values_list("position", flat=True)), turn_numbers)


def _columns(model: type[models.Model], *exclude: str) -> list[str]:
    return [str(field.column) for field in model._meta.concrete_fields if field.name not in {"id", *exclude}]


def _copy_turns() -> str:
    copied = ", ".join(_columns(Turn, "key", "session", *_RESET_FIELDS))
    column_of = {field.name: str(field.column) for field in Turn._meta.concrete_fields}
    reset = {column_of[name]: value.replace("{is_whole}", _IS_WHOLE) for name, value in _RESET_FIELDS.items()}
    return (
        f"INSERT INTO convo_turn (session_id, key, {', '.join(reset)}, {copied}) "
        f"SELECT %(new)s, {_NEW_UUID[connection.vendor]}, {', '.join(reset.values())}, {copied} "
        f"FROM convo_turn WHERE id IN (SELECT turn_id FROM convo_message WHERE {_IS_COPIED})"
    )


def _copy_messages() -> str:
    # Positions begin at 1 again, without gaps: messages outside of the active branch are not copied.
    columns = _columns(Message, "session", "turn", "position")
    return (
        f"INSERT INTO convo_message (session_id, turn_id, position, {', '.join(columns)}) "
        "SELECT %(new)s, new_turn.id, ROW_NUMBER() OVER (ORDER BY message.position), "
        f"{', '.join('message.' + column for column in columns)} "
        f"FROM (SELECT * FROM convo_message WHERE {_IS_COPIED}) message "
        "JOIN convo_turn origin ON origin.id = message.turn_id "
        "JOIN convo_turn new_turn ON new_turn.session_id = %(new)s AND new_turn.number = origin.number"
    )


# A copied turn answers the copy of the question that its original answers. Its parent is the turn of the last
# message before that question: turns that were deleted in between are not copied.
_LINK_TURNS = (
    "UPDATE convo_turn SET question_turn_id = (SELECT new_turn.id FROM convo_turn origin "
    "JOIN convo_turn target ON target.id = origin.question_turn_id "
    "JOIN convo_turn new_turn ON new_turn.session_id = %(new)s AND new_turn.number = target.number "
    "WHERE origin.session_id = %(old)s AND origin.number = convo_turn.number) "
    "WHERE session_id = %(new)s",
    "UPDATE convo_turn SET parent_id = (SELECT earlier.turn_id FROM convo_message earlier "
    "WHERE earlier.session_id = %(new)s AND earlier.position < (SELECT MIN(question.position) "
    "FROM convo_message question "
    "WHERE question.turn_id = COALESCE(convo_turn.question_turn_id, convo_turn.id)) "
    "ORDER BY earlier.position DESC LIMIT 1) WHERE session_id = %(new)s",
)

# The copies show the same attachments as their originals: the files are not copied.
_COPY_ATTACHMENTS = (
    "INSERT INTO convo_attachmentuse (message_id, attachment_id) SELECT new_message.id, use.attachment_id "
    "FROM convo_attachmentuse use JOIN convo_message origin ON origin.id = use.message_id "
    "JOIN convo_message new_message ON new_message.session_id = %(new)s "
    "AND new_message.item_id = origin.item_id WHERE origin.session_id = %(old)s"
)
