"""Counts and sums of turns, computed by the database. Days begin at midnight UTC."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Aggregate, Count, DateField, F, FloatField, Func, Q, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.sql.compiler import SQLCompiler

from convo.errors import class_by_code
from convo.models import Turn
from convo.usage import figures

Status = Turn.Status
OwnerKey = int | str
Sql = tuple[str, tuple[str | int, ...]]


class UsageKey(NamedTuple):
    """The turns that are added up together: those of one day, agent and model, and one owner if it is set."""

    day: date
    agent: str
    model: str
    owner: OwnerKey | None = None


SumsByKey = defaultdict[UsageKey, figures.UsageSum]


class UtcDay(Func):
    """The UTC day of a moment, in native SQL: Django's own truncation is a Python function on SQLite."""

    output_field = DateField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: object) -> Sql:
        return self.as_sql(compiler, connection, template="SUBSTR(%(expressions)s, 1, 10)")

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: object) -> Sql:
        template = "CAST((%(expressions)s) AT TIME ZONE 'UTC' AS date)"
        return self.as_sql(compiler, connection, template=template)


class ElapsedMilliseconds(Func):
    """The milliseconds from one moment to another, rounded to two digits.

    Rounding keeps the order, so a percentile of these values is the exact percentile, rounded. A day has
    one or two hundred different values, however many turns it had.
    """

    arity = 2
    output_field = FloatField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: object) -> Sql:
        # Adding a thousandth to whole milliseconds makes halves round up, and changes nothing else.
        template = "CAST(PRINTF('%%%%.1e', ROUND(86400000 * (%(expressions)s)) + 0.001) AS REAL)"
        return self._compile_difference(compiler, "JULIANDAY({})", template)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: object) -> Sql:
        template = "CAST(TO_CHAR(ROUND(1000 * EXTRACT(EPOCH FROM %(expressions)s)), '9.9EEEE') AS float)"
        return self._compile_difference(compiler, "{}", template)

    def _compile_difference(self, compiler: SQLCompiler, moment: str, template: str) -> Sql:
        (start, start_params), (end, end_params) = map(compiler.compile, self.source_expressions)
        difference = f"{moment.format(end)} - {moment.format(start)}"
        return template % {"expressions": difference}, (*end_params, *start_params)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def started_between(turns: QuerySet[Turn], first: date, last: date) -> QuerySet[Turn]:
    """Return those of the turns that a process of this installation started on these days.

    Copies in a fork and messages recorded from elsewhere have no start, and are left out.
    """
    return turns.filter(started_at__gte=midnight(first), started_at__lt=midnight(last + timedelta(days=1)))


def count(turns: QuerySet[Turn], first: date, last: date, *, by_owner: bool = False) -> SumsByKey:
    """Add up the turns that started on these days and have ended, by day, agent and model, and `by_owner`."""
    ended_turns: QuerySet[Turn] = started_between(turns, first, last).filter(finished_at__isnull=False)
    ended_turns = ended_turns.annotate(day=UtcDay("started_at"))
    names = ["day", "agent", "model"]
    if by_owner:
        ended_turns = ended_turns.annotate(owner=F("session__owner"))
        names.append("owner")
    sums: SumsByKey = defaultdict(figures.UsageSum)

    def grouped_rows(
        queryset: QuerySet[Turn], *extra_names: str, **aggregates: Aggregate
    ) -> Iterator[tuple[figures.UsageSum, dict[str, Any]]]:
        for row in queryset.values(*names, *extra_names).annotate(turns=Count("*"), **aggregates):
            yield sums[UsageKey(*(row.pop(name) for name in names))], row

    for turn_sum, numbers in grouped_rows(ended_turns, **_AGGREGATES):
        turn_sum.numbers.update({name.removeprefix("sum_"): number or 0 for name, number in numbers.items()})
    failures = ended_turns.filter(status__in=[Status.FAILED, Status.PARTIAL]).annotate(code=KT("error__code"))
    for turn_sum, row in grouped_rows(failures, "code"):
        # A turn that was cancelled or reached a limit has not failed.
        if row["code"] and class_by_code(row["code"]).status >= 400:
            turn_sum.errors[row["code"]] += row["turns"]
    for turn_sum, row in grouped_rows(_with_duration(ended_turns, "first_token_at"), "took"):
        turn_sum.waits[round(row["took"])] += row["turns"]
    for turn_sum, row in grouped_rows(
        _with_duration(ended_turns.filter(status=Status.COMPLETE), "finished_at"), "took"
    ):
        turn_sum.times[round(row["took"])] += row["turns"]
    return sums


_AGGREGATES = {
    "sum_input_tokens": Sum("input_tokens"),
    "sum_output_tokens": Sum("output_tokens"),
    "sum_cached_tokens": Sum("cached_tokens"),
    "cache_reads": Count("cache_hit"),
    "sum_cache_hits": Count("cache_hit", filter=Q(cache_hit=True)),
}


def _with_duration(ended_turns: QuerySet[Turn], end_field: str) -> QuerySet[Turn]:
    turns: QuerySet[Turn] = ended_turns.exclude(**{end_field: None}).annotate(
        took=ElapsedMilliseconds("started_at", end_field)
    )
    return turns
