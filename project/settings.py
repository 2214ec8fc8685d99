"""The settings of a Convo server, from the environment, and from `.env` where the environment lacks one."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

BASE_DIR = Path(__file__).resolve().parent.parent


# Functions that read the environment. Each names the variable when its value is wrong.


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the KEY=VALUE pairs of a `.env` file, without comments and blank lines."""
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


# CONVO_DOTENV=0 ignores the file: the tests have an environment of their own.
_dotenv = {} if os.environ.get("CONVO_DOTENV") == "0" else read_dotenv(BASE_DIR / ".env")
ENV: Mapping[str, str] = {**_dotenv, **os.environ}


def text(name: str, default: str = "") -> str:
    """Return the value of a variable. Set but empty is not the default: for a few, it has a meaning."""
    return ENV.get(name, default).strip()


def flag(name: str, *, default: bool) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value not in {"1", "0", "true", "false", "yes", "no", "on", "off"}:
        raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false. Write 1 or 0.")
    return value in {"1", "true", "yes", "on"}


def number(name: str, default: float, *, minimum: float = 0) -> float:
    value = text(name)
    try:
        result = float(value) if value else default
    except ValueError:
        raise ImproperlyConfigured(
            f"{name}={value!r} is not a number. Write one, such as {default}."
        ) from None
    if not minimum <= result < float("inf"):
        raise ImproperlyConfigured(f"{name}={value!r} is out of range: it must be {minimum} or more.")
    return result


def whole(name: str, default: int, *, minimum: int = 0, maximum: int = 10**12) -> int:
    result = number(name, default, minimum=minimum)
    if result != int(result) or result > maximum:
        raise ImproperlyConfigured(
            f"{name}={text(name)!r} must be a whole number from {minimum} to {maximum}."
        )
    return int(result)


def database(url: str) -> dict[str, Any]:
    """Return Django's configuration of the database behind DATABASE_URL (SQLite if it is empty)."""
    parts = urlsplit(url)
    if parts.scheme in {"", "sqlite"}:
        return _sqlite(unquote(parts.path.removeprefix("/")) if url else str(BASE_DIR / "convo.sqlite3"))
    if parts.scheme in {"postgres", "postgresql"}:
        return _postgres(url)
    raise ImproperlyConfigured(
        f"DATABASE_URL starts with {parts.scheme!r}. Use postgresql://USER:PASSWORD@HOST:PORT/NAME, "
        "sqlite:///relative/path or sqlite:////absolute/path, or leave it empty for SQLite."
    )


