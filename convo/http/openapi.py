"""The parts that the OpenAPI descriptions of both APIs share: basic types, the schema of an error, tags."""

import re

from drf_spectacular.openapi import AutoSchema

from convo.http.auth import scope_for

Schema = dict[str, object]

STRING: Schema = {"type": "string"}
NULLABLE_STRING: Schema = {"type": "string", "nullable": True}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object", "additionalProperties": True}

# Messages and turns have tags of their own, although their addresses begin with a session.
_RESOURCE = re.compile(r"/(api/)?v1/(?:sessions/\{session\}/)?(chat/completions|\w+)")


def object_of(**properties: Schema) -> Schema:
    """Return the schema of an object with these properties, all of them required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_of(entry: Schema, **limits: int) -> Schema:
    """Return the schema of an array of such entries, with limits such as `maxItems`."""
    return {"type": "array", "items": entry, **limits}


ERROR = object_of(error=object_of(message=STRING, type=STRING, param=NULLABLE_STRING, code=NULLABLE_STRING))


class ConvoAutoSchema(AutoSchema):
    """A schema whose lists are objects with `results`, as their responses declare them, and no arrays."""

    def _is_list_view(self, serializer: object = None) -> bool:
        return False

    def get_tags(self) -> list[str]:
        """Tag a call with the resource in its address; OpenAI's API has tags of its own."""
        is_rest_api, resource = _RESOURCE.search(self.path).groups()  # type: ignore[union-attr]
        return [resource if is_rest_api else f"OpenAI {resource.replace('/', ' ')}"]

    # drf-spectacular calls this without the arguments that REST framework's method of this name takes.
    def get_description(self) -> str:  # type: ignore[override]
        scope = scope_for(self.view, self.method)
        return f"{super().get_description()}\n\nA key needs the scope `{scope}`."
