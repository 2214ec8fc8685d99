"""The ledger of background work that is being done, waits after a failure, or is dead."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone


class WorkQuerySet(models.QuerySet["Work"]):
    def items(self) -> "WorkQuerySet":
        """Return all rows except the one that the sweeps lock."""
        return self.exclude(kind=Work.SWEEP)

    def dead(self) -> "WorkQuerySet":
        return self.filter(state=Work.State.DEAD)

    def free(self) -> "WorkQuerySet":
        return self.filter(Q(lease_until=None) | Q(lease_until__lte=Now()))

    def due(self) -> "WorkQuerySet":
        return self.free().filter(state=Work.State.TODO, next_at__lte=Now())

    def not_now(self) -> "WorkQuerySet":
        """Return work that must not start now: it is being done, waits after a failure, or is dead."""
        return self.filter(Q(state=Work.State.DEAD) | Q(next_at__gt=Now()) | Q(lease_until__gt=Now()))

    def given_up(self) -> "WorkQuerySet":
        """Return failed work that is dead, or waits before its next attempt."""
        return self.items().free().filter(Q(state=Work.State.DEAD) | Q(next_at__gt=Now()))

    def retry(self) -> int:
        """Make dead and waiting work due now, with all its attempts ahead; return the number of rows."""
        return self.given_up().update(state=Work.State.TODO, attempts=0, next_at=Now())


class Work(models.Model):
    """One piece of work that is being done, was asked for, or has failed; finished work leaves no row."""

    class State(models.TextChoices):
        TODO = "todo"
        DEAD = "dead"

    # One row of this kind stays for good: the running sweep holds its lease, and its `next_at` is the time
    # when a sweep last caught up with everything.
    SWEEP = "sweep"

    kind = models.CharField(max_length=40)
    target = models.CharField(max_length=40, help_text="The primary key of the row that it is about.")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(db_default=Now())
    holder = models.CharField(max_length=32, blank=True, help_text="Names the attempt that has the lease.")
    lease_until = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    state = models.CharField(max_length=4, choices=State, default=State.TODO)
    created_at = models.DateTimeField(default=timezone.now)

    objects = WorkQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "work"
        constraints = [models.UniqueConstraint(fields=["kind", "target"], name="one_work_per_target")]
        indexes = [models.Index(fields=["next_at"], condition=Q(state="todo"), name="work_due")]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"