def _sqlite(path: str) -> dict[str, Any]:
    if not path:
        raise ImproperlyConfigured("DATABASE_URL names no file. Write sqlite:///convo.sqlite3, for example.")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / path,
        # The tests need a file, because they share their database with real server processes.
        "TEST": {"NAME": f"{BASE_DIR / path}.test"},
        "OPTIONS": {
            # With IMMEDIATE, writers queue instead of failing: 100 of 100 turns at once succeed, 4 without.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # With FULL, an acknowledged turn survives a power cut.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }


def _postgres(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    try:
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured("DATABASE_URL has a port that is not a number from 0 to 65535.") from None
    if not parts.path.strip("/"):
        raise ImproperlyConfigured("DATABASE_URL names no database. End it with /NAME.")
    return {
        "ENGINE": "project.postgres",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", "") or parts.hostname or "",
        "PORT": str(port or ""),
        # Only the pool keeps connections: held by threads, they would outlive a burst and starve the server.
        "CONN_MAX_AGE": 0,
        # project/postgres applies this to requests only, when a connection is taken.
        "STATEMENT_SECONDS": number("CONVO_STATEMENT_SECONDS", 30),
        "OPTIONS": {
            # This is the shortest time that libpq accepts.
            "connect_timeout": 2,
            **query,
            "pool": {"min_size": 1, "max_size": whole("CONVO_POOL_SIZE", 20, minimum=2), "timeout": 10},
        },
    }


def redis_db(url: str, number: int) -> str:
    """Return the URL of another numbered database of the same Redis server."""
    return urlsplit(url)._replace(path=f"/{number}").geturl()


# Debugging, secrets and addresses.

DEBUG = flag("DEBUG", default=False)
SECRET_KEY = text("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. `make run` writes one into .env; in production set it in the environment: "
        "python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    )
# A production server is behind TLS: this sets secure cookies, a redirect and HSTS.
HTTPS = flag("HTTPS", default=not DEBUG)
PORT = whole("PORT", 8000, minimum=1, maximum=65535)
ALLOWED_HOSTS = [host.strip() for host in text("ALLOWED_HOSTS").split(",") if host.strip()] or (
    ["localhost", "127.0.0.1", "[::1]"]
)

# Apps, middleware and templates.

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "convo",
    "project",
]
MIDDLEWARE = [
    "convo.http.request_id.request_id",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "convo.http.csp.content_policy",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "convo.http.errors.DatabaseErrors",
]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# The API answers a missing slash with an error of its own; Django would show a POST an error page.
APPEND_SLASH = False

# Databases, caches and background work.

DATABASES = {"default": database(text("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = text("REDIS_URL")
if REDIS_URL and urlsplit(REDIS_URL).scheme not in {"redis", "rediss", "unix"}:
    raise ImproperlyConfigured("REDIS_URL must start with redis://, rediss:// or unix://.")
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 200}}
}
# Temporary chats are stored nowhere else, so the hot windows of other conversations must not evict them.
CACHES["ephemeral"] = {
    **CACHES["default"],
    "LOCATION": "ephemeral",
    "OPTIONS": {"MAX_ENTRIES": 1000},
}
if REDIS_URL:
    CACHES["default"] = CACHES["ephemeral"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": redis_db(REDIS_URL, 0),
        "OPTIONS": {
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            # A slow cache is as good as none: by default, one GET waits a minute for a hung Redis.
            "SOCKET_CONNECT_TIMEOUT": 0.2,
            "SOCKET_TIMEOUT": 0.3,
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
        },
    }

# An empty value turns Celery off, even with a Redis.
CELERY_BROKER_URL = text("CELERY_BROKER_URL", redis_db(REDIS_URL, 1) if REDIS_URL else "")
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
TASK_SECONDS = whole("CONVO_TASK_SECONDS", 120, minimum=1)
# The process that supervises a job ends it in time; a sweep does many jobs, so its task takes longer.
CELERY_TASK_TIME_LIMIT = 2 * TASK_SECONDS + 30
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# After SIGQUIT a worker waits this long for running tasks, then hands them back; after SIGTERM, for all.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = number("CONVO_WORKER_STOP_SECONDS", 10, minimum=0.1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
SWEEP_SECONDS = number("CONVO_SWEEP_SECONDS", 15, minimum=0.1)
# A sweep that no worker took before the next one is due is dropped.
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "convo.tasks.sweep", "schedule": SWEEP_SECONDS, "options": {"expires": SWEEP_SECONDS}}
}
# Each kind of broker has its own options.
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {}
if urlsplit(CELERY_BROKER_URL).scheme.partition("+")[0] in {"redis", "rediss", "sentinel"}:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        # A killed worker's task is delivered again after this; with rarer checks it takes ten times as long.
        "visibility_timeout": CELERY_TASK_TIME_LIMIT,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
    }

# Authentication and cookies.

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign-in"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None

# Static files, REST framework, Convo's own settings, and logging.

TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
# WhiteNoise serves the static files of the apps, so there is no collectstatic step to forget.
WHITENOISE_USE_FINDERS = True
# WhiteNoise returns sync iterators, which Django reads as a whole under ASGI: fine for small files.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
DATA_UPLOAD_MAX_MEMORY_SIZE = whole("CONVO_MAX_BODY", 20_000_000, minimum=1000)
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "convo.http.errors.handle",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Convo",
    "DESCRIPTION": "Conversation memory for LLM chat and agents.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

LEASE_SECONDS = number("CONVO_LEASE_SECONDS", 15, minimum=0.1)
HEARTBEAT_SECONDS = number("CONVO_HEARTBEAT_SECONDS", 0.5, minimum=0.01)
if LEASE_SECONDS <= 3 * HEARTBEAT_SECONDS:
    raise ImproperlyConfigured("CONVO_LEASE_SECONDS must be more than three times CONVO_HEARTBEAT_SECONDS.")

