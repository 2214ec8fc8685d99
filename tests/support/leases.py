"""Leases that have run out."""

from datetime import timedelta

from django.utils import timezone

from convo.models import Turn
from convo.turns import Claim


def expire(claim: Claim, *, draft: str = "") -> None:
    past = timezone.now() - timedelta(seconds=1)
    Turn.objects.filter(pk=claim.turn.pk).update(
        lease_until=past, draft=draft, chunks=[{"index": 0, "kind": "message", "chunk_lengths": [len(draft)]}]
    )
