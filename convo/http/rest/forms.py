"""The forms of an address: one for every call that it takes, as fields and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request, override_method
from rest_framework.utils.encoders import JSONEncoder

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What the framework calls them, and what people would.
_LABELS = {"partial_update": "Change", "destroy": "Delete", "list": "Look", "retrieve": "Look"}
_KINDS: dict[type, str] = {
    serializers.ChoiceField: "select",
    serializers.BooleanField: "checkbox",
    serializers.FloatField: "number",
    serializers.IntegerField: "number",
    serializers.FileField: "file",
    serializers.JSONField: "json",
    serializers.ListField: "lines",
}


@dataclass(frozen=True, kw_only=True)
class Control:
    """One field of a form."""

    name: str
    kind: str = "text"
    value: str = ""
    checked: bool = False
    choices: Sequence[str] = ()
    help: str = ""
    required: bool = False
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One call, ready to be made."""

    method: str
    label: str
    help: str
    controls: Sequence[Control] = ()
    example: str = ""
    error: str = ""


def of(view: Any, request: Request, data: Any, status: int) -> list[Form]:
    """The forms that the caller may send here; a refusal is told in the one that it answers."""
    actions: Mapping[str, str] = getattr(view, "action_map", None) or {}
    refused = status >= 400 and not (status == 405 and request.method == "GET")
    found = []
    for method in METHODS:
        action = actions.get(method.lower())
        if action is None or (method == "GET" and not view.parameters.get(action)):
            continue
        with override_method(view, request, method) as asked:
            if not _may(view, asked):
                continue
            shown = data if status < 400 and isinstance(data, dict) else {}
            form = _form(view, request, method, action, shown)
        is_refused = refused and request.method == method
        found.append(_refused(form, data["error"], view.sent) if is_refused else form)
    return found


def _may(view: Any, request: Request) -> bool:
    try:
        view.check_permissions(request)
    except APIException:
        return False
    return True


def _form(view: Any, request: Request, method: str, action: str, shown: Mapping[str, Any]) -> Form:
    controls: list[Control] = []
    example = ""
    if method == "GET":
        given = request.query_params
        controls = [Control(name=name, value=given.get(name, "")) for name in view.parameters[action]]
    elif method != "DELETE":
        serializer = view.get_serializer()
        # What one changes stands in the form as it is.
        now = shown if method in {"PUT", "PATCH"} else {}
        controls = list(_controls(serializer, now))
        example = _dump(_example(serializer, now)) if controls else ""
    return Form(
        method=method,
        label=_LABELS.get(action, action.replace("_", " ").capitalize()),
        help=" ".join((getattr(view, action).__doc__ or "").split()),
        controls=controls,
        example=example,
    )


def _refused(form: Form, error: Mapping[str, Any], sent: Any) -> Form:
    """The form as it was sent, with what is wrong beside the field that it is about."""
    # A list's field is `messages[0]role` here and `messages[0].role` in a refusal.
    place = str(error["param"]).replace("].", "]")
    controls = [_as_sent(control, sent) for control in form.controls]
    told = [replace(one, error=error["message"]) if one.name == place else one for one in controls]
    return replace(form, controls=told, error="" if told != controls else error["message"])


def _as_sent(control: Control, sent: Any) -> Control:
    if not isinstance(sent, QueryDict):
        return control
    value = sent.get(control.name, "")
    is_text = isinstance(value, str) and control.kind != "checkbox"
    return replace(control, value=value if is_text else control.value, checked=bool(value))


def _controls(
    serializer: serializers.Serializer[Any], now: Mapping[str, Any], inside: str = ""
) -> Iterator[Control]:
    for name, field in serializer.fields.items():
        child = getattr(field, "child", None)
        if isinstance(child, serializers.Serializer):
            # One of them, where one is needed; several go as JSON.
            yield from _controls(child, {}, inside=f"{name}[0]") if field.required else ()
        else:
            yield _control(inside + name, field, now.get(name, _default(field)))


def _control(name: str, field: serializers.Field[Any, Any, Any, Any], value: Any) -> Control:
    kind = next((kind for cls, kind in _KINDS.items() if isinstance(field, cls)), "text")
    if kind == "text" and field.style.get("base_template") == "textarea.html":
        kind = "lines"
    return Control(
        name=name,
        kind=kind,
        value=_as_text(kind, value),
        checked=value is True,
        choices=[str(choice) for choice in getattr(field, "choices", ())],
        help=str(field.help_text or ""),
        required=field.required,
    )


def _as_text(kind: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return _dump(value) if kind == "json" else str(value)


def _default(field: serializers.Field[Any, Any, Any, Any]) -> Any:
    return None if field.default is serializers.empty else field.default


def _example(serializer: serializers.Serializer[Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """A body to begin with: what is there now, what is needed, and what is taken when it is left out."""
    return {
        name: now[name] if name in now else _filled(field)
        for name, field in serializer.fields.items()
        if name in now or field.required or _default(field) is not None
    }


def _filled(field: serializers.Field[Any, Any, Any, Any]) -> Any:
    child = getattr(field, "child", None)
    if isinstance(child, serializers.Serializer):
        return [_example(child, {})]
    if child is not None:
        return []
    choices = list(getattr(field, "choices", ()))
    return choices[0] if choices and field.required else _default(field) or ""


def _dump(value: Any) -> str:
    return json.dumps(value, cls=JSONEncoder, ensure_ascii=False, indent=2)
