"""Tools of a request: functions, which every model server accepts, and hosted tools, which are refused."""

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from convo.errors import InvalidRequest, UnsupportedValue
from convo.openai_api.validation import Array, JsonObject, RequestModel, custom_error, validate

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


def _check_type(tool_type: str) -> str:
    if tool_type in HOSTED_TOOLS:
        raise custom_error(
            f"tools of the type '{tool_type}' are not supported; offer the model a function instead",
            UnsupportedValue,
        )
    if tool_type != "function":
        raise custom_error("expected 'function'")
    return tool_type


class Function(RequestModel):
    """A function as the Responses API names it, in `tools` or in `tool_choice`."""

    type: Annotated[str, AfterValidator(_check_type)]
    name: str


class FunctionTool(Function):
    """A function to offer to the model."""

    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class FunctionName(RequestModel):
    name: str


class ChatFunction(RequestModel):
    """A function as chat completions name it, in `tools` or in `tool_choice`."""

    type: Annotated[str, AfterValidator(_check_type)]
    function: FunctionName

    @property
    def name(self) -> str:
        return self.function.name


class _AllowedTools(RequestModel):
    tools: Annotated[Array[JsonObject], Field(min_length=1)]
    mode: Literal["auto", "required"]


class _ChatAllowedTools(RequestModel):
    allowed_tools: _AllowedTools


def chosen_functions(
    choice: Mapping[str, object], model: type[Function | ChatFunction], offered_names: Collection[str]
) -> tuple[str, list[str]]:
    """Return the mode and the functions that the object in `tool_choice` names.

    The mode is `function` if one function must be called, else `auto` or `required` among the allowed ones.
    `model` is the form in which the API names a function. `tools` must offer all of them.
    """
    mode, entries = _read_choice(choice, is_chat=model is ChatFunction)
    names = [validate(model, entry, path).name for path, entry in entries.items()]
    for name in names:
        if name not in offered_names:
            raise InvalidRequest(
                f"Tool choice '{name}' not found in 'tools' parameter. "
                "Offer this function, or choose another.",
                param="tool_choice",
            )
    return mode, names


def _read_choice(
    choice: Mapping[str, object], *, is_chat: bool
) -> tuple[str, dict[str, Mapping[str, object]]]:
    """Return the mode, and the chosen functions by their paths in the request."""
    path = "tool_choice"
    if choice.get("type") != "allowed_tools":
        return "function", {path: choice}
    if is_chat:
        allowed, path = validate(_ChatAllowedTools, choice, path).allowed_tools, f"{path}.allowed_tools"
    else:
        allowed = validate(_AllowedTools, choice, path)
    return allowed.mode, {f"{path}.tools[{index}]": tool for index, tool in enumerate(allowed.tools)}
