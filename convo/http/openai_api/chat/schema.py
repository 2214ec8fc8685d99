"""What the OpenAPI document says of chat completions."""

from convo.http.openai_api.schema import METADATA, Schema, body, given, page, shape

_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_OPEN: Schema = {"type": "object", "additionalProperties": True}
_ROLE: Schema = {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]}
_MESSAGE: Schema = given("role", role=_ROLE, content={})

NEW_COMPLETION = body(
    given(
        "messages",
        "model",
        messages={"type": "array", "items": _MESSAGE, "minItems": 1},
        model={"type": "string", "minLength": 1, "maxLength": 200},
        stream={"type": "boolean", "nullable": True},
        store={"type": "boolean", "nullable": True},
        metadata=METADATA,
        on_busy={"type": "string", "enum": ["reject", "queue", "interrupt"], "nullable": True},
    )
)
COMPLETION: Schema = shape(
    id=_TEXT,
    object=_TEXT,
    created=_WHOLE,
    model=_TEXT,
    choices={"type": "array", "items": _OPEN},
    usage=_OPEN,
)
COMPLETIONS = page(COMPLETION)
MESSAGES = page(given("id", "role", id=_TEXT, role=_TEXT))
CHANGE = body(given("metadata", metadata={**METADATA, "nullable": False}))
DELETED = shape(id=_TEXT, object=_TEXT, deleted={"type": "boolean"})
