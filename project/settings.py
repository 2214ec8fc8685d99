"""Every setting of a Convo server. All of them come from the environment; `.env` fills what it leaves out."""

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


# Reading the environment: each helper names the variable when its value is wrong.


def read_dotenv(path: Path) -> dict[str, str]:
    """The KEY=VALUE lines of a `.env` file; comments and blank lines aside."""
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


# CONVO_DOTENV=0 leaves the file out: the tests bring an environment of their own.
_dotenv = {} if os.environ.get("CONVO_DOTENV") == "0" else read_dotenv(BASE_DIR / ".env")
ENV: Mapping[str, str] = {**_dotenv, **os.environ}


def text(name: str, default: str = "") -> str:
    """What the variable says; set but empty is empty, which for a few of them means something."""
    return ENV.get(name, default).strip()


def flag(name: str, *, default: bool) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value not in {"1", "0", "true", "false", "yes", "no", "on", "off"}:
        raise ImproperlyConfigured(f"{name}={value!r} is neither yes nor no. Write 1 or 0.")
    return value in {"1", "true", "yes", "on"}


def number(name: str, default: float, *, least: float = 0) -> float:
    value = text(name)
    try:
        found = float(value) if value else default
    except ValueError:
        raise ImproperlyConfigured(
            f"{name}={value!r} is not a number. Write one, such as {default}."
        ) from None
    if not least <= found < float("inf"):
        raise ImproperlyConfigured(f"{name}={value!r} is out of range: it must be {least} or more.")
    return found


def whole(name: str, default: int, *, least: int = 0, most: int = 10**12) -> int:
    found = number(name, default, least=least)
    if found != int(found) or found > most:
        raise ImproperlyConfigured(f"{name}={text(name)!r} must be a whole number from {least} to {most}.")
    return int(found)


def database(url: str) -> dict[str, Any]:
    """Django's description of the database behind DATABASE_URL (SQLite where it is empty)."""
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
        # A file, because the tests share their database with real server processes.
        "TEST": {"NAME": f"{BASE_DIR / path}.test"},
        "OPTIONS": {
            # IMMEDIATE: writers queue instead of failing (100 of 100 turns at once; 4 of 100 without).
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # FULL: an acknowledged turn survives a power cut.
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
        # Connections live in the pool only; held by threads they outlive a burst and starve the server.
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **query,
            "pool": {"min_size": 1, "max_size": whole("CONVO_POOL_SIZE", 20, least=2), "timeout": 10},
        },
    }


def redis_db(url: str, number: int) -> str:
    """The same Redis server, another of its numbered databases."""
    return urlsplit(url)._replace(path=f"/{number}").geturl()


# What kind of server this is.

DEBUG = flag("DEBUG", default=False)
SECRET_KEY = text("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. `make run` writes one into .env; in production set it in the environment: "
        "python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    )
# Behind TLS, as a production server is: secure cookies, a redirect, HSTS.
HTTPS = flag("HTTPS", default=not DEBUG)
PORT = whole("PORT", 8000, least=1, most=65535)
ALLOWED_HOSTS = [host.strip() for host in text("ALLOWED_HOSTS").split(",") if host.strip()] or (
    ["localhost", "127.0.0.1", "[::1]"]
)

# What it is built from.

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
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "convo.http.csp.content_policy",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
# The API answers a missing slash itself, with a sentence; Django's way is an error page for a POST.
APPEND_SLASH = False

# Where it keeps things.

DATABASES = {"default": database(text("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = text("REDIS_URL")
if REDIS_URL and urlsplit(REDIS_URL).scheme not in {"redis", "rediss", "unix"}:
    raise ImproperlyConfigured("REDIS_URL must start with redis://, rediss:// or unix://.")
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 200}}
}
# Temporary chats have no other place: the windows of other conversations must not push them out.
CACHES["fleeting"] = {
    **CACHES["default"],
    "LOCATION": "fleeting",
    "OPTIONS": {"MAX_ENTRIES": 1000},
}
if REDIS_URL:
    CACHES["default"] = CACHES["fleeting"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": redis_db(REDIS_URL, 0),
        "OPTIONS": {
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            # A cache that is slow is a cache that is gone: by default one GET waits a minute on a hung Redis.
            "SOCKET_CONNECT_TIMEOUT": 0.2,
            "SOCKET_TIMEOUT": 0.3,
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
        },
    }

# Set but empty: no Celery, although there is a Redis.
CELERY_BROKER_URL = text("CELERY_BROKER_URL", redis_db(REDIS_URL, 1) if REDIS_URL else "")
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = whole("CONVO_TASK_SECONDS", 120, least=1)
CELERY_TASK_SOFT_TIME_LIMIT = CELERY_TASK_TIME_LIMIT * 0.9
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# SIGQUIT waits so long for running tasks before it hands them back; SIGTERM waits for all of them.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = number("CONVO_WORKER_STOP_SECONDS", 10, least=0.1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
SWEEP_SECONDS = number("CONVO_SWEEP_SECONDS", 15, least=0.1)
# What nobody took before the next one is not worth taking.
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "convo.tasks.sweep", "schedule": SWEEP_SECONDS, "options": {"expires": SWEEP_SECONDS}}
}
# Each kind of broker takes options of its own.
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {}
if urlsplit(CELERY_BROKER_URL).scheme.partition("+")[0] in {"redis", "rediss", "sentinel"}:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        # A task of a killed worker comes back after this; swept often, or it takes ten times as long.
        "visibility_timeout": 2 * CELERY_TASK_TIME_LIMIT,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
    }

