"""Work beside the test, in a thread of its own."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    """Do this beside the test, as another request would."""

    def call() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=call)
    thread.start()
    return thread
