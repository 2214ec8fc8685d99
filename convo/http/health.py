"""Liveness and readiness checks, for load balancers and people."""

import logging
import threading
import time
from collections.abc import Callable

from django.core.cache import cache
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, JsonResponse

from convo import database, jobs, turns
from convo.breaker import database_breaker
from convo.conf import conf
from convo.models import Work

logger = logging.getLogger(__name__)

# /readyz answers within a second, whatever hangs.
TIMEOUT_SECONDS = 0.8
FRESH_SECONDS = 5.0
OK = "ok"
# Of each kind of work that waits, so much is counted: a check takes milliseconds however far work is behind.
MAX_COUNTED = 1000


class HealthCheck:
    """A health check that runs in its own thread, so that nobody waits long when it hangs."""

    def __init__(self, examine: Callable[[], str]) -> None:
        self._examine = examine
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._examined_at = float("-inf")
        self._outcome = OK

    def start(self) -> None:
        """Start the check, unless it is running or its outcome is less than FRESH_SECONDS old."""
        with self._lock:
            is_fresh = time.monotonic() - self._examined_at < FRESH_SECONDS
            if is_fresh or (self._thread and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="convo-health", daemon=True)
            self._thread.start()

    def outcome(self, seconds: float) -> str:
        """Return OK or what is wrong, after waiting for at most this many seconds."""
        if self._thread:
            self._thread.join(max(0, seconds))
        is_running = self._thread and self._thread.is_alive()
        return f"no answer within {TIMEOUT_SECONDS} s" if is_running else self._outcome

    def _run(self) -> None:
        try:
            self._outcome = self._examine()
        except DatabaseError as error:
            logger.error("health check failed: %s", database.describe_failure(error))
            self._outcome = "unreachable"
        except Exception:  # any failure is the outcome of this check
            logger.exception("health check failed")
            self._outcome = "failed; see the log"
        finally:
            self._examined_at = time.monotonic()
            database.close_connections()


def liveness(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": OK})


def readiness(request: HttpRequest) -> JsonResponse:
    """Answer 503 if this process can't serve, and 200 with `degraded` if it is only slower or late."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    required = {"server": "stopping" if turns.is_shutting_down() else OK, "database": OK}
    optional = {"cache": OK, "work": OK}
    _cache_health.start()
    if database_breaker.is_open:
        required["database"] = "unreachable"
    else:
        _database_health.start()
        _work_health.start()
        required["database"] = _database_health.outcome(deadline - time.monotonic())
    if required["database"] == OK:
        optional["work"] = _work_health.outcome(deadline - time.monotonic())
    optional["cache"] = _cache_health.outcome(deadline - time.monotonic())
    components = {**required, **optional}
    is_ready, is_healthy = set(required.values()) == {OK}, set(components.values()) == {OK}
    status = OK if is_healthy else "degraded" if is_ready else "unavailable"
    reasons = [f"{name}: {outcome}" for name, outcome in components.items() if outcome != OK]
    return JsonResponse({"status": status, "reasons": reasons, **components}, status=200 if is_ready else 503)


def _check_database_writes() -> str:
    try:
        _try_write()
    except DatabaseError as error:
        if not database.is_sqlite_busy(error):
            logger.error("not ready: %s", database.describe_failure(error))
            return database.describe_write_failure(error)
    unapplied_count = database.count_unapplied_migrations()
    return f"{unapplied_count} unapplied migrations; run `manage.py migrate`" if unapplied_count else OK


def _try_write() -> None:
    """Make a write that changes nothing, and that fails when real writes would."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            # If another connection is writing at this moment, then writes work, so there is no need to wait.
            cursor.execute("PRAGMA busy_timeout = 0")
    with transaction.atomic(), connection.cursor() as cursor:
        Work.objects.filter(kind=Work.SWEEP).update(kind=Work.SWEEP)
        if connection.vendor == "postgresql":
            # On a full disk a row still fits into its page, so this takes 400 kB of new space for a moment.
            cursor.execute("SET LOCAL work_mem = '64kB'")
            cursor.execute("SELECT count(*) FROM generate_series(1, 20000)")


def _check_background_work() -> str:
    limit_seconds = conf().overdue_seconds
    reasons = []
    if dead_count := jobs.count_dead():
        reasons.append(f"{dead_count} given up; see the admin or `manage.py retry`")
    if (lag := jobs.lag_seconds()) > limit_seconds:
        counts = jobs.count_waiting(MAX_COUNTED).items()
        waiting = ", ".join(f"{count}{'+' if count == MAX_COUNTED else ''} {kind}" for kind, count in counts)
        advice = "start more workers (docs/how-to/background-work.md), and see `manage.py backlog`"
        reasons.append(f"overdue by {lag:.0f} s ({waiting or 'nothing any more'}): {advice}")
    if jobs.is_sweep_late(max(limit_seconds, 2 * conf().sweep_seconds)):
        reasons.append("no sweep has caught up lately")
    return "; ".join(reasons) or OK


def _check_cache() -> str:
    if not conf().redis_url:
        return OK
    try:
        cache.set("convo:health", "1", 10)
    except Exception:  # any failure is the outcome of this check
        return "unreachable"
    return OK


_database_health = HealthCheck(_check_database_writes)
_work_health = HealthCheck(_check_background_work)
_cache_health = HealthCheck(_check_cache)
