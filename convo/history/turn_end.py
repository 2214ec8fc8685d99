"""End turns: exactly once, whoever ends them, and with as much of the reply as there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from django.db.models import F

from convo import database
from convo.conf import conf
from convo.errors import ContentsExpired, ConvoError, TurnInterrupted
from convo.history import ephemeral, statements, turn_contents
from convo.history.append import append
from convo.history.branches import show_branch
from convo.history.messages import NewMessage
from convo.history.statements import PromptRecord
from convo.models import ItemOutline, Message, ReplyItem, Session, Turn, TurnRequest

MAX_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class TurnEnding:
    """The end of a turn: its status and error, its reply, the reply's tokens, and the record of its prompt.

    The turn began `started_seconds` from now, and the reply's first chunk came `first_token_seconds` from
    now: both are negative.
    """

    status: str
    error: Mapping[str, object] | None = None
    items: Sequence[ReplyItem] = ()
    stored_items: Sequence[ReplyItem] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    started_seconds: float = 0
    first_token_seconds: float | None = None
    prompt: PromptRecord | None = None

    @property
    def columns(self) -> dict[str, object]:
        """The columns of the turn's row to set; what is None here stays as it is."""
        names = ("status", "error", "input_tokens", "output_tokens", "cached_tokens")
        columns: dict[str, object] = {name: getattr(self, name) for name in names}
        if self.prompt:
            columns |= {name: getattr(self.prompt, name) for name in ("model", "manifest", "cache_hit")}
            columns["agent_version_id"] = self.prompt.agent_version.sha256
        return {name: value for name, value in columns.items() if value is not None}

    @property
    def chunks(self) -> list[ItemOutline]:
        """The chunk lengths of the reply's items for replays, with the text of those that are not stored."""
        indices = {item.index for item in self.stored_items}
        return [
            item.outline() if item.index in indices else {**item.outline(), "lost": item.text}
            for item in self.items
        ]


def end_turn(session: Session, turn: Turn, ending: TurnEnding) -> list[Message] | None:
    """End a turn of a locked session and insert its reply; return None if the turn had ended already.

    Set the turn's attributes to what its row has then.
    """
    if ending.stored_items and ephemeral.has_lost_contents(session):
        # The text of the question is lost, and a reply without it is useless.
        error = _error_json(ContentsExpired())
        ending = replace(ending, status=Turn.Status.FAILED, error=error, items=(), stored_items=())
    chunks = ending.chunks if session.storage == Session.Storage.PERSISTENT else []
    columns = {**ending.columns, "chunks": chunks}
    if ending.prompt:
        turn.manifest = ending.prompt.manifest
    ended = statements.end_turn(
        turn.pk,
        columns,
        first_token_seconds=ending.first_token_seconds,
        person_id=session.person_id,
        memory_keys=turn.memory_keys if ending.stored_items else (),
    )
    if ended is None:
        return None
    _set_columns(turn, columns, ended.row, ending.prompt)
    reply = [NewMessage.from_reply(turn, item) for item in ending.stored_items]
    if ended.had_forgotten_memory:
        # The text of a forgotten memory is erased and can't be looked for in the reply, so the whole reply
        # counts as repeating it.
        reply = [replace(message, recallable=False) for message in reply]
    if reply and turn.question_turn_id:
        # A regenerated reply, or an edited question with its reply, replaces the branch that was active.
        show_branch(session, turn)
    rows = append(session, [(turn, reply)])
    if session.is_ephemeral:
        ephemeral.save_chunks(turn, ending.chunks)
    return rows


def insert_ended_turn(session: Session, turn: Turn, ending: TurnEnding) -> list[Message]:
    """Insert a turn that has ended, with its new session; return the reply, which is not stored."""
    messages = set_ending(session, turn, ending)
    row = statements.insert_ended_turn(
        session,
        turn,
        started_seconds=ending.started_seconds,
        first_token_seconds=ending.first_token_seconds,
    )
    _set_columns(turn, ending.columns, row, ending.prompt)
    return messages


def set_ending(session: Session, turn: Turn, ending: TurnEnding) -> list[Message]:
    """Set the columns of a turn that has ended, and return its reply; nothing is stored."""
    for name, value in ending.columns.items():
        setattr(turn, name, value)
    messages = [NewMessage.from_reply(turn, item) for item in ending.stored_items]
    return [message.row(session=session, turn=turn, position=0) for message in messages]


def _set_columns(turn: Turn, columns: Mapping[str, object], row: Turn, prompt: PromptRecord | None) -> None:
    """Set the turn's attributes to what its row has now that it has ended."""
    names = ("started_at", "first_token_at", "finished_at", "agent_version_id")
    stored_values = {name: getattr(row, name) for name in names}
    for name, value in {**columns, **stored_values, "draft": "", "lease_until": None}.items():
        setattr(turn, name, value)
    if prompt and row.agent_version_id is None:
        # Versions are never deleted, so this happens once for each.
        turn_contents.save_agent_versions([prompt.agent_version])
        turn.agent_version = prompt.agent_version
        turn.save(update_fields=["agent_version"])


def end_turn_from_draft(session: Session, turn: Turn, error: ConvoError, *, status: str = "") -> None:
    """End a turn that its runner can't end, with the reply as far as it was saved."""
    turn.session = session
    items = turn_contents.load_draft_items(turn)
    stored_items = [item for item in items if item.is_usable_in_part]
    status = status or (Turn.Status.PARTIAL if stored_items else Turn.Status.FAILED)
    ending = TurnEnding(status=status, error=_error_json(error), items=items, stored_items=stored_items)
    end_turn(session, turn, ending)


def _error_json(error: ConvoError) -> dict[str, str]:
    return {"code": error.code, "message": error.message}


def end_or_requeue(session: Session, turn: Turn) -> bool:
    """End a turn whose process died; return False if it goes back to the queue instead."""
    if requeue(turn):
        return False
    end_turn_from_draft(session, turn, TurnInterrupted())
    return True


def requeue(turn: Turn) -> bool:
    """Requeue a background turn that has no output yet, a few times at most; return whether it was."""
    if turn.draft:
        return False
    requests = TurnRequest.objects.filter(turn=turn, background=True, attempts__lt=MAX_ATTEMPTS)
    unfinished_turns = Turn.objects.unfinished().filter(pk=turn.pk)
    if not (unfinished_turns.exists() and requests.update(attempts=F("attempts") + 1)):
        return False
    # The turn waits in the queue for as long as this lease lasts, until a process takes it over.
    lease = database.seconds_from_now(conf().queue_seconds)
    unfinished_turns.update(status=Turn.Status.QUEUED, worker="", lease_until=lease)
    return True
