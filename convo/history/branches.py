"""The tree of turns: which branch is the transcript, and how another one becomes it."""

from collections.abc import Sequence

from django.db.models import Exists, OuterRef, Q

from convo.errors import BranchNotActive
from convo.history import statements
from convo.history.session_row import recount, reset_title
from convo.history.statements import BranchPoint
from convo.models import Message, Session, Turn, UserMemory


def branch_point(turn: Turn) -> BranchPoint:
    """Return the place in the transcript that this turn continues.

    Raise BranchNotActive if the turn's parent is not on the active branch.
    """
    if point := statements.find_branch_point(turn):
        return point
    position = _end_position(turn.parent, turn) if turn.parent else turn.session.base_position
    later_messages = Message.objects.transcript(turn.session).filter(position__gt=position)
    return BranchPoint(position, later_messages.count())


def _end_position(parent: Turn, turn: Turn) -> int:
    last = Message.objects.filter(turn=parent, erased_at=None).order_by("position").last()
    if last is None:
        return _end_position(parent.parent, turn) if parent.parent else turn.session.base_position
    if last.active:
        return last.position
    raise BranchNotActive(
        f"Turn {turn.number} continues turn {parent.number}, which is not on the active branch. "
        f"Activate turn {parent.number} first.",
        turn={"id": str(parent.key), "number": parent.number},
    )


def activate(session: Session, turn: Turn) -> None:
    """Make a turn's branch, with its newest continuation, the transcript of a locked session."""
    show_branch(session, turn)
    session.save(update_fields=["epoch", "message_count", "token_count"])


def show_branch(session: Session, turn: Turn) -> None:
    # The caller saves the session's epoch and counters: an append, for one, saves them anyway.
    position = branch_point(turn).position
    branch = _branch(session, turn)
    switched = statements.switch_branch(
        session,
        position,
        turn_ids=[turn_id for turn_id, _ in branch],
        # The turns whose questions others answer: their own replies are not shown.
        question_turn_ids=[question_turn_id for _, question_turn_id in branch if question_turn_id],
    )
    shown_messages = [message for message in switched if message.active]
    hidden_messages = [message for message in switched if not message.active]
    if shown_messages:
        # Memories learned from these turns were retracted when their branch was left: learn from them again.
        shown_turns = Turn.objects.filter(pk__in={message.turn_id for message in shown_messages})
        shown_turns.update(gist="", learned_at=None)
    if any(message.role == Message.Role.USER for message in hidden_messages):
        # Titles and memories are learned from the user's messages alone.
        reset_title(session, Message.objects.filter(session=session, position__gt=position, active=False))
        UserMemory.objects.unsupported(session.person_id).retract()
    session.message_count += len(shown_messages) - len(hidden_messages)
    session.token_count += sum(message.tokens if message.active else -message.tokens for message in switched)
    session.epoch += 1
    if min(session.message_count, session.token_count) < 0:
        # The stored counters were too low: a check of the table would refuse them, and no turn could end.
        recount(session)


def _branch(session: Session, turn: Turn) -> list[tuple[int, int | None]]:
    """Return the ids of the branch's turns, each with the id of the turn whose question it answers."""
    branch = [(turn.pk, turn.question_turn_id)]
    if turn.number == session.last_turn:
        return branch
    later_turns = Turn.objects.filter(session=session, number__gt=turn.number)
    later_turns = later_turns.filter(messages__isnull=False, messages__erased_at=None).order_by("number")
    rows = later_turns.distinct().values_list("parent_id", "pk", "question_turn_id", "number")
    # The newest of several children wins, because it comes last.
    children = {parent_id: (pk, question_turn_id) for parent_id, pk, question_turn_id, _ in rows}
    while next_turn := children.get(branch[-1][0]):
        branch.append(next_turn)
    return branch


def alternatives(session: Session, turns: Sequence[Turn]) -> dict[int, list[int]]:
    """Return the numbers of the turns with the same parent as each of these turns, by its primary key.

    A turn is an alternative to itself. There is one query for all turns.
    """
    parent_ids = {turn.parent_id for turn in turns}
    siblings = Turn.objects.filter(Q(parent__in=parent_ids - {None}) | Q(parent=None), session=session)
    siblings_with_messages = siblings.filter(
        Exists(Message.objects.filter(turn=OuterRef("pk"), erased_at=None))
    )
    numbers: dict[int | None, list[int]] = {parent_id: [] for parent_id in parent_ids}
    for parent_id, number in siblings_with_messages.order_by("number").values_list("parent", "number"):
        numbers.setdefault(parent_id, []).append(number)
    return {turn.pk: numbers[turn.parent_id] for turn in turns}
