"""The parts of a message's content: checked when they come in, completed when they go out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convo import history
from convo.http.openai_api.body import Body, invalid, mistyped

TEXTS = {"input_text", "output_text", "text"}
_DETAILS = ("auto", "low", "high", "original")


def checked(value: object, place: str) -> list[dict[str, Any]]:
    """These parts, each of a known type and with all that this type needs."""
    if not isinstance(value, list):
        raise mistyped(place, value, list)
    return [_checked(Body(part, f"{place}[{index}]")) for index, part in enumerate(value)]


def completed(parts: Sequence[Any]) -> list[Any]:
    """The parts with what clients need to find, whoever stored them."""
    return [{**_FILLED.get(str(part.get("type")), {}), **part} for part in parts if isinstance(part, Mapping)]


def text(role: str, words: str) -> dict[str, Any]:
    """Plain words as the one part of a message of this role."""
    if role == "assistant":
        return {"type": "output_text", "text": words, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": words}


def words(value: object) -> str:
    """What these parts, or this string, say in words."""
    if isinstance(value, str):
        return value
    parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
    said = [part.get("text") or part.get("refusal") for part in parts]
    return "\n".join(text for text in said if isinstance(text, str))


def is_plain(part: Mapping[str, Any]) -> bool:
    """Does it hold words and nothing else?"""
    beside = [value for key, value in part.items() if key not in {"type", "text"}]
    return part["type"] in TEXTS and not any(beside)


def _checked(part: Body) -> dict[str, Any]:
    kind = part.need("type", str)
    if kind not in _CHECKS:
        raise invalid(part.place("type"), f"{kind!r}. Expected one of: {', '.join(_CHECKS)}.")
    _CHECKS[kind](part)
    given = {key: value for key, value in part.given.items() if value is not None}
    return {**_FILLED.get(kind, {}), **given}


def _text(part: Body) -> None:
    part.need("text", str)


def _output_text(part: Body) -> None:
    part.need("text", str)
    for name in ("annotations", "logprobs"):
        for index, entry in enumerate(part.entries(name) or ()):
            Body(entry, f"{part.place(name)}[{index}]")


def _refusal(part: Body) -> None:
    part.need("refusal", str)


def _image(part: Body) -> None:
    part.choice("detail", *_DETAILS)
    _one_of(part, "image_url", "file_id")
    history.check(part.given, part.at)


def _file(part: Body) -> None:
    part.get("filename", str)
    part.choice("detail", *_DETAILS)
    _one_of(part, "file_data", "file_id", "file_url")
    history.check(part.given, part.at)


def _one_of(part: Body, *names: str) -> None:
    if not [name for name in names if part.get(name, str) is not None]:
        raise invalid(part.at, f"one of these is needed: {', '.join(names)}.")


_CHECKS: dict[str, Callable[[Body], None]] = {
    "input_text": _text,
    "output_text": _output_text,
    "text": _text,
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "summary_text": _text,
    "reasoning_text": _text,
    "computer_screenshot": _image,
}
_FILLED: dict[str, dict[str, Any]] = {
    "output_text": {"annotations": [], "logprobs": []},
    "input_image": {"detail": "auto"},
    "computer_screenshot": {"detail": "auto"},
}
