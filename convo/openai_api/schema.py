"""OpenAPI schemas of the OpenAI-compatible API, with the fields that its clients rely on."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.fields import empty

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

F = TypeVar("F", bound=Callable[..., Any])
METADATA: Schema = {"type": "object", "additionalProperties": STRING}


def page(entry: Schema) -> Schema:
    return object_of(
        object=STRING,
        data=list_of(entry),
        first_id=NULLABLE_STRING,
        last_id=NULLABLE_STRING,
        has_more=BOOLEAN,
    )


ITEM: Schema = {**object_of(id=STRING, type=STRING), "additionalProperties": True}
ITEMS = page(ITEM)
CONVERSATION = object_of(id=STRING, object=STRING, created_at=INTEGER, metadata=METADATA)
CONVERSATIONS = page(CONVERSATION)
DELETED = object_of(id=STRING, object=STRING, deleted=BOOLEAN)
MODEL = object_of(id=STRING, object=STRING, created=INTEGER, owned_by=STRING)
MODELS = object_of(object=STRING, data=list_of(MODEL))
_VECTOR: Schema = {"oneOf": [STRING, list_of({"type": "number"})]}
EMBEDDINGS = object_of(
    object=STRING,
    data=list_of(object_of(object=STRING, index=INTEGER, embedding=_VECTOR)),
    model=STRING,
    usage=object_of(prompt_tokens=INTEGER, total_tokens=INTEGER),
)

RESPONSE: Schema = {
    **object_of(
        id=STRING,
        object=STRING,
        created_at=INTEGER,
        status=STRING,
        model=STRING,
        output=list_of(ITEM),
        metadata=METADATA,
    ),
    "additionalProperties": True,
}
TOKEN_COUNT = object_of(object=STRING, input_tokens=INTEGER)
COMPACTION = object_of(id=STRING, object=STRING, created_at=INTEGER, output=list_of(ITEM), usage=ANY_OBJECT)
COMPLETION = object_of(
    id=STRING, object=STRING, created=INTEGER, model=STRING, choices=list_of(ANY_OBJECT), usage=ANY_OBJECT
)
COMPLETIONS = page(COMPLETION)
CHAT_MESSAGES = page({**object_of(id=STRING, role=STRING), "additionalProperties": True})

_COMMON_ERRORS = {
    400: "The request is not valid; `param` names the field.",
    401: "The API key is missing or not valid.",
    403: "The key's scopes don't allow this.",
    404: "Nothing has this id, or it is not yours.",
    503: "The database cannot be reached.",
}
_BODY_ERRORS = {413: "The body is too large.", 415: "The body has a charset other than UTF-8."}
_WRITE_ERRORS = _BODY_ERRORS | {
    409: "The request with this Idempotency-Key is still being processed.",
    410: "The result of this Idempotency-Key has been deleted since.",
}
_UPSTREAM_ERRORS = {
    429: "The model server is rate limiting.",
    502: "The model server failed.",
    504: "The model server took too long.",
}


def operation(
    id: str,
    result: Schema,
    *,
    request: Any = empty,
    parameters: Sequence[OpenApiParameter] = (),
    reads: bool = False,
    writes: bool = False,
    asks: bool = False,
    streams: bool = False,
) -> Callable[[F], F]:
    """Describe an operation of a view: its id and parameters, its result, and the errors that it can give.

    The operation `reads` a body, `writes` under an Idempotency-Key, `asks` a model server, or `streams`
    events.
    """
    descriptions = (
        _COMMON_ERRORS
        | (_BODY_ERRORS if reads else {})
        | (_WRITE_ERRORS if writes else {})
        | (_UPSTREAM_ERRORS if asks else {})
    )
    responses: dict[Any, Any] = {(200, "application/json"): OpenApiResponse(result)}
    if streams:
        events = OpenApiResponse(STRING, description="Server-sent events, if a stream is requested.")
        responses[200, "text/event-stream"] = events
    for status, description in descriptions.items():
        responses[status] = OpenApiResponse(ERROR, description=description)
    return extend_schema(operation_id=id, request=request, parameters=list(parameters), responses=responses)


PAGE_PARAMETERS = [
    OpenApiParameter("after", OpenApiTypes.STR, description="The id of the last entry that you have."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 100; 20 by default."),
    OpenApiParameter("order", OpenApiTypes.STR, description="asc or desc.", enum=["asc", "desc"]),
]
STREAM_PARAMETERS = [
    OpenApiParameter("stream", OpenApiTypes.BOOL, description="Return server-sent events."),
    OpenApiParameter(
        "starting_after", OpenApiTypes.INT, description="Only the events after this sequence number."
    ),
]
INCLUDE_PARAMETER = OpenApiParameter(
    "include[]", list_of({"type": "string"}), description="Accepted and ignored."
)
