"""Its work: a session that is titled "one …" or "many …" is given the title "done"."""

import ctypes
import time
from collections.abc import Sequence
from importlib import import_module
from uuid import UUID

from django.apps import AppConfig, apps


def hold_the_lock() -> None:
    """Let no other thread of this process run for more than ten minutes."""
    # Called through PyDLL, a function of C keeps the lock: this one without using a processor.
    ctypes.PyDLL(None).sleep(1000)


class FreezingConfig(AppConfig):
    name = "tests.freezing"

    def ready(self) -> None:
        # Imported here because models are not there before the applications are.
        jobs = import_module("convo.jobs")
        sessions = apps.get_model("convo", "Session").objects

        def behind(prefix: str, limit: int) -> list[UUID]:
            found = sessions.filter(title__startswith=prefix).order_by("created_at")
            return list(found.values_list("pk", flat=True)[:limit])

        def name(pk: UUID) -> None:
            title = sessions.get(pk=pk).title
            if "freezes" in title:
                hold_the_lock()
            if "fails" in title:
                raise ValueError(title)
            if "is slow" in title:
                time.sleep(1)
            sessions.filter(pk=pk).update(title="done")

        def name_many(keys: Sequence[UUID]) -> None:
            for pk in keys:
                name(pk)

        jobs.job("one", overdue=lambda limit: behind("one", limit))(name)
        jobs.bulk_job("many", overdue=lambda limit: behind("many", limit))(name_many)
