from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.core.checks import register
from django.db.models.signals import pre_migrate

from convo import agents, conf, database

# These packages register their background work when they are imported. A package that isn't listed here has
# none: this is the only place that makes it known to servers, workers, commands and scripts.
JOB_PACKAGES = ("convo.turns", "convo.memory", "convo.search", "convo.usage")


class ConvoConfig(AppConfig):
    name = "convo"
    verbose_name = "Convo"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(agents.check_agents)
        register(agents.check_models)
        register(conf.check_processes)
        for name in JOB_PACKAGES:
            # Django calls `ready` when the models can be imported, and this module before.
            import_module(name)
        pre_migrate.connect(_refuse_old_tables, sender=self)


def _refuse_old_tables(using: str, **_: Any) -> None:
    database.refuse_old_tables(using)
