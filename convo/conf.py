"""`settings.CONVO`, the only setting of a project that is Convo's own, as a typed value with defaults."""

from dataclasses import dataclass, fields

from django.conf import settings
from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, kw_only=True)
class Conf:
    """The options of an operator; each field is a key of `settings.CONVO` in capitals."""

    agents_file: str = ""
    model: str = ""
    background_model: str = ""
    embedding_model: str = ""
    openai_api_key: str = ""
    openai_base_url: str = ""
    max_body: int = 20_000_000
    max_text_file: int = 200_000
    context_tokens: int = 128_000
    chain_days: int = 30
    undo_seconds: float = 30.0
    guests: bool = False
    sign_up: bool = False
    browsable_api: str = "staff"
    key_pepper: str = ""
    redis_url: str = ""
    window_seconds: int = 1800
    processes: int = 1
    request_threads: int = 200
    lease_seconds: float = 15.0
    heartbeat_seconds: float = 0.5
    checkpoint_seconds: float = 0.5
    sweep_seconds: float = 15.0
    deliver: str = ""
    task_seconds: float = 120.0
    work_attempts: int = 5
    work_retry_seconds: float = 30.0
    work_lease_seconds: float = 30.0
    work_threads: int = 2
    overdue_seconds: float = 120.0
    cancel_seconds: float = 2.0
    queue_seconds: float = 60.0
    queue_length: int = 20
    follow_seconds: float = 1.0
    sse_heartbeat_seconds: float = 10.0
    credentials_seconds: float = 10.0
    mirror_seconds: float = 0.05
    events_seconds: int = 600
    connect_seconds: float = 3.0
    first_byte_seconds: float = 30.0
    between_chunks_seconds: float = 30.0
    total_seconds: float = 600.0
    max_reply_bytes: int = 4_000_000
    offline_word_seconds: float = 0.02

    @property
    def offline(self) -> bool:
        """True if no model server is configured, so that the built-in responder answers."""
        return not (self.openai_api_key or self.openai_base_url)

    @property
    def default_model(self) -> str:
        return "offline" if self.offline else self.model or "gpt-6-luna"


_FIELD_NAMES = {field.name for field in fields(Conf)}
_current: tuple[dict[str, object] | None, Conf] = (None, Conf())


def conf() -> Conf:
    """Return the configuration; it is read again only when `settings.CONVO` is another dict."""
    global _current
    options = getattr(settings, "CONVO", {})
    if _current[0] is not options:
        unknown_keys = [key for key in options if key.lower() not in _FIELD_NAMES or key != key.upper()]
        if unknown_keys:
            raise ImproperlyConfigured(
                f"settings.CONVO has an unknown key, {unknown_keys[0]!r}. "
                f"Its keys are: {', '.join(sorted(_FIELD_NAMES)).upper()}."
            )
        _current = (options, Conf(**{key.lower(): value for key, value in options.items()}))
    return _current[1]


def ephemeral_cache() -> str:
    """Return the name of the cache for temporary chats: `ephemeral` if there is one, else `default`."""
    return "ephemeral" if "ephemeral" in settings.CACHES else "default"


def check_processes(**_: object) -> list[Error]:
    """Report processes that share no cache: each would have only a part of a temporary chat."""
    is_shared = "locmem" not in settings.CACHES[ephemeral_cache()]["BACKEND"]
    if is_shared or conf().processes == 1:
        return []
    message = (
        f"{conf().processes} processes without a shared cache cannot find each other's temporary chats. "
        "Set REDIS_URL, or serve with one process (WEB_CONCURRENCY=1)."
    )
    return [Error(message, id="convo.E002")]
