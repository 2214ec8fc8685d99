"""The agents of agents.yaml as frozen values, checked when the server starts."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from convo import tokens
from convo.conf import conf
from convo.errors import UnknownAgent

PASSTHROUGH = "passthrough"
_INSTRUCTIONS = "You are a helpful assistant with a good memory of this conversation. Answer plainly."


class Agent(BaseModel):
    """Who answers: what it is told, which model it asks, and how much of the past it sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    display_name: str = Field(default="", max_length=100)
    instructions: str = ""
    model: str = Field(default="", max_length=200, description="Empty: the project's CONVO_MODEL.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_output_tokens: int | None = Field(default=None, ge=1)
    window_pairs: int = Field(default=10, ge=0)
    context_tokens: int = Field(default=16_000, ge=50)
    summaries: bool = True
    summary_turns: int = Field(default=20, ge=1, description="A summary is due when so many turns lack one.")
    summary_tokens: int = Field(default=6_000, ge=100, description="Or so many tokens.")
    summary_share: float = Field(default=0.15, ge=0, le=1, description="Of context_tokens, for the summary.")
    recall: int = Field(default=20, ge=0, description="How many older messages are looked up for a question.")
    recall_share: float = Field(default=0.3, ge=0, le=1, description="Of context_tokens, for these.")
    memory: bool = Field(default=True, description="Learn about the user, and tell the model what is known.")
    learn: bool = Field(default=True, description="Think after a turn: a title, a line about it, facts.")
    storage: Literal["kept", "ephemeral", "none"] = Field(
        default="kept",
        description="Where what is said in its sessions stays: kept, in the cache alone, nowhere.",
    )
    whole: bool = Field(
        default=False, description="Send all there is; the aids above only once it is too much."
    )
    memory_share: float = Field(default=0.1, ge=0, le=1, description="Of context_tokens, for these facts.")

    @model_validator(mode="after")
    def _leaves_room(self) -> "Agent":
        fixed = tokens.count(self.instructions, self.model) + tokens.MESSAGE_OVERHEAD + tokens.REPLY_OVERHEAD
        if fixed >= self.context_tokens:
            raise ValueError(
                f"the instructions take {fixed} tokens of a budget of {self.context_tokens}, "
                "which leaves no room for a message: shorten them or raise context_tokens"
            )
        return self

    @property
    def pairs(self) -> int | None:
        """So many exchanges are shown word for word; None: all since the summary, or all there are."""
        return None if self.summaries or self.whole else self.window_pairs

    @property
    def unaided(self) -> "Agent":
        """The same without summary and recall."""
        return self.model_copy(update={"summaries": False, "recall": 0})

    @property
    def title(self) -> str:
        return self.display_name or self.name

    @property
    def model_name(self) -> str:
        """The model that answers; without a model server, the built-in responder."""
        return conf().default_model if conf().offline else self.model or conf().default_model

    @property
    def config(self) -> dict[str, Any]:
        return self.model_dump()

    @property
    def version(self) -> str:
        """A hash of all that can change how this agent answers."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()


class Agents(BaseModel):
    """What agents.yaml says, whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str
    agents: Mapping[str, Agent]

    @model_validator(mode="after")
    def _default_exists(self) -> "Agents":
        if self.default not in self.agents:
            raise ValueError(f"default: {self.default!r} is none of the agents: {', '.join(self.agents)}")
        return self


class _NoAliases(yaml.SafeLoader):
    """Plain data only: a few aliases can stand for a billion nodes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed; write the values out")
        return super().compose_node(parent, index)


def read(text: str) -> Agents:
    """The agents that this YAML describes, or ImproperlyConfigured with the place and the reason."""
    try:
        given = yaml.load(text, Loader=_NoAliases)
    except yaml.YAMLError as error:
        raise ImproperlyConfigured(f"it is not valid YAML: {error}") from error
    if not isinstance(given, dict):
        raise ImproperlyConfigured("it must be a mapping with the keys `default` and `agents`")
    defaults, listed = given.pop("defaults", None) or {}, given.get("agents")
    if isinstance(listed, dict) and isinstance(defaults, dict):
        for name, agent in listed.items():
            if isinstance(agent, dict) and "name" in agent:
                raise ImproperlyConfigured(f"agents.{name}.name: an agent's name is its key; leave this out")
        given["agents"] = {
            name: {**defaults, **own, "name": name} if isinstance(own := agent or {}, dict) else agent
            for name, agent in listed.items()
        }
    try:
        return Agents.model_validate(given)
    except ValidationError as error:
        raise ImproperlyConfigured(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


@lru_cache(maxsize=8)
def _load(path: str) -> Agents:
    if not path:
        return Agents(
            default="assistant", agents={"assistant": Agent(name="assistant", instructions=_INSTRUCTIONS)}
        )
    try:
        return read(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ImproperlyConfigured(
            f"CONVO_AGENTS_FILE={path}: it cannot be read ({error.strerror})"
        ) from error
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"CONVO_AGENTS_FILE={path}: {error}") from error


def everyone() -> Mapping[str, Agent]:
    """All agents by name."""
    return _load(conf().agents_file).agents


def default_name() -> str:
    return _load(conf().agents_file).default


def get(name: str, *, model: str = "") -> Agent:
    """The agent of this name; a name that nobody has is the caller's mistake, told with those that exist.

    `passthrough` answers with the model that is named, and adds nothing; agents.yaml may say otherwise.
    """
    if name == PASSTHROUGH:
        base = everyone().get(name) or _passthrough()
        return base.model_copy(update={"model": model or base.model})
    try:
        return everyone()[name]
    except KeyError:
        known = ", ".join(everyone())
        raise UnknownAgent(f"There is no agent {name!r}. Choose one of: {known}.", param="agent") from None


def _passthrough() -> Agent:
    return Agent(name=PASSTHROUGH, whole=True, context_tokens=conf().context_tokens)


def check(**_: object) -> list[Error]:
    """The system check: what is wrong with agents.yaml, before anybody is served."""
    try:
        everyone()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="convo.E001")]
    return []
