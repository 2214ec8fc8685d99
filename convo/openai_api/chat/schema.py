"""OpenAPI schemas of chat completions."""

from convo.http.openapi import ANY_OBJECT, BOOLEAN, INTEGER, STRING, Schema, list_of, object_of
from convo.openai_api.schema import METADATA, body, page, request_object

_ROLE: Schema = {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]}
_MESSAGE: Schema = request_object("role", role=_ROLE, content={})

NEW_COMPLETION = body(
    request_object(
        "messages",
        "model",
        messages=list_of(_MESSAGE, minItems=1),
        model={"type": "string", "minLength": 1, "maxLength": 200},
        stream={"type": "boolean", "nullable": True},
        store={"type": "boolean", "nullable": True},
        metadata=METADATA,
        on_busy={"type": "string", "enum": ["reject", "queue", "interrupt"], "nullable": True},
    )
)
COMPLETION: Schema = object_of(
    id=STRING,
    object=STRING,
    created=INTEGER,
    model=STRING,
    choices=list_of(ANY_OBJECT),
    usage=ANY_OBJECT,
)
COMPLETIONS = page(COMPLETION)
MESSAGES = page(request_object("id", "role", id=STRING, role=STRING))
METADATA_REPLACEMENT = body(request_object("metadata", metadata={**METADATA, "nullable": False}))
DELETED_COMPLETION = object_of(id=STRING, object=STRING, deleted=BOOLEAN)
