"""Changelists of tables with millions of rows: counts stop early, and filters take their choices from the
configuration instead of the table."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from convo import agents
from convo.conf import conf

# Cap the paginator: COUNT(*) is too slow on large tables, and nobody pages through more rows than this.
MAX_LISTED = 1000
OWNER_NAME = f"owner__{get_user_model().USERNAME_FIELD}"


class CappedPaginator(Paginator):
    """A paginator over the first MAX_LISTED rows, because counting all rows would read all of them."""

    @cached_property
    def _capped_count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: MAX_LISTED + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self._capped_count, MAX_LISTED)

    @property
    def has_more(self) -> bool:
        """Return whether the table has rows beyond the last page."""
        return self._capped_count > MAX_LISTED


class ConfiguredNameFilter(admin.SimpleListFilter):
    """A filter of a field with configured choices: finding them in the table would read all of it."""

    parameter_name: str

    def names(self) -> Iterable[str]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(name, name) for name in self.names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        # The address may also contain a name that is no longer configured.
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset


class AgentFilter(ConfiguredNameFilter):
    title = parameter_name = "agent"

    def names(self) -> Iterable[str]:
        return sorted(agents.all_agents())


class ModelFilter(ConfiguredNameFilter):
    title = parameter_name = "model"

    def names(self) -> Iterable[str]:
        used = {agent.model_name for agent in agents.all_agents().values()}
        return sorted({*used, conf().background_model} - {""})


def parse_uuid(term: str) -> UUID | None:
    """Return the UUID in this text, which may have a prefix such as conv_, or None."""
    try:
        return UUID(term.rpartition("_")[2])
    except ValueError:
        return None
