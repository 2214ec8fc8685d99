"""The OpenAPI document's responses and parameters, which no serializer describes."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from convo.http.openapi import (
    ANY_OBJECT,
    BOOLEAN,
    ERROR,
    INTEGER,
    NULLABLE_STRING,
    STRING,
    Schema,
    list_of,
    object_of,
)

# The responses of a call by status, or by status and media type.
Responses = dict[int | tuple[int, str], OpenApiResponse | None]

_INT_OR_NULL: Schema = {"type": "integer", "nullable": True}
_DATETIME: Schema = {"type": "string", "format": "date-time"}
_DATETIME_OR_NULL: Schema = {**_DATETIME, "nullable": True}
_UUID: Schema = {"type": "string", "format": "uuid"}


def _page(entry: Schema) -> Schema:
    return object_of(results=list_of(entry), next=NULLABLE_STRING, previous=NULLABLE_STRING)


SESSION = object_of(
    id=_UUID,
    ref=NULLABLE_STRING,
    user=NULLABLE_STRING,
    agent=STRING,
    title=STRING,
    metadata=ANY_OBJECT,
    state=STRING,
    storage=STRING,
    is_active=BOOLEAN,
    message_count=INTEGER,
    turn_count=INTEGER,
    token_count=INTEGER,
    created_at=_DATETIME,
    last_activity=_DATETIME,
)
_FILE = object_of(
    name=STRING,
    mime=STRING,
    size=INTEGER,
    url=NULLABLE_STRING,
    is_image=BOOLEAN,
    width=_INT_OR_NULL,
    height=_INT_OR_NULL,
)
MESSAGE = object_of(
    position=INTEGER,
    id=STRING,
    type=STRING,
    role=STRING,
    content=STRING,
    item={**ANY_OBJECT, "nullable": True},
    files=list_of(_FILE),
    name=NULLABLE_STRING,
    agent=NULLABLE_STRING,
    tokens=INTEGER,
    turn=INTEGER,
    created_at=_DATETIME,
)
FEEDBACK = object_of(value=NULLABLE_STRING, note=STRING, created_at=_DATETIME_OR_NULL)
_TURN_FIELDS: dict[str, Schema] = {
    "id": _UUID,
    "number": INTEGER,
    "kind": STRING,
    "status": STRING,
    "agent": STRING,
    "model": NULLABLE_STRING,
    "offline": BOOLEAN,
    "error": {**ANY_OBJECT, "nullable": True},
    "usage": object_of(input_tokens=_INT_OR_NULL, output_tokens=_INT_OR_NULL, cached_tokens=_INT_OR_NULL),
    "feedback": {**FEEDBACK, "nullable": True},
    "created_at": _DATETIME,
    "started_at": _DATETIME_OR_NULL,
    "first_token_at": _DATETIME_OR_NULL,
    "finished_at": _DATETIME_OR_NULL,
}
TURN = object_of(**_TURN_FIELDS)
REPLY = object_of(session=_UUID, turn=TURN, message={**MESSAGE, "nullable": True}, messages=list_of(MESSAGE))
SESSIONS, HISTORY, APPENDED_MESSAGES = _page(SESSION), _page(MESSAGE), object_of(results=list_of(MESSAGE))
TURNS = _page(TURN)
TURN_DETAIL = object_of(
    **_TURN_FIELDS,
    messages=list_of(MESSAGE),
    manifest={**ANY_OBJECT, "nullable": True},
    alternatives=list_of(INTEGER),
)
_MEMORY_FIELDS: dict[str, Schema] = {
    "id": _UUID,
    "user": NULLABLE_STRING,
    "kind": STRING,
    "slot": NULLABLE_STRING,
    "text": STRING,
    "confidence": {"type": "number"},
    "status": STRING,
    "pinned": BOOLEAN,
    "source": STRING,
    "valid_from": _DATETIME,
    "valid_to": _DATETIME_OR_NULL,
    "superseded_by": {**_UUID, "nullable": True},
}
MEMORY = object_of(**_MEMORY_FIELDS)
_EVIDENCE = object_of(
    message=STRING, session=_UUID, turn=INTEGER, position=INTEGER, text=STRING, created_at=_DATETIME
)
EXPLAINED_MEMORY: Schema = {**MEMORY, "properties": {**_MEMORY_FIELDS, "evidence": list_of(_EVIDENCE)}}
MEMORIES, FACT_HISTORY = _page(MEMORY), object_of(results=list_of(MEMORY))
FORGOTTEN_COUNT, RULES = object_of(forgotten=INTEGER), object_of(rules=list_of(STRING))
# The parameter `form` decides between `messages` and `text`.
PROMPT = object_of(messages=list_of(ANY_OBJECT), text=STRING, manifest=ANY_OBJECT) | {
    "required": ["manifest"]
}
PROMPT_PARTS = object_of(
    budget=INTEGER,
    total=INTEGER,
    counted_by=STRING,
    reply_overhead=INTEGER,
    parts=list_of(ANY_OBJECT),
    left_out=list_of(ANY_OBJECT),
)

_NEIGHBOUR = object_of(position=INTEGER, role=STRING, name=NULLABLE_STRING, text=STRING)
SEARCH_RESULT = object_of(
    session=_UUID,
    turn=INTEGER,
    position=INTEGER,
    id=STRING,
    role=STRING,
    name=NULLABLE_STRING,
    text=STRING,
    highlights=list_of(object_of(start=INTEGER, end=INTEGER)),
    score={"type": "number"},
    score_parts={"type": "object", "additionalProperties": {"type": "number"}},
    before=list_of(_NEIGHBOUR),
    after=list_of(_NEIGHBOUR),
    created_at=_DATETIME,
    links=object_of(session=STRING, message=STRING),
)

_PERCENTILES = object_of(p50=_INT_OR_NULL, p95=_INT_OR_NULL)
_FIGURES: dict[str, Schema] = {
    **dict.fromkeys(("turns", "failed", "input_tokens", "output_tokens", "cached_tokens"), INTEGER),
    "errors": {"type": "object", "additionalProperties": INTEGER},
    "first_token_ms": _PERCENTILES,
    "duration_ms": _PERCENTILES,
}
USAGE = object_of(
    total=object_of(**_FIGURES),
    days=list_of(object_of(day={"type": "string", "format": "date"}, **_FIGURES)),
    agents=list_of(object_of(agent=STRING, **_FIGURES)),
    models=list_of(object_of(model=NULLABLE_STRING, **_FIGURES)),
)

_COMMON_ERRORS = {
    400: "Something in the request is not valid; `param` points at it.",
    401: "Credentials are missing or not valid.",
    403: "The key's scopes don't cover this, or the CSRF token is missing.",
    404: "It does not exist, or it is not yours.",
    406: "`Accept` or `format` asks for a representation that this URL does not have.",
    503: "The database cannot be reached.",
}
_WRITE_ERRORS = {
    409: "A turn is running, the session is not open, or the key is in use. See Retry-After.",
    410: "The result of the request with this Idempotency-Key was deleted.",
    413: "The body or the message is too long.",
    415: "The body is neither JSON nor a form.",
    422: "This Idempotency-Key was used for another request.",
}
_UPSTREAM_ERRORS = {
    429: "The model server is rate limiting.",
    502: "The model server failed; the question is kept.",
    503: "The server is stopping, or its database is out of reach.",
    504: "The model server took too long; the question is kept.",
}


def responses(
    shape: Schema | None, *, status: int = 200, writes: bool = False, asks: bool = False, finds: bool = False
) -> Responses:
    """Return the responses of a call: its result, an existing object if it `finds` one, and its errors."""
    descriptions = _COMMON_ERRORS | (_WRITE_ERRORS if writes else {}) | (_UPSTREAM_ERRORS if asks else {})
    results: Responses = {status: OpenApiResponse(shape) if shape else None}
    if asks:
        results = {(status, "application/json"): OpenApiResponse(shape), **_EVENT_STREAM}
    if finds:
        results[200] = OpenApiResponse(shape, description="It existed already.")
    return results | _errors(descriptions)


def _errors(descriptions: dict[int, str]) -> Responses:
    return {status: OpenApiResponse(ERROR, description=text) for status, text in descriptions.items()}


_EVENT_STREAM: Responses = {
    (200, "text/event-stream"): OpenApiResponse(
        STRING, description="Events: turn.started, delta (`{text}`), usage, turn.completed or error."
    )
}
EVENTS = _EVENT_STREAM | _errors(_COMMON_ERRORS)


CONTEXT_RESPONSES = responses(PROMPT) | _errors({413: "The query does not fit into the budget by itself."})
SEARCH_RESPONSES = responses(object_of(results=list_of(SEARCH_RESULT))) | _errors(
    {409: "The session stores no readable text."}
)


def _parameter(name: str, kind: OpenApiTypes, text: str, enum: list[str] | None = None) -> OpenApiParameter:
    return OpenApiParameter(name, kind, description=text, enum=enum)


_PAGE_SIZE = _parameter("page_size", OpenApiTypes.INT, "1 to 100; 20 when left out.")
_USER = _parameter("user", OpenApiTypes.STR, "Only what belongs to this end user.")
SESSION_ID = OpenApiParameter(
    "session", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The session's id."
)
LIST_PARAMETERS = [
    _parameter("agent", OpenApiTypes.STR, "Only sessions with this agent."),
    _parameter("state", OpenApiTypes.STR, "open, archived or closed.", enum=["open", "archived", "closed"]),
    _parameter("q", OpenApiTypes.STR, "Words in the title."),
    _parameter("active_after", OpenApiTypes.DATETIME, "Active after this moment."),
    _parameter("active_before", OpenApiTypes.DATETIME, "Active before this moment."),
    _parameter("cursor", OpenApiTypes.STR, "A cursor from `next` or `previous`."),
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
    _parameter("q", OpenApiTypes.STR, "Words in the text."),
    _parameter("cursor", OpenApiTypes.STR, "A cursor from `next` or `previous`."),
    _PAGE_SIZE,
    _USER,
]
EXPLAIN_PARAMETERS = [
    _parameter("explain", OpenApiTypes.STR, "1 adds the messages it was learned from.", enum=["0", "1"]),
    _USER,
]
TURNS_PARAMETERS = [
    _parameter("cursor", OpenApiTypes.STR, "A cursor from `next` or `previous`."),
    _PAGE_SIZE,
    _USER,
]
EVENTS_PARAMETERS = [
    _parameter("after", OpenApiTypes.INT, "Only events after this one, as with the header Last-Event-ID."),
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
    OpenApiParameter("q", required=True, description="Words or a question, up to 1000 characters."),
    _parameter("session", OpenApiTypes.UUID, "Only in this session."),
    _parameter("agent", OpenApiTypes.STR, "Only turns of this agent."),
    _parameter("after", OpenApiTypes.DATETIME, "Only messages after this moment."),
    _parameter("before", OpenApiTypes.DATETIME, "Only messages before this moment."),
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
    _parameter("form", OpenApiTypes.STR, "`messages`, or one string: `text` or `planning` (no query)."),
    _USER,
]


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes to drf-spectacular how API keys are sent."""

    target_class = "convo.http.auth.KeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {"type": "http", "scheme": "bearer", "description": "A key from `manage.py create_key`."}
