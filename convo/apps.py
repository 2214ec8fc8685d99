from django.apps import AppConfig
from django.core.checks import register

from convo import agents, conf


class ConvoConfig(AppConfig):
    name = "convo"
    verbose_name = "Convo"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(agents.check)
        register(conf.check_processes)
