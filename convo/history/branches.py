"""The tree of turns: which branch is the transcript, and how another one becomes it."""

from collections.abc import Sequence

from django.db.models import Exists, OuterRef, Q, QuerySet

from convo.errors import BranchNotActive
from convo.history.session_row import update_after_change
from convo.models import Message, Session, Turn


def branch_point(turn: Turn) -> int:
    """Return the last position of the transcript that this turn continues.

    Raise BranchNotActive if the turn's parent is not on the active branch.
    """
    questions = Message.objects.filter(turn=turn.question_turn or turn)
    siblings = Message.objects.filter(turn__session=turn.session, turn__parent=turn.parent_id)
    first_position = _first_active_question(questions) or _first_active_question(siblings)
    if first_position is not None:
        previous = Message.objects.transcript(turn.session).filter(position__lt=first_position).last()
        return previous.position if previous else turn.session.base_position
    return _end_position(turn.parent, turn) if turn.parent else turn.session.base_position


def _first_active_question(rows: QuerySet[Message]) -> int | None:
    active_questions = rows.filter(agent="", active=True, erased_at=None).order_by("position")
    return active_questions.values_list("position", flat=True).first()


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
    end = branch_point(turn)
    later_messages = Message.objects.filter(session=session, position__gt=end, erased_at=None)
    on_branch = Q(pk__in=[])
    for branch_turn in _branch(turn):
        on_branch |= Q(turn=branch_turn)
        if branch_turn.question_turn_id:
            # This turn answers the question of another turn, whose own reply is not shown.
            on_branch |= Q(turn=branch_turn.question_turn_id, agent="")
    # Memories learned from these turns were retracted when their branch was left: learn from them again.
    Turn.objects.filter(messages__in=later_messages.filter(on_branch, active=False)).update(
        gist="", learned_at=None
    )
    later_messages.exclude(on_branch).update(active=False)
    later_messages.filter(on_branch).update(active=True)
    update_after_change(session, end + 1, later_messages.filter(active=False))


def _branch(turn: Turn) -> list[Turn]:
    later_turns = Turn.objects.filter(session=turn.session, number__gt=turn.number)
    later_turns = later_turns.filter(messages__isnull=False, messages__erased_at=None)
    # The newest of several children wins, because it comes last.
    children = {child.parent_id: child for child in later_turns.order_by("number").distinct()}
    branch = [turn]
    while next_turn := children.get(branch[-1].pk):
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
