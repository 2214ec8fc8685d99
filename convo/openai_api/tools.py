"""Tools of a request: functions, which every model server accepts, and hosted tools, which are refused."""

from collections.abc import Collection, Mapping

from convo.errors import InvalidRequest, UnsupportedValue
from convo.openai_api.body import Body, invalid, missing

# All tool types of OpenAI's Responses API except functions. Chat completions cannot express them, so a
# model could only pretend to have used one.
HOSTED_TOOLS = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use",
        "computer_use_preview",
        "custom",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)


def check_is_function(tool: Body) -> None:
    """Refuse a tool of any type but `function`."""
    tool_type = tool.require("type", str)
    if tool_type in HOSTED_TOOLS:
        raise UnsupportedValue(
            f"Unsupported value: '{tool_type}'. Tools of this type are not supported; "
            "offer the model a function instead.",
            param=tool.path_of("type"),
        )
    if tool_type != "function":
        raise invalid(tool.path_of("type"), f"{tool_type!r}. Expected 'function'.")


def chosen_functions(
    body: Body, function_names: Collection[str], *, is_nested: bool
) -> tuple[str, list[str]] | None:
    """Return the mode and the functions that `tool_choice` names, or None if it is not an object.

    The mode is `function` if one function must be called, else `auto` or `required` among the allowed ones.
    In chat completions (`is_nested`) each name is inside a `function` object. `tools` must offer all of them.
    """
    if not isinstance(body.data.get("tool_choice"), Mapping):
        return None
    choice = Body(body.data["tool_choice"], "tool_choice")
    if choice.require("type", str) == "allowed_tools":
        allowed = _require_object(choice, "allowed_tools") if is_nested else choice
        allowed.require("tools", list)
        entries = allowed.array("tools", min_length=1) or []
        tools = [Body(entry, f"{allowed.path_of('tools')}[{index}]") for index, entry in enumerate(entries)]
        allowed.require("mode", str)
        mode = allowed.choice("mode", "auto", "required") or ""
    else:
        mode, tools = "function", [choice]
    return mode, [_function_name(tool, function_names, is_nested=is_nested) for tool in tools]


def _function_name(tool: Body, function_names: Collection[str], *, is_nested: bool) -> str:
    check_is_function(tool)
    name = (_require_object(tool, "function") if is_nested else tool).require("name", str)
    if name not in function_names:
        raise InvalidRequest(
            f"Tool choice '{name}' not found in 'tools' parameter. Offer this function, or choose another.",
            param="tool_choice",
        )
    return name


def _require_object(body: Body, name: str) -> Body:
    inner_body = body.nested(name)
    if inner_body is None:
        raise missing(body.path_of(name))
    return inner_body
