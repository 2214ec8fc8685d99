"""The tree of turns: which branch is the transcript, and how it becomes another one."""

from collections.abc import Sequence

from django.db.models import Exists, OuterRef, Q

from convo.errors import BranchNotActive
from convo.history.write import recount, stale_from, take_title_back
from convo.models import Message, Session, Turn, UserMemory


def boundary(turn: Turn) -> int:
    """The last shown position of what this turn continues; what it continues must be shown."""
    first = _first_shown(turn.asks or turn) or _first_shown_beside(turn)
    if first is not None:
        before = Message.objects.transcript(turn.session).filter(position__lt=first).last()
        return before.position if before else turn.session.base_position
    return _end_of(turn.parent, turn) if turn.parent else turn.session.base_position


def _first_shown(turn: Turn) -> int | None:
    """Where this turn's question stands, if it is shown."""
    question = Message.objects.filter(turn=turn, agent="", active=True, erased_at=None)
    return question.order_by("position").values_list("position", flat=True).first()


def _first_shown_beside(turn: Turn) -> int | None:
    """Where the question of an alternative to this turn stands, if one is shown."""
    beside = Message.objects.filter(turn__session=turn.session, turn__parent=turn.parent_id, agent="")
    shown = beside.filter(active=True, erased_at=None)
    return shown.order_by("position").values_list("position", flat=True).first()


def _end_of(parent: Turn, turn: Turn) -> int:
    rows = Message.objects.filter(turn=parent, erased_at=None).order_by("position")
    last = rows.last()
    if last is None:
        return _end_of(parent.parent, turn) if parent.parent else turn.session.base_position
    if last.active:
        return last.position
    raise BranchNotActive(
        f"Turn {turn.number} continues turn {parent.number}, which is not on the branch shown. "
        f"Activate turn {parent.number} first.",
        turn={"id": str(parent.key), "number": parent.number},
    )


def activate(session: Session, turn: Turn) -> None:
    """Make the branch of this turn, with what was said after it last, a locked session's transcript."""
    edge = boundary(turn)
    behind = Message.objects.filter(session=session, position__gt=edge, erased_at=None)
    shown = Q(pk__in=[])
    for step in _branch(turn):
        shown |= Q(turn=step)
        if step.asks_id:
            # The question of another turn, without that turn's own reply.
            shown |= Q(turn=step.asks_id, agent="")
    # What was learned from these was taken back when they went out of sight.
    Turn.objects.filter(messages__in=behind.filter(shown, active=False)).update(gist="", learned_at=None)
    behind.exclude(shown).update(active=False)
    behind.filter(shown).update(active=True)
    take_title_back(session, behind.filter(active=False))
    stale_from(session, edge + 1)
    UserMemory.objects.unsupported(session.person_id).retract()
    recount(session)


def _branch(turn: Turn) -> list[Turn]:
    """The turn and, one after the other, the latest that was said after it."""
    later = Turn.objects.filter(session=turn.session, number__gt=turn.number)
    later = later.filter(messages__isnull=False, messages__erased_at=None)
    children = {child.parent_id: child for child in later.order_by("number").distinct()}
    branch = [turn]
    while following := children.get(branch[-1].pk):
        branch.append(following)
    return branch


def alternatives(turn: Turn) -> list[int]:
    """The numbers of the turns that could stand in this one's place, itself among them."""
    return alternatives_of(turn.session, [turn])[turn.pk]


def alternatives_of(session: Session, turns: Sequence[Turn]) -> dict[int, list[int]]:
    """The same for each of these turns of one session, at once."""
    continued = {turn.parent_id for turn in turns}
    beside = Turn.objects.filter(Q(parent__in=continued - {None}) | Q(parent=None), session=session)
    said = beside.filter(Exists(Message.objects.filter(turn=OuterRef("pk"), erased_at=None)))
    found: dict[int | None, list[int]] = {parent: [] for parent in continued}
    for parent, number in said.order_by("number").values_list("parent", "number"):
        found.setdefault(parent, []).append(number)
    return {turn.pk: found[turn.parent_id] for turn in turns}
