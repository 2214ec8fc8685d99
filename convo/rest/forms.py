"""Forms of the browsable API: one for each method of an address, as fields and as JSON."""

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
# Labels for people in place of REST framework's names of the actions.
_ACTION_LABELS = {"partial_update": "Change", "destroy": "Delete", "list": "Show", "retrieve": "Show"}
_CONTROL_KINDS: dict[type, str] = {
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
    """A form that makes one call of the API."""

    method: str
    label: str
    help: str
    controls: Sequence[Control] = ()
    example: str = ""
    error: str = ""


def build_forms(view: Any, request: Request, data: Any, status: int) -> list[Form]:
    """Return the forms that the caller may send; an error is shown in the form that caused it."""
    actions: Mapping[str, str] = getattr(view, "action_map", None) or {}
    has_error = status >= 400 and not (status == 405 and request.method == "GET")
    forms = []
    for method in METHODS:
        action = actions.get(method.lower())
        if action is None or (method == "GET" and not view.allowed_params.get(action)):
            continue
        with override_method(view, request, method) as method_request:
            if not _is_permitted(view, method_request):
                continue
            current_values = data if status < 400 and isinstance(data, dict) else {}
            form = _form(view, request, method, action, current_values)
        is_sent_form = has_error and request.method == method
        forms.append(_with_error(form, data["error"], view.sent_data) if is_sent_form else form)
    return forms


def _is_permitted(view: Any, request: Request) -> bool:
    try:
        view.check_permissions(request)
    except APIException:
        return False
    return True


def _form(view: Any, request: Request, method: str, action: str, current_values: Mapping[str, Any]) -> Form:
    controls: list[Control] = []
    example = ""
    if method == "GET":
        query_params = request.query_params
        names = view.allowed_params[action]
        controls = [Control(name=name, value=query_params.get(name, "")) for name in names]
    elif method != "DELETE":
        serializer = view.get_serializer()
        # A form that changes an object starts with its current values.
        start_values = current_values if method in {"PUT", "PATCH"} else {}
        controls = list(_controls(serializer, start_values))
        example = _to_json(_example(serializer, start_values)) if controls else ""
    return Form(
        method=method,
        label=_ACTION_LABELS.get(action, action.replace("_", " ").capitalize()),
        help=" ".join((getattr(view, action).__doc__ or "").split()),
        controls=controls,
        example=example,
    )


def _with_error(form: Form, error: Mapping[str, Any], sent: Any) -> Form:
    """Return the form as it was sent, with the error message at the field that it is about."""
    # A field in a list is `messages[0]role` in a form and `messages[0].role` in an error.
    control_name = str(error["param"]).replace("].", "]")
    controls = [_with_sent_value(control, sent) for control in form.controls]
    controls_with_error = [
        replace(control, error=error["message"]) if control.name == control_name else control
        for control in controls
    ]
    return replace(
        form, controls=controls_with_error, error="" if controls_with_error != controls else error["message"]
    )


def _with_sent_value(control: Control, sent: Any) -> Control:
    if not isinstance(sent, QueryDict):
        return control
    value = sent.get(control.name, "")
    is_text = isinstance(value, str) and control.kind != "checkbox"
    return replace(control, value=value if is_text else control.value, checked=bool(value))


def _controls(
    serializer: serializers.Serializer[Any], start_values: Mapping[str, Any], prefix: str = ""
) -> Iterator[Control]:
    for name, field in serializer.fields.items():
        child = getattr(field, "child", None)
        if isinstance(child, serializers.Serializer):
            # A form takes one entry of a required list; several entries can be sent as JSON.
            yield from _controls(child, {}, prefix=f"{name}[0]") if field.required else ()
        else:
            yield _control(prefix + name, field, start_values.get(name, _default(field)))


def _control(name: str, field: serializers.Field[Any, Any, Any, Any], value: Any) -> Control:
    kind = next(
        (kind for field_class, kind in _CONTROL_KINDS.items() if isinstance(field, field_class)), "text"
    )
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
    return _to_json(value) if kind == "json" else str(value)


def _default(field: serializers.Field[Any, Any, Any, Any]) -> Any:
    return None if field.default is serializers.empty else field.default


def _example(serializer: serializers.Serializer[Any], start_values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body to start from: the current values, the required fields, and the defaults."""
    return {
        name: start_values[name] if name in start_values else _example_value(field)
        for name, field in serializer.fields.items()
        if name in start_values or field.required or _default(field) is not None
    }


def _example_value(field: serializers.Field[Any, Any, Any, Any]) -> Any:
    child = getattr(field, "child", None)
    if isinstance(child, serializers.Serializer):
        return [_example(child, {})]
    if child is not None:
        return []
    choices = list(getattr(field, "choices", ()))
    return choices[0] if choices and field.required else _default(field) or ""


def _to_json(value: Any) -> str:
    return json.dumps(value, cls=JSONEncoder, ensure_ascii=False, indent=2)
