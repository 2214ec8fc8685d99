"""Hot windows in a Redis of the test's own."""

from pytest_django import Settings
from redis.backoff import NoBackoff
from redis.retry import Retry


def keep_windows_in(settings: Settings, url: str) -> None:
    """Use this Redis as the project's settings do."""
    options = {
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        "SOCKET_CONNECT_TIMEOUT": 0.2,
        "SOCKET_TIMEOUT": 0.3,
        "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
    }
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}
    }