# Who may come in.

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign-in"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None

# What it serves.

TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
# WhiteNoise serves what the apps bring; there is no collectstatic step to forget.
WHITENOISE_USE_FINDERS = True
# It hands files over as sync iterators, which Django reads whole under ASGI: right for small files.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
DATA_UPLOAD_MAX_MEMORY_SIZE = whole("CONVO_MAX_BODY", 20_000_000, least=1000)
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

LEASE_SECONDS = number("CONVO_LEASE_SECONDS", 15, least=0.1)
HEARTBEAT_SECONDS = number("CONVO_HEARTBEAT_SECONDS", 0.5, least=0.01)
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
    "MAX_TEXT_FILE": whole("CONVO_MAX_TEXT_FILE", 200_000, least=1000),
    "CONTEXT_TOKENS": whole("CONVO_CONTEXT_TOKENS", 128_000, least=50),
    "CHAIN_DAYS": whole("CONVO_CHAIN_DAYS", 30, least=1, most=36_500),
    "UNDO_SECONDS": number("CONVO_UNDO_SECONDS", 30),
    "GUESTS": flag("CONVO_GUESTS", default=DEBUG),
    "SIGN_UP": flag("CONVO_SIGN_UP", default=DEBUG),
    "BROWSABLE_API": text("CONVO_BROWSABLE_API") or ("everyone" if DEBUG else "staff"),
    "KEY_PEPPER": text("CONVO_KEY_PEPPER"),
    "REDIS_URL": redis_db(REDIS_URL, 0) if REDIS_URL else "",
    # The variable by which web servers are told how many processes to start.
    "PROCESSES": whole("WEB_CONCURRENCY", 1, least=1),
    "WINDOW_SECONDS": whole("CONVO_WINDOW_SECONDS", 1800, least=1),
    "LEASE_SECONDS": LEASE_SECONDS,
    "HEARTBEAT_SECONDS": HEARTBEAT_SECONDS,
    "CHECKPOINT_SECONDS": number("CONVO_CHECKPOINT_SECONDS", 1, least=0.01),
    "CANCEL_SECONDS": number("CONVO_CANCEL_SECONDS", 2, least=0.01),
    "QUEUE_SECONDS": number("CONVO_QUEUE_SECONDS", 60, least=0.1),
    "QUEUE_LENGTH": whole("CONVO_QUEUE_LENGTH", 20, least=1),
    "SWEEP_SECONDS": SWEEP_SECONDS,
    "DELIVER": "convo.tasks.send" if CELERY_BROKER_URL else "",
    "TASK_SECONDS": CELERY_TASK_TIME_LIMIT,
    "WORK_ATTEMPTS": whole("CONVO_WORK_ATTEMPTS", 5, least=1, most=30_000),
    "WORK_RETRY_SECONDS": number("CONVO_WORK_RETRY_SECONDS", 30),
    "WORK_LEASE_SECONDS": number("CONVO_WORK_LEASE_SECONDS", 30, least=0.1),
    "WORK_THREADS": whole("CONVO_WORK_THREADS", 2, least=1, most=100),
    "FOLLOW_SECONDS": number("CONVO_FOLLOW_SECONDS", 1, least=0.01),
    "SSE_HEARTBEAT_SECONDS": number("CONVO_SSE_HEARTBEAT_SECONDS", 10, least=0.05),
    "MIRROR_SECONDS": number("CONVO_MIRROR_SECONDS", 0.05, least=0.01),
    "EVENTS_SECONDS": whole("CONVO_EVENTS_SECONDS", 600, least=1),
    "CONNECT_SECONDS": number("CONVO_CONNECT_SECONDS", 3, least=0.01),
    "FIRST_BYTE_SECONDS": number("CONVO_FIRST_BYTE_SECONDS", 30, least=0.01),
    "BETWEEN_CHUNKS_SECONDS": number("CONVO_BETWEEN_CHUNKS_SECONDS", 30, least=0.01),
    "TOTAL_SECONDS": number("CONVO_TOTAL_SECONDS", 600, least=0.01),
    "MAX_REPLY_BYTES": whole("CONVO_MAX_REPLY_BYTES", 4_000_000, least=100),
    "OFFLINE_WORD_SECONDS": number("CONVO_OFFLINE_WORD_SECONDS", 0.02),
}
if CONVO["GUESTS"] and not DEBUG:
    raise ImproperlyConfigured(
        "CONVO_GUESTS lets anybody in and so goes with DEBUG=1 only. Unset one of them."
    )
if CONVO["BROWSABLE_API"] not in {"everyone", "staff", "off"}:
    raise ImproperlyConfigured("CONVO_BROWSABLE_API is none of everyone, staff and off.")
if CONVO["OPENAI_BASE_URL"] and urlsplit(str(CONVO["OPENAI_BASE_URL"])).scheme not in {"http", "https"}:
    raise ImproperlyConfigured(
        "OPENAI_BASE_URL must start with http:// or https://, and usually ends in /v1."
    )

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"convo": {"level": text("LOG_LEVEL", "INFO")}},
}