CONVO = {
    "AGENTS_FILE": text("CONVO_AGENTS_FILE", str(BASE_DIR / "project" / "agents.yaml")),
    "MODEL": text("CONVO_MODEL"),
    "BACKGROUND_MODEL": text("CONVO_BACKGROUND_MODEL"),
    "EMBEDDING_MODEL": text("CONVO_EMBEDDING_MODEL"),
    "OPENAI_API_KEY": text("OPENAI_API_KEY"),
    "OPENAI_BASE_URL": text("OPENAI_BASE_URL"),
    "MAX_BODY": DATA_UPLOAD_MAX_MEMORY_SIZE,
    "MAX_TEXT_FILE": whole("CONVO_MAX_TEXT_FILE", 200_000, minimum=1000),
    "CONTEXT_TOKENS": whole("CONVO_CONTEXT_TOKENS", 128_000, minimum=50),
    "CHAIN_DAYS": whole("CONVO_CHAIN_DAYS", 30, minimum=1, maximum=36_500),
    "UNDO_SECONDS": number("CONVO_UNDO_SECONDS", 30),
    "GUESTS": flag("CONVO_GUESTS", default=DEBUG),
    "SIGN_UP": flag("CONVO_SIGN_UP", default=DEBUG),
    "BROWSABLE_API": text("CONVO_BROWSABLE_API") or ("everyone" if DEBUG else "staff"),
    "KEY_PEPPER": text("CONVO_KEY_PEPPER"),
    "REDIS_URL": redis_db(REDIS_URL, 0) if REDIS_URL else "",
    # WEB_CONCURRENCY tells web servers how many processes to start.
    "PROCESSES": whole("WEB_CONCURRENCY", 1, minimum=1),
    "REQUEST_THREADS": whole("CONVO_REQUEST_THREADS", 200, maximum=10_000),
    "WINDOW_SECONDS": whole("CONVO_WINDOW_SECONDS", 1800, minimum=1),
    "LEASE_SECONDS": LEASE_SECONDS,
    "HEARTBEAT_SECONDS": HEARTBEAT_SECONDS,
    "CHECKPOINT_SECONDS": number("CONVO_CHECKPOINT_SECONDS", 0.5, minimum=0.01),
    "CANCEL_SECONDS": number("CONVO_CANCEL_SECONDS", 2, minimum=0.01),
    "QUEUE_SECONDS": number("CONVO_QUEUE_SECONDS", 60, minimum=0.1),
    "QUEUE_LENGTH": whole("CONVO_QUEUE_LENGTH", 20, minimum=1),
    "SWEEP_SECONDS": SWEEP_SECONDS,
    "DELIVER": "convo.tasks.send" if CELERY_BROKER_URL else "",
    "TASK_SECONDS": TASK_SECONDS,
    "WORK_ATTEMPTS": whole("CONVO_WORK_ATTEMPTS", 5, minimum=1, maximum=30_000),
    "WORK_RETRY_SECONDS": number("CONVO_WORK_RETRY_SECONDS", 30),
    "WORK_LEASE_SECONDS": number("CONVO_WORK_LEASE_SECONDS", 30, minimum=0.1),
    "WORK_THREADS": whole("CONVO_WORK_THREADS", 2, minimum=0, maximum=100),
    "OVERDUE_SECONDS": number("CONVO_OVERDUE_SECONDS", 120),
    "FOLLOW_SECONDS": number("CONVO_FOLLOW_SECONDS", 1, minimum=0.01),
    "SSE_HEARTBEAT_SECONDS": number("CONVO_SSE_HEARTBEAT_SECONDS", 10, minimum=0.05),
    "CREDENTIALS_SECONDS": number("CONVO_CREDENTIALS_SECONDS", 10, minimum=0.05),
    "MIRROR_SECONDS": number("CONVO_MIRROR_SECONDS", 0.05, minimum=0.01),
    "EVENTS_SECONDS": whole("CONVO_EVENTS_SECONDS", 600, minimum=1),
    "CONNECT_SECONDS": number("CONVO_CONNECT_SECONDS", 3, minimum=0.01),
    "FIRST_BYTE_SECONDS": number("CONVO_FIRST_BYTE_SECONDS", 30, minimum=0.01),
    "BETWEEN_CHUNKS_SECONDS": number("CONVO_BETWEEN_CHUNKS_SECONDS", 30, minimum=0.01),
    "TOTAL_SECONDS": number("CONVO_TOTAL_SECONDS", 600, minimum=0.01),
    "MAX_REPLY_BYTES": whole("CONVO_MAX_REPLY_BYTES", 4_000_000, minimum=100),
    "OFFLINE_WORD_SECONDS": number("CONVO_OFFLINE_WORD_SECONDS", 0.02),
}
if CONVO["GUESTS"] and not DEBUG:
    raise ImproperlyConfigured(
        "CONVO_GUESTS lets anybody in, so it requires DEBUG=1. Unset it, or set DEBUG=1."
    )
if CONVO["BROWSABLE_API"] not in {"everyone", "staff", "off"}:
    raise ImproperlyConfigured("CONVO_BROWSABLE_API must be everyone, staff or off.")
if CONVO["OPENAI_BASE_URL"] and urlsplit(str(CONVO["OPENAI_BASE_URL"])).scheme not in {"http", "https"}:
    raise ImproperlyConfigured(
        "OPENAI_BASE_URL must start with http:// or https://, and usually ends in /v1."
    )

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request": {"()": "convo.request_context.LogFilter"}},
    "formatters": {"line": {"format": "{asctime} {levelname} {name}{request}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request"]}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    # With DEBUG=1 Django adds a handler of its own, which would write each of its lines a second time.
    "loggers": {"convo": {"level": text("LOG_LEVEL", "INFO")}, "django": {"handlers": []}},
}
