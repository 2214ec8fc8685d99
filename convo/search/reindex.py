"""Making the index anew, in pieces that can be done in any number of runs, beside searches and replies."""

from collections.abc import Sequence

from django.db.models import Q, QuerySet

from convo.models import IndexedMemory, IndexedMessage, Turn
from convo.search.embed import model_name
from convo.search.index import fill, fill_memories, index_these


def turns_after(pk: int) -> QuerySet[Turn]:
    """The turns behind this one that are in the index, or wait for it."""
    return (
        Turn.objects.exclude(status__in=[Turn.Status.QUEUED, Turn.Status.RUNNING])
        .filter(pk__gt=pk)
        .order_by("pk")
    )


def index_anew(turns: Sequence[int]) -> None:
    """Index these turns once more. Until that is done they are found by what was known of them."""
    # One whose session changes just now is left to the next sweep.
    Turn.objects.filter(pk__in=turns).update(indexed_at=None)
    index_these(turns)


def other_vectors() -> tuple[QuerySet[IndexedMessage], QuerySet[IndexedMemory]]:
    """What has no vector of today's model: none at all, or one that another model made."""
    other = ~Q(model=model_name())
    return IndexedMessage.objects.filter(other).order_by("pk"), IndexedMemory.objects.filter(other).order_by(
        "pk"
    )


def vectors_anew(limit: int = 500) -> int:
    """Give some of these their vectors; 0 when all have them, or when the model can't be reached."""
    messages, memories = other_vectors()
    return fill(messages, limit) or fill_memories(memories, limit)
