"""Rebuild the index in batches, in one run or several, while searches and replies go on."""

from collections.abc import Sequence

from django.db.models import Q, QuerySet

from convo.models import IndexedMemory, IndexedMessage, Turn
from convo.search.embed import model_name
from convo.search.index import compute_vectors, index_turn_batch


def turns_after(pk: int) -> QuerySet[Turn]:
    """Return the ended turns after this one, indexed or not, in the order of their keys."""
    return (
        Turn.objects.exclude(status__in=[Turn.Status.QUEUED, Turn.Status.RUNNING])
        .filter(pk__gt=pk)
        .order_by("pk")
    )


def reindex_turns(turns: Sequence[int]) -> None:
    """Index these turns again. Until then searches use their old index rows."""
    # A turn whose session changes meanwhile is left to the next sweep.
    Turn.objects.filter(pk__in=turns).update(indexed_at=None)
    index_turn_batch(turns)


def rows_without_vectors() -> tuple[QuerySet[IndexedMessage], QuerySet[IndexedMemory]]:
    """Return the messages and memories without a vector of the current model."""
    needs_vector = ~Q(model=model_name())
    return IndexedMessage.objects.filter(needs_vector).order_by("pk"), IndexedMemory.objects.filter(
        needs_vector
    ).order_by("pk")


def update_vectors(limit: int = 500) -> int:
    """Compute up to `limit` of these vectors; return 0 if none are left or the model can't be reached."""
    return compute_vectors(*rows_without_vectors(), limit)
