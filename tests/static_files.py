"""The static files, listed once in a run instead of once for each test client."""

from collections.abc import Callable
from functools import wraps
from typing import Any


def listed_once(add_files: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap WhiteNoise's search for static files, which took 30 % of the time of test_auth.

    Each test client loads the middleware anew. The files are the same ones unless these settings differ.
    """
    files_by_settings: dict[tuple[object, ...], dict[str, Any]] = {}

    @wraps(add_files)
    def call(middleware: Any) -> None:
        settings = (middleware.static_prefix, middleware.max_age, middleware.charset)
        if settings not in files_by_settings:
            add_files(middleware)
            files_by_settings[settings] = dict(middleware.files)
        middleware.files.update(files_by_settings[settings])

    return call
