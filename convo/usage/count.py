"""Counting turns in the database. Days begin at midnight UTC."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, DateField, F, FloatField, Func, Q, QuerySet, Sum
from django.db.models.fields.json import KT

from convo.errors import by_code
from convo.models import Turn
from convo.usage import values

Status = Turn.Status


class Slice(NamedTuple):
    """Which turns are added up: a day's with one agent and one model; of one owner, where that is told."""

    day: date
    agent: str
    model: str
    owner: Any = None


Sums = defaultdict[Slice, values.Sum]


class Day(Func):
    """The day of a moment in UTC, in the database's own terms: Django's are a Python function on SQLite."""

    output_field = DateField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="SUBSTR(%(expressions)s, 1, 10)", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST((%(expressions)s) AT TIME ZONE 'UTC' AS date)"
        return self.as_sql(compiler, connection, template=template, **context)


class Took(Func):
    """The milliseconds from one moment to another, rounded to two digits.

    Rounding keeps the order, so that a percentile of these is the exact one, rounded; and a day has a
    hundred of them or two, however many turns it had.
    """

    arity = 2
    output_field = FloatField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Halves go up: to whole milliseconds a thousandth more makes no other difference.
        template = "CAST(PRINTF('%%%%.1e', ROUND(86400000 * (%(expressions)s)) + 0.001) AS REAL)"
        return self._of_difference(compiler, "JULIANDAY({})", template)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(TO_CHAR(ROUND(1000 * EXTRACT(EPOCH FROM %(expressions)s)), '9.9EEEE') AS float)"
        return self._of_difference(compiler, "{}", template)

    def _of_difference(self, compiler: Any, moment: str, template: str) -> Any:
        (start, start_params), (end, end_params) = map(compiler.compile, self.source_expressions)
        difference = f"{moment.format(end)} - {moment.format(start)}"
        return template % {"expressions": difference}, [*end_params, *start_params]


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def begun(turns: QuerySet[Turn], first: date, last: date) -> QuerySet[Turn]:
    """Those of the turns that a process of ours began on these days.

    A copy in a fork was begun by none, and neither was what was recorded from elsewhere.
    """
    return turns.filter(started_at__gte=midnight(first), started_at__lt=midnight(last + timedelta(days=1)))


def count(turns: QuerySet[Turn], first: date, last: date, *, by_owner: bool = False) -> Sums:
    """The turns begun on these days and ended since, added up; told apart by owner too, if asked for."""
    ended: QuerySet[Any] = begun(turns, first, last).filter(finished_at__isnull=False)
    ended = ended.annotate(day=Day("started_at"))
    names = ["day", "agent", "model"]
    if by_owner:
        ended = ended.annotate(owner=F("session__owner"))
        names.append("owner")
    found: Sums = defaultdict(values.Sum)

    def rows(of: QuerySet[Any], *more: str, **counted: Any) -> Iterator[tuple[values.Sum, dict[str, Any]]]:
        for row in of.values(*names, *more).annotate(turns=Count("*"), **counted):
            yield found[Slice(*(row.pop(name) for name in names))], row

    for one, numbers in rows(ended, **_NUMBERS):
        one.numbers.update({name.removeprefix("sum_"): number or 0 for name, number in numbers.items()})
    for one, failed in rows(_failed(ended), "code"):
        # Who reached a limit that was set, or cancelled, has not failed.
        if failed["code"] and by_code(failed["code"]).status >= 400:
            one.errors[failed["code"]] += failed["turns"]
    for one, waited in rows(_timed(ended, "first_token_at"), "took"):
        one.waits[round(waited["took"])] += waited["turns"]
    for one, lasted in rows(_timed(ended.filter(status=Status.COMPLETE), "finished_at"), "took"):
        one.times[round(lasted["took"])] += lasted["turns"]
    return found


_NUMBERS = {
    "sum_input_tokens": Sum("input_tokens"),
    "sum_output_tokens": Sum("output_tokens"),
    "sum_cached_tokens": Sum("cached_tokens"),
    "looked": Count("hot"),
    "sum_hot": Count("hot", filter=Q(hot=True)),
}


def _failed(ended: QuerySet[Any]) -> QuerySet[Any]:
    bad = Q(status__in=[Status.FAILED, Status.PARTIAL])
    failed: QuerySet[Any] = ended.filter(bad).annotate(code=KT("error__code"))
    return failed


def _timed(ended: QuerySet[Any], until: str) -> QuerySet[Any]:
    timed: QuerySet[Any] = ended.exclude(**{until: None}).annotate(took=Took("started_at", until))
    return timed
