"""A circuit breaker: calls to a server that failed a moment ago fail at once."""

import time
from types import TracebackType


class BreakerOpen(Exception):
    """The server failed a moment ago, so it is not called."""

    def __init__(self, seconds: float) -> None:
        self.retry_after = seconds
        super().__init__(f"not called for {seconds:.1f} s more, after a failure")


class Breaker:
    """The circuit breaker of a server in this process, which opens after some failures in a row.

    `with breaker:` guards one call. It raises BreakerOpen for `open_seconds`; after that, one caller at a
    time tries whether the server is back. Only errors of these types count as failures, others as answers.
    """

    def __init__(
        self,
        *,
        open_seconds: float,
        failure_types: tuple[type[Exception], ...] = (),
        failure_threshold: int = 1,
    ) -> None:
        self._rest_seconds = open_seconds
        self._failures = failure_types
        self._limit = failure_threshold
        self._failed_in_a_row = 0
        self._rests_until = 0.0

    @property
    def is_open(self) -> bool:
        """True after `failure_threshold` failures in a row, until the server answers again."""
        return self._failed_in_a_row >= self._limit

    def record_failure(self) -> None:
        self._failed_in_a_row += 1
        if self.is_open:
            self._rests_until = time.monotonic() + self._rest_seconds

    def record_success(self) -> None:
        self._failed_in_a_row = 0
        self._rests_until = 0.0

    def __enter__(self) -> None:
        now = time.monotonic()
        if now < self._rests_until:
            raise BreakerOpen(self._rests_until - now)
        if self.is_open:
            # This caller tries the server. The others fail at once, without waiting for the outcome.
            self._rests_until = now + self._rest_seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, self._failures):
            self.record_failure()
        elif error is None or isinstance(error, Exception):
            self.record_success()
        # A call that was cancelled says nothing about the server.


# This is the breaker of the database. project/postgres opens it when the server does not answer, and never
# because the pool is exhausted.
database_breaker = Breaker(open_seconds=1.0)
