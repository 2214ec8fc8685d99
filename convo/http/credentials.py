"""The credentials of long responses: a process checks all of its open ones together, every few seconds."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from django.contrib.auth import get_user_model
from django.db import Error
from django.http import HttpRequest

from convo import database
from convo.conf import conf
from convo.errors import DatabaseUnavailable, NotAuthenticated
from convo.events import Log, LogReader
from convo.events.log import E
from convo.models import ApiKey

logger = logging.getLogger(__name__)


class Credentials:
    """The API key, or else the user, that a request came with."""

    def __init__(self, request: HttpRequest) -> None:
        key = getattr(request, "auth", None)
        self.key_id: int | None = key.pk if isinstance(key, ApiKey) else None
        self.user_id: Any = request.user.pk
        self._has_ended = False
        self._reader: LogReader[Any] | None = None

    def end(self) -> None:
        """Interrupt the reader that reads with these credentials, and refuse every later one."""
        self._has_ended = True
        if self._reader:
            self._reader.interrupt(NotAuthenticated(_ENDED_MESSAGE))

    @contextmanager
    def reading(self, log: Log[E], *, stops: bool = False) -> Iterator[LogReader[E]]:
        """Yield a reader of the log that raises NotAuthenticated once the credentials have ended.

        With `stops`, stop the turn if the client leaves before its end. A client whose credentials have ended
        counts as one that has left.
        """
        _checkers.setdefault(asyncio.get_running_loop(), _Checker()).add(self)
        self._reader = reader = LogReader(log)
        try:
            if self._has_ended:
                self.end()
            yield reader
        except BaseException:
            if stops and log.ending is None:
                log.stop()
            raise
        finally:
            self._reader = None


_ENDED_MESSAGE = (
    "The API key was revoked or has expired, or its account was disabled, before the answer was complete. "
    "Try again with valid credentials."
)


class _Checker:
    """The credentials in use on one event loop, and the task that checks them."""

    def __init__(self) -> None:
        self._in_use: WeakSet[Credentials] = WeakSet()
        self._task: asyncio.Task[None] | None = None

    def add(self, credentials: Credentials) -> None:
        self._in_use.add(credentials)
        if self._task is None:
            self._task = asyncio.create_task(self._check())

    async def _check(self) -> None:
        try:
            while self._in_use:
                await asyncio.sleep(conf().credentials_seconds)
                await self._end_invalid(list(self._in_use))
        finally:
            # A reference to the task would keep its event loop alive.
            self._task = None

    async def _end_invalid(self, in_use: Sequence[Credentials]) -> None:
        try:
            invalid = await database.run(invalid_credentials, in_use)
        except (Error, DatabaseUnavailable) as error:
            # No stream ends because the database can't be reached; the next check may reach it again.
            logger.warning(
                "could not check the credentials of open streams: %s", database.describe_failure(error)
            )
            return
        for credentials in invalid:
            credentials.end()


_checkers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Checker] = WeakKeyDictionary()


def invalid_credentials(in_use: Sequence[Credentials]) -> list[Credentials]:
    """Return the credentials that have ended, with one query for the keys and one for the users."""
    by_key = [credentials for credentials in in_use if credentials.key_id is not None]
    by_user = [credentials for credentials in in_use if credentials.key_id is None]
    keys = ApiKey.objects.filter(pk__in={credentials.key_id for credentials in by_key}).select_related(
        "owner"
    )
    valid_key_ids = {key.pk for key in keys if key.is_valid}
    # A user who no longer exists may be a guest who signed in: the stream belongs to their account now.
    users = get_user_model()._default_manager.filter(pk__in={credentials.user_id for credentials in by_user})
    disabled_user_ids = {user.pk for user in users if not user.is_active}
    return [
        *(credentials for credentials in by_key if credentials.key_id not in valid_key_ids),
        *(credentials for credentials in by_user if credentials.user_id in disabled_user_ids),
    ]
