"""What the OpenAPI document says of answers and parameters, where no serializer says it."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

Schema = dict[str, Any]


class Described(AutoSchema):
    """Every answer says here what it is; a page of a list is an object, and no array of pages."""

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False


_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "nullable": True}
_WHOLE: Schema = {"type": "integer"}
_COUNT: Schema = {"type": "integer", "nullable": True}
_YES: Schema = {"type": "boolean"}
_WHEN: Schema = {"type": "string", "format": "date-time"}
_MAYBE: Schema = {**_WHEN, "nullable": True}
_ID: Schema = {"type": "string", "format": "uuid"}
_OPEN: Schema = {"type": "object", "additionalProperties": True}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _page(of: Schema) -> Schema:
    return _object(results=_list(of), next=_NAME, previous=_NAME)


ERROR = _object(error=_object(message=_TEXT, type=_TEXT, param=_NAME, code=_NAME))
SESSION = _object(
    id=_ID,
    ref=_NAME,
    user=_NAME,
    agent=_TEXT,
    title=_TEXT,
    metadata=_OPEN,
    state=_TEXT,
    storage=_TEXT,
    is_active=_YES,
    message_count=_WHOLE,
    turn_count=_WHOLE,
    token_count=_WHOLE,
    created_at=_WHEN,
    last_activity=_WHEN,
)
_FILE = _object(name=_TEXT, mime=_TEXT, size=_WHOLE, url=_NAME, is_image=_YES, width=_COUNT, height=_COUNT)
MESSAGE = _object(
    position=_WHOLE,
    id=_TEXT,
    type=_TEXT,
    role=_TEXT,
    content=_TEXT,
    item={**_OPEN, "nullable": True},
    files=_list(_FILE),
    name=_NAME,
    agent=_NAME,
    tokens=_WHOLE,
    turn=_WHOLE,
    created_at=_WHEN,
)
OPINION = _object(value=_NAME, note=_TEXT, created_at=_MAYBE)
TURN = _object(
    id=_ID,
    number=_WHOLE,
    kind=_TEXT,
    status=_TEXT,
    agent=_TEXT,
    model=_NAME,
    offline=_YES,
    error={**_OPEN, "nullable": True},
    usage=_object(input_tokens=_COUNT, output_tokens=_COUNT, cached_tokens=_COUNT),
    feedback={**OPINION, "nullable": True},
    created_at=_WHEN,
    started_at=_MAYBE,
    first_token_at=_MAYBE,
    finished_at=_MAYBE,
)
ANSWER = _object(session=_ID, turn=TURN, message={**MESSAGE, "nullable": True}, messages=_list(MESSAGE))
SESSIONS, HISTORY, APPENDED = _page(SESSION), _page(MESSAGE), _object(results=_list(MESSAGE))
TURNS = _page(TURN)
WHOLE_TURN = _object(
    **TURN["properties"],
    messages=_list(MESSAGE),
    manifest={**_OPEN, "nullable": True},
    alternatives=_list(_WHOLE),
)
MEMORY = _object(
    id=_ID,
    user=_NAME,
    kind=_TEXT,
    slot=_NAME,
    text=_TEXT,
    confidence={"type": "number"},
    status=_TEXT,
    pinned=_YES,
    source=_TEXT,
    valid_from=_WHEN,
    valid_to=_MAYBE,
    superseded_by={**_ID, "nullable": True},
)
_EVIDENCE = _object(message=_TEXT, session=_ID, turn=_WHOLE, position=_WHOLE, text=_TEXT, created_at=_WHEN)
EXPLAINED_MEMORY: Schema = {
    **MEMORY,
    "properties": {**MEMORY["properties"], "evidence": _list(_EVIDENCE)},
}
MEMORIES, FACT_HISTORY = _page(MEMORY), _object(results=_list(MEMORY))
FORGOTTEN, RULES = _object(forgotten=_WHOLE), _object(rules=_list(_TEXT))
# Messages or one text, as `form` says.
PROMPT = _object(messages=_list(_OPEN), text=_TEXT, manifest=_OPEN) | {"required": ["manifest"]}
REPLAY = _object(
    budget=_WHOLE,
    total=_WHOLE,
    counted_by=_TEXT,
    reply_overhead=_WHOLE,
    parts=_list(_OPEN),
    left_out=_list(_OPEN),
)

_LINE = _object(position=_WHOLE, role=_TEXT, name=_NAME, text=_TEXT)
FOUND = _object(
    session=_ID,
    turn=_WHOLE,
    position=_WHOLE,
    id=_TEXT,
    role=_TEXT,
    name=_NAME,
    text=_TEXT,
    highlights=_list(_object(start=_WHOLE, end=_WHOLE)),
    score={"type": "number"},
    score_parts={"type": "object", "additionalProperties": {"type": "number"}},
    before=_list(_LINE),
    after=_list(_LINE),
    created_at=_WHEN,
    links=_object(session=_TEXT, message=_TEXT),
)

_TIMES = _object(p50=_COUNT, p95=_COUNT)
_USED = {
    **dict.fromkeys(("turns", "failed", "input_tokens", "output_tokens", "cached_tokens"), _WHOLE),
    "errors": {"type": "object", "additionalProperties": _WHOLE},
    "first_token_ms": _TIMES,
    "duration_ms": _TIMES,
}
USAGE = _object(
    total=_object(**_USED),
    days=_list(_object(day={"type": "string", "format": "date"}, **_USED)),
    agents=_list(_object(agent=_TEXT, **_USED)),
    models=_list(_object(model=_NAME, **_USED)),
)

_REFUSALS = {
    400: "Something in the request is not valid; `param` points at it.",
    401: "No credentials, or none that are valid.",
    403: "The key's scopes don't cover this, or the CSRF token is missing.",
    404: "Nothing is there, or it is not yours.",
    406: "`Accept` or `format` names no form that this comes in.",
    503: "The database is out of reach.",
}
_CONFLICTS = {
    409: "A turn is running, the session is not open, or the key is in use. See Retry-After.",
    410: "What this Idempotency-Key wrote has been deleted since.",
    413: "The body or the message is too long.",
    415: "The body is neither JSON nor a form.",
    422: "This Idempotency-Key was used for another request.",
}
_UPSTREAM = {
    429: "The model server is rate limiting.",
    502: "The model server failed; the question is kept.",
    503: "The server is stopping, or its database is out of reach.",
    504: "The model server took too long; the question is kept.",
}


def answers(
    shape: Schema | None, *, status: int = 200, writes: bool = False, asks: bool = False, finds: bool = False
) -> dict[Any, Any]:
    """The answers of a call: what it gives, or finds in place of making it, and the errors it can have."""
    told = _REFUSALS | (_CONFLICTS if writes else {}) | (_UPSTREAM if asks else {})
    good: dict[Any, Any] = {status: OpenApiResponse(shape) if shape else None}
    if asks:
        good = {(status, "application/json"): OpenApiResponse(shape), **_STREAM}
    if finds:
        good[200] = OpenApiResponse(shape, description="It was there already.")
    return good | _told(told)


def _told(refusals: dict[int, str]) -> dict[Any, Any]:
    return {status: OpenApiResponse(ERROR, description=why) for status, why in refusals.items()}


_STREAM: dict[Any, Any] = {
    (200, "text/event-stream"): OpenApiResponse(
        _TEXT, description="Events: turn.started, delta (`{text}`), usage, turn.completed or error."
    )
}
EVENTS = _STREAM | _told(_REFUSALS)


CONTEXT_ANSWERS = answers(PROMPT) | _told({413: "The query does not fit into the budget by itself."})
SEARCH_ANSWERS = answers(_object(results=_list(FOUND))) | _told({409: "The session keeps no readable text."})


def _parameter(name: str, kind: Any, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, kind, description=description, **options)


_PAGE_SIZE = _parameter("page_size", OpenApiTypes.INT, "1 to 100; 20 when left out.")
_USER = _parameter("user", OpenApiTypes.STR, "Only what belongs to this end user.")
SESSION_ID = _parameter("session", OpenApiTypes.UUID, "The session's id.", location=OpenApiParameter.PATH)
LIST_PARAMETERS = [
    _parameter("agent", OpenApiTypes.STR, "Only sessions with this agent."),
    _parameter("state", OpenApiTypes.STR, "open, archived or closed.", enum=["open", "archived", "closed"]),
    _parameter("q", OpenApiTypes.STR, "Words of the title."),
    _parameter("active_after", OpenApiTypes.DATETIME, "Active after this moment."),
    _parameter("active_before", OpenApiTypes.DATETIME, "Active before this moment."),
    _parameter("cursor", OpenApiTypes.STR, "From `next` or `previous`."),
    _PAGE_SIZE,
    _USER,
]
MEMORIES_PARAMETERS = [
    _parameter(
        "status",
        OpenApiTypes.STR,
        "active (when left out), needs_review or superseded.",
        enum=["active", "needs_review", "superseded"],
    ),
    _parameter("kind", OpenApiTypes.STR, "Only facts of this kind."),
    _parameter("q", OpenApiTypes.STR, "Words of the text."),
    _parameter("cursor", OpenApiTypes.STR, "From `next` or `previous`."),
    _PAGE_SIZE,
    _USER,
]
EXPLAIN_PARAMETERS = [
    _parameter("explain", OpenApiTypes.STR, "1 adds the messages it was learned from.", enum=["0", "1"]),
    _USER,
]
TURNS_PARAMETERS = [
    _parameter("cursor", OpenApiTypes.STR, "From `next` or `previous`."),
    _PAGE_SIZE,
    _USER,
]
EVENTS_PARAMETERS = [
    _parameter("after", OpenApiTypes.INT, "Only events behind this one, as with the header Last-Event-ID."),
    _USER,
]
HISTORY_PARAMETERS = [
    _parameter("after", OpenApiTypes.INT, "Only messages after this position."),
    _parameter("before", OpenApiTypes.INT, "Only messages before this position."),
    _parameter("order", OpenApiTypes.STR, "asc (oldest first) or desc.", enum=["asc", "desc"]),
    _PAGE_SIZE,
    _USER,
]
SEARCH_PARAMETERS = [
    _parameter(
        "q", OpenApiTypes.STR, "What to look for: words or a question, up to 1000 characters.", required=True
    ),
    _parameter("session", OpenApiTypes.UUID, "Only in this session."),
    _parameter("agent", OpenApiTypes.STR, "Only turns of this agent."),
    _parameter("after", OpenApiTypes.DATETIME, "Only what was said after this moment."),
    _parameter("before", OpenApiTypes.DATETIME, "Only what was said before this moment."),
    _PAGE_SIZE,
    _USER,
]
USAGE_PARAMETERS = [
    _parameter("days", OpenApiTypes.INT, "1 to 90, today included; 30 when left out."),
    _parameter("agent", OpenApiTypes.STR, "Only turns of this agent."),
    _parameter("model", OpenApiTypes.STR, "Only turns with this model."),
    _USER,
]
CONTEXT_PARAMETERS = [
    _parameter("query", OpenApiTypes.STR, "The question to assemble the prompt for."),
    _parameter("max_tokens", OpenApiTypes.INT, "The budget; the agent's when left out."),
    _parameter("agent", OpenApiTypes.STR, "The agent; the session's when left out."),
    _parameter("form", OpenApiTypes.STR, "`messages`, or one string: `text` with the query, `planning`."),
    _USER,
]


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tells the OpenAPI document how keys are sent."""

    target_class = "convo.http.auth.KeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {"type": "http", "scheme": "bearer", "description": "A key of `manage.py create_key`."}
