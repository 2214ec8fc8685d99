"""What the OpenAPI document says of the OpenAI-compatible API: the shapes that its clients rely on."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from convo.http.rest.schema import ERROR

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "nullable": True}
_WHOLE: Schema = {"type": "integer"}
_YES: Schema = {"type": "boolean"}
_OPEN: Schema = {"type": "object", "additionalProperties": True}
METADATA: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string", "maxLength": 512},
    "maxProperties": 16,
    "nullable": True,
}


def shape(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def given(*required: str, **properties: Schema) -> Schema:
    """A body: what is not required may be left out, and what is not named here is passed over."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": True, **needed}


def page(of: Schema) -> Schema:
    return shape(
        object=_TEXT, data={"type": "array", "items": of}, first_id=_NAME, last_id=_NAME, has_more=_YES
    )


def body(of: Schema) -> dict[str, Schema]:
    return {"application/json": of}


_ITEMS: Schema = {"type": "array", "items": _OPEN, "maxItems": 20}
ITEM: Schema = {**shape(id=_TEXT, type=_TEXT), "additionalProperties": True}
ITEMS = page(ITEM)
CONVERSATION = shape(id=_TEXT, object=_TEXT, created_at=_WHOLE, metadata={**METADATA, "nullable": False})
CONVERSATIONS = page(CONVERSATION)
DELETED_CONVERSATION = shape(id=_TEXT, object=_TEXT, deleted=_YES)
NEW_CONVERSATION = body(given(items={**_ITEMS, "nullable": True}, metadata=METADATA))
METADATA_CHANGE = body(given(metadata=METADATA))
NEW_ITEMS = body(given("items", items={**_ITEMS, "minItems": 1}))
MODEL = shape(id=_TEXT, object=_TEXT, created=_WHOLE, owned_by=_TEXT)
MODELS = shape(object=_TEXT, data={"type": "array", "items": MODEL})
NEW_EMBEDDINGS = body(
    given(
        "input",
        "model",
        input={"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2048}]},
        model=_TEXT,
        encoding_format={"type": "string", "enum": ["float", "base64"]},
        dimensions={"type": "integer", "minimum": 1},
        user=_TEXT,
    )
)
_VECTOR: Schema = {"oneOf": [_TEXT, {"type": "array", "items": {"type": "number"}}]}
EMBEDDINGS = shape(
    object=_TEXT,
    data={"type": "array", "items": shape(object=_TEXT, index=_WHOLE, embedding=_VECTOR)},
    model=_TEXT,
    usage=shape(prompt_tokens=_WHOLE, total_tokens=_WHOLE),
)

RESPONSE: Schema = {
    **shape(
        id=_TEXT,
        object=_TEXT,
        created_at=_WHOLE,
        status=_TEXT,
        model=_TEXT,
        output={"type": "array", "items": ITEM},
        metadata={**METADATA, "nullable": False},
    ),
    "additionalProperties": True,
}
DELETED_RESPONSE = shape(id=_TEXT, object=_TEXT, deleted=_YES)
CONTEXT: Schema = {**_OPEN}
_INPUT: Schema = {"oneOf": [_TEXT, {"type": "array", "items": _OPEN, "minItems": 1}]}
NEW_RESPONSE = body(
    given(
        "input",
        input=_INPUT,
        model=_TEXT,
        instructions=_NAME,
        conversation={"oneOf": [_TEXT, shape(id=_TEXT)], "nullable": True},
        previous_response_id=_NAME,
        store={**_YES, "nullable": True},
        stream={**_YES, "nullable": True},
        background={**_YES, "nullable": True},
        metadata=METADATA,
        tools={"type": "array", "items": _OPEN},
        max_output_tokens={**_WHOLE, "minimum": 1, "nullable": True},
        temperature={"type": "number", "minimum": 0, "maximum": 2, "nullable": True},
        top_p={"type": "number", "minimum": 0, "maximum": 1, "nullable": True},
    )
)
COUNTED = shape(object=_TEXT, input_tokens=_WHOLE)
COMPACTED = body(given("model", model=_TEXT, input=_INPUT, instructions=_NAME, previous_response_id=_NAME))
COMPACTION = shape(
    id=_TEXT, object=_TEXT, created_at=_WHOLE, output={"type": "array", "items": ITEM}, usage=_OPEN
)

_REFUSALS = {
    400: "Something in the request is not valid; `param` points at it.",
    401: "No key, or none that is valid.",
    403: "The key's scopes don't cover this.",
    404: "Nothing is there, or it is not yours.",
    503: "The database is out of reach.",
}
_READS = {
    413: "The body is too large.",
    415: "The body names another charset than UTF-8.",
}
_WRITES = _READS | {
    409: "The request with this Idempotency-Key is still being answered.",
    410: "What this Idempotency-Key wrote has been deleted since.",
}
_UPSTREAM = {
    429: "The model server is rate limiting.",
    502: "The model server failed.",
    504: "The model server took too long.",
}


def answers(
    of: Schema, *, reads: bool = False, writes: bool = False, asks: bool = False, streams: bool = False
) -> dict[Any, Any]:
    """The answers of a call: what it gives, and the errors that it can have."""
    told = _REFUSALS | (_READS if reads else {}) | (_WRITES if writes else {}) | (_UPSTREAM if asks else {})
    errors = {status: OpenApiResponse(ERROR, description=why) for status, why in told.items()}
    if not streams:
        return {200: OpenApiResponse(of), **errors}
    events = OpenApiResponse(_TEXT, description="Its events, where a stream is asked for.")
    return {(200, "application/json"): OpenApiResponse(of), (200, "text/event-stream"): events, **errors}


PAGE = [
    OpenApiParameter("after", OpenApiTypes.STR, description="The id of the last entry that you have."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 100; 20 when left out."),
    OpenApiParameter("order", OpenApiTypes.STR, description="asc or desc.", enum=["asc", "desc"]),
]
STREAMED = [
    OpenApiParameter("stream", OpenApiTypes.BOOL, description="As events."),
    OpenApiParameter("starting_after", OpenApiTypes.INT, description="Only the events behind this number."),
]
INCLUDE = OpenApiParameter(
    "include[]", {"type": "array", "items": {"type": "string"}}, description="Taken, and passed over."
)
