"""The ledger of background work that failed or is being done: attempts, waiting times, and what is dead."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone


class WorkQuerySet(models.QuerySet["Work"]):
    def items(self) -> "WorkQuerySet":
        """Everything but the row by which sweeps take turns."""
        return self.exclude(kind=Work.SWEEP)

    def dead(self) -> "WorkQuerySet":
        """What failed so often that a person has to look at it."""
        return self.filter(state=Work.State.DEAD)

    def free(self) -> "WorkQuerySet":
        """What no living process is doing, by the database's clock."""
        return self.filter(Q(lease_until=None) | Q(lease_until__lte=Now()))

    def due(self) -> "WorkQuerySet":
        """What may begin at this moment: its time has come and nobody is at it."""
        return self.free().filter(state=Work.State.TODO, next_at__lte=Now())

    def not_now(self) -> "WorkQuerySet":
        """What nobody is to begin at this moment: it is being done, waits after a failure, or is dead."""
        return self.filter(Q(state=Work.State.DEAD) | Q(next_at__gt=Now()) | Q(lease_until__gt=Now()))

    def given_up(self) -> "WorkQuerySet":
        """What failed and is not begun again by itself, for good or for now."""
        return self.items().free().filter(Q(state=Work.State.DEAD) | Q(next_at__gt=Now()))

    def retry(self) -> int:
        """Make what is dead or waits due now, with all its attempts before it; how many those were."""
        return self.given_up().update(state=Work.State.TODO, attempts=0, next_at=Now())


class Work(models.Model):
    """One piece of work that is being done or has failed; work that is done leaves no row."""

    class State(models.TextChoices):
        TODO = "todo"
        DEAD = "dead"

    # The kind of the one row that stays: its lease is the sweep's, its `next_at` when all was caught up.
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
