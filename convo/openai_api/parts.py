"""The parts of a message's content: validated when they come in, completed when they go out."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from convo.history.files import check_part
from convo.openai_api.validation import (
    Array,
    JsonObject,
    RequestModel,
    require_one_of,
    validate_by_type,
    without_nulls,
)

TEXT_TYPES = {"input_text", "output_text", "text"}
Detail = Literal["auto", "low", "high", "original"]


class TextPart(RequestModel):
    """A text: of the user, of the model, or of its reasoning."""

    text: str


class RefusalPart(RequestModel):
    """The model's words when it refuses."""

    refusal: str


class _OutputText(TextPart):
    annotations: Array[JsonObject] | None = None
    logprobs: Array[JsonObject] | None = None


class _InputImage(RequestModel):
    detail: Detail | None = None
    image_url: str | None = None
    file_id: str | None = None


class _InputFile(RequestModel):
    filename: str | None = None
    detail: Detail | None = None
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None


_MODELS: dict[str, type[RequestModel]] = {
    "input_text": TextPart,
    "output_text": _OutputText,
    "text": TextPart,
    "refusal": RefusalPart,
    "input_image": _InputImage,
    "input_file": _InputFile,
    "summary_text": TextPart,
    "reasoning_text": TextPart,
    "computer_screenshot": _InputImage,
}
# At least one of these fields must hold the image or file.
_SOURCES = {
    "input_image": ("image_url", "file_id"),
    "computer_screenshot": ("image_url", "file_id"),
    "input_file": ("file_data", "file_id", "file_url"),
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "output_text": {"annotations": [], "logprobs": []},
    "input_image": {"detail": "auto"},
    "computer_screenshot": {"detail": "auto"},
}


def validate_parts(parts: Sequence[Any], path: str) -> list[dict[str, Any]]:
    """Validate these parts and add defaults: each must have a known type and the type's fields."""
    return [_validate_part(part, f"{path}[{index}]") for index, part in enumerate(parts)]


def with_defaults(parts: Sequence[Any]) -> list[Any]:
    """Add the fields that clients require, whichever API stored the parts."""
    return [
        {**_DEFAULTS.get(str(part.get("type")), {}), **part} for part in parts if isinstance(part, Mapping)
    ]


def text_part(role: str, content: str) -> dict[str, Any]:
    """Return plain text as the only part of a message with this role."""
    if role == "assistant":
        return {"type": "output_text", "text": content, **_DEFAULTS["output_text"]}
    return {"type": "input_text", "text": content}


def text_of(value: object) -> str:
    """Return the text of a list of parts, or of a plain string."""
    if isinstance(value, str):
        return value
    parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
    strings = [part.get("text") or part.get("refusal") for part in parts]
    return "\n".join(string for string in strings if isinstance(string, str))


def is_plain(part: Mapping[str, Any]) -> bool:
    other_values = [value for key, value in part.items() if key not in {"type", "text"}]
    return part["type"] in TEXT_TYPES and not any(other_values)


def _validate_part(part: Any, path: str) -> dict[str, Any]:
    part_type = validate_by_type(_MODELS, part, path)
    if part_type in _SOURCES:
        require_one_of(part, _SOURCES[part_type], path)
        check_part(part, path)
    return {**_DEFAULTS.get(part_type, {}), **without_nulls(part)}
