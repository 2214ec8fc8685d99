"""Validate requests with pydantic, and turn its errors into OpenAI's, whose `param` is a field's path.

null counts as absent, and unknown fields are ignored. No error of pydantic's quotes a text of the request.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from convo.errors import InvalidRequest, MissingParameter, UnsupportedValue, WrongType
from convo.http.openapi import Schema
from convo.http.strict_json import MAX_DEPTH
from convo.turns import OnBusy

_TYPE_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
# The JSON type that pydantic expected, by the type of its error.
_EXPECTED_TYPES: dict[str, type] = {
    "string_type": str,
    "literal_error": str,
    "enum": str,
    "bool_type": bool,
    "int_type": int,
    "float_type": float,
    "list_type": list,
    "dict_type": dict,
    "model_type": dict,
}
_ERROR_CLASSES = {error_class.code: error_class for error_class in (WrongType, UnsupportedValue)}


class RequestModel(BaseModel):
    """A JSON object in a request. Nothing is converted: `true` is not a number, and `1` is not a string."""

    # Built at its first use, a model costs no time at the start of each process.
    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        schema["additionalProperties"] = True
        for name, field in schema.get("properties", {}).items():
            schema["properties"][name] = _to_openapi(field)
        return reference


@dataclass(frozen=True)
class Checked:
    """Validates an entry by a model and keeps it as it was sent: models take ten times as much memory."""

    model: type[RequestModel]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._check, handler.generate_schema(self.model))

    def _check(self, value: object, validate_entry: core_schema.ValidatorFunctionWrapHandler) -> object:
        validate_entry(value)
        return value


F = TypeVar("F", bound=RequestModel)
T = TypeVar("T")


def json_types(*types: type) -> BeforeValidator:
    """Return a validator of the JSON type: for a union, pydantic would report one error per member."""

    def check(value: object) -> object:
        if type(value) not in types:
            raise custom_error(_mismatch(value, types), WrongType)
        return value

    return BeforeValidator(check)


JsonObject = dict[str, object]
# 20 MB of wrong entries would take a gigabyte if each of them got an error.
Array = Annotated[list[T], Field(fail_fast=True)]
NonEmpty = Annotated[str, Field(min_length=1)]
ModelName = Annotated[str, Field(max_length=200)]
PositiveInteger = Annotated[int, Field(ge=1, le=2**53)]
TextOrArray = Annotated[str | list[Any], json_types(str, list)]
TextOrObject = Annotated[str | JsonObject, json_types(str, dict)]
# In strict mode only a member of an enumeration would do.
OnBusyName = Annotated[OnBusy, Field(strict=False)]
_MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
Metadata = Annotated[
    dict[_MetadataKey, Annotated[str, Field(max_length=512)]], Field(max_length=16, fail_fast=True)
]


class PersonFields(RequestModel):
    """The fields that may name the end user whom a request is about."""

    metadata: Metadata | None = None
    safety_identifier: str | None = None
    user: str | None = None


class _WithType(RequestModel):
    type: str


def validate(model: type[F], value: object, path: str = "") -> F:
    """Return the value at this path as the model, or raise the first error in it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Chained as the cause, it would put the request's text into the logs.
        raise _convo_error(error.errors(include_url=False)[0], path) from None


def validate_by_type(models: Mapping[str, type[RequestModel]], value: object, path: str) -> str:
    """Validate an object by the model for its `type`, and return the type.

    A discriminated union would put pydantic's own names into the paths of errors.
    """
    name = type_of(value, path)
    if name not in models:
        raise unknown_type(path, models)
    validate(models[name], value, path)
    return name


def type_of(value: object, path: str) -> str:
    """Return the `type` of an object, or raise an error if it has none."""
    name = value.get("type") if isinstance(value, dict) else None
    return name if isinstance(name, str) else validate(_WithType, value, path).type


def custom_error(reason: str, error_class: type[InvalidRequest] = InvalidRequest) -> PydanticCustomError:
    """Return an error for a validator to raise; the client gets one of that class, with a period added."""
    return PydanticCustomError(error_class.code, "{reason}", {"reason": reason})


def require_one_of(fields: Mapping[str, object], names: Sequence[str], path: str) -> None:
    if all(fields.get(name) is None for name in names):
        raise invalid(path, f"one of these is required: {', '.join(names)}.")


def missing(path: str) -> MissingParameter:
    return MissingParameter(f"Missing required parameter: '{path}'.", param=path)


def invalid(path: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{path}': {reason}", param=path)


def unknown_type(path: str, types: Iterable[str]) -> InvalidRequest:
    return invalid(f"{path}.type", f"this type is not supported. Expected one of: {', '.join(types)}.")


def without_nulls(fields: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in fields.items() if value is not None}


def check_storable(value: object, path: str, levels_left: int = MAX_DEPTH) -> None:
    """Refuse nesting that is too deep to be written as JSON again."""
    if not isinstance(value, dict | list):
        return
    if levels_left == 0:
        raise invalid(path, f"nested deeper than {MAX_DEPTH} levels.")
    for child in value.values() if isinstance(value, dict) else value:
        check_storable(child, path, levels_left - 1)


def _convo_error(error: ErrorDetails, path: str) -> InvalidRequest:
    location, value, reason = error["loc"], error["input"], error["msg"]
    error_class = _ERROR_CLASSES.get(error["type"], InvalidRequest)
    if len(location) > 2 and location[-1] == "[key]":
        # pydantic reports the error of a key below that key, but OpenAI reports the map.
        location, reason = location[:-2], f"one of its keys is not valid. {reason}"
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in location]
    param = "".join([path, *steps]).removeprefix(".")
    # A field that is null is absent, but an entry of an array is not, nor is one of metadata, the only map
    # whose keys the client chooses.
    is_field = bool(location) and isinstance(location[-1], str) and location[:-1] != ("metadata",)
    if error["type"] == "missing" or (is_field and value is None):
        return missing(param)
    expected_type = _EXPECTED_TYPES.get(error["type"])
    if expected_type and type(value) is not expected_type:
        error_class, reason = WrongType, _mismatch(value, [expected_type])
    return error_class(f"Invalid {repr(param) if param else 'body'}: {reason}.", param=param or None)


def _mismatch(value: object, expected_types: Iterable[type]) -> str:
    expected = " or ".join(_TYPE_NAMES[expected_type] for expected_type in expected_types)
    return f"expected {expected}, but got {_TYPE_NAMES[type(value)]}"


def _to_openapi(field: Schema) -> Schema:
    """Describe a field in OpenAPI 3.0, which lacks the type null, `const` and `propertyNames`."""
    described = {key: value for key, value in field.items() if key not in {"title", "default", "anyOf"}}
    union = field.get("anyOf")
    types = union if isinstance(union, list) else []
    choices = [choice for choice in types if choice != {"type": "null"}]
    described |= {"anyOf": choices} if len(choices) > 1 else (choices[0] if choices else {})
    described.pop("propertyNames", None)
    if "const" in described:
        described["enum"] = [described.pop("const")]
    if choices == types:
        return described
    return {"allOf": [described], "nullable": True} if "$ref" in described else described | {"nullable": True}
