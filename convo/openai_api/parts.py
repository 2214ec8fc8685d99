"""The parts of a message's content: validated when they come in, completed when they go out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convo.history.files import check_part
from convo.openai_api.body import Body, invalid, wrong_type

TEXT_TYPES = {"input_text", "output_text", "text"}
_DETAILS = ("auto", "low", "high", "original")


def validate_parts(value: object, path: str) -> list[dict[str, Any]]:
    """Validate these parts and add defaults: each must have a known type and the type's fields."""
    if not isinstance(value, list):
        raise wrong_type(path, value, list)
    return [_validate_part(Body(part, f"{path}[{index}]")) for index, part in enumerate(value)]


def with_defaults(parts: Sequence[Any]) -> list[Any]:
    """Add the fields that clients require, whichever API stored the parts."""
    return [
        {**_DEFAULTS.get(str(part.get("type")), {}), **part} for part in parts if isinstance(part, Mapping)
    ]


def text_part(role: str, content: str) -> dict[str, Any]:
    """Return plain text as the only part of a message with this role."""
    if role == "assistant":
        return {"type": "output_text", "text": content, "annotations": [], "logprobs": []}
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


def _validate_part(part: Body) -> dict[str, Any]:
    part_type = part.require("type", str)
    if part_type not in _CHECKS:
        raise invalid(part.path_of("type"), f"{part_type!r}. Expected one of: {', '.join(_CHECKS)}.")
    _CHECKS[part_type](part)
    fields = {key: value for key, value in part.data.items() if value is not None}
    return {**_DEFAULTS.get(part_type, {}), **fields}


def _check_text(part: Body) -> None:
    part.require("text", str)


def _check_output_text(part: Body) -> None:
    part.require("text", str)
    for name in ("annotations", "logprobs"):
        for index, entry in enumerate(part.array(name) or ()):
            Body(entry, f"{part.path_of(name)}[{index}]")


def _check_refusal(part: Body) -> None:
    part.require("refusal", str)


def _check_image(part: Body) -> None:
    part.choice("detail", *_DETAILS)
    _require_one_of(part, "image_url", "file_id")
    check_part(part.data, part.path)


def _check_file(part: Body) -> None:
    part.get("filename", str)
    part.choice("detail", *_DETAILS)
    _require_one_of(part, "file_data", "file_id", "file_url")
    check_part(part.data, part.path)


def _require_one_of(part: Body, *names: str) -> None:
    if not [name for name in names if part.get(name, str) is not None]:
        raise invalid(part.path, f"one of these is required: {', '.join(names)}.")


_CHECKS: dict[str, Callable[[Body], None]] = {
    "input_text": _check_text,
    "output_text": _check_output_text,
    "text": _check_text,
    "refusal": _check_refusal,
    "input_image": _check_image,
    "input_file": _check_file,
    "summary_text": _check_text,
    "reasoning_text": _check_text,
    "computer_screenshot": _check_image,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "output_text": {"annotations": [], "logprobs": []},
    "input_image": {"detail": "auto"},
    "computer_screenshot": {"detail": "auto"},
}
