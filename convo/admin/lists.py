"""Lists of tables that hold millions of rows: counted no further than anybody turns pages, filtered by names
that are known beforehand."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from convo import agents
from convo.conf import conf

# Whoever hasn't found a row among so many will look for it in another way.
MOST_LISTED = 1000


class ShortCount(Paginator):
    """Pages over the first rows only, for to count them all is to read them all."""

    @cached_property
    def _found(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: MOST_LISTED + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self._found, MOST_LISTED)

    @property
    def more(self) -> bool:
        """Are there rows that these pages leave out?"""
        return self._found > MOST_LISTED


class Named(admin.SimpleListFilter):
    """A filter by names that the configuration lists: asking the table would read all of it."""

    field = ""

    def names(self) -> Iterable[str]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in self.names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # One that is no longer configured is found too, by who knows its name.
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


class Chosen(Named):
    """A filter by some values that are worth a link; others can be asked for in the address."""

    choices_are: Sequence[str] = ()

    def names(self) -> Iterable[str]:
        return self.choices_are


class ByAgent(Named):
    title, parameter_name, field = "agent", "agent", "agent"

    def names(self) -> Iterable[str]:
        return sorted(agents.everyone())


class ByModel(Named):
    title, parameter_name, field = "model", "model", "model"

    def names(self) -> Iterable[str]:
        used = {agent.model_name for agent in agents.everyone().values()}
        return sorted({*used, conf().background_model} - {""})


def uuid_in(term: str) -> UUID | None:
    """The UUID that this is, bare or with a prefix such as conv_; None where it is none."""
    try:
        return UUID(term.rpartition("_")[2])
    except ValueError:
        return None


def owner_named(term: str, through: str = "owner") -> Q:
    """Rows whose owner signs in by this name."""
    return Q(**{f"{through}__{get_user_model().USERNAME_FIELD}": term})
