"""The agents of agents.yaml as frozen values, checked when the server starts."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import yaml
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from convo import tokens
from convo.conf import conf
from convo.errors import UnknownAgent

PASSTHROUGH = "passthrough"
OPENAI_HOST = "api.openai.com"
# The dates on which OpenAI removes models from its API (developers.openai.com/api/docs/deprecations,
# 30 November 2026), and the models that replace them: our default where OpenAI names none.
RETIREMENTS = {
    "2026-12-11": {
        "gpt-5-mini": "gpt-6.1-terra",
        **dict.fromkeys(["gpt-5", "gpt-5-nano", "gpt-5-pro", "o3", "o3-pro"], "gpt-6-luna"),
    },
    "2027-01-14": dict.fromkeys(["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"], "gpt-6-luna"),
    "2027-04-01": {"gpt-5.1": "gpt-6-luna"},
}
_INSTRUCTIONS = "You are a helpful assistant with a good memory of this conversation. Answer plainly."


class Agent(BaseModel):
    """A named configuration that answers questions: instructions, model, budget, and what is remembered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    display_name: str = Field(default="", max_length=100)
    instructions: str = ""
    model: str = Field(default="", max_length=200, description="CONVO_MODEL when empty.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_output_tokens: int | None = Field(default=None, ge=1)
    window_pairs: int = Field(default=10, ge=0)
    context_tokens: int = Field(default=16_000, ge=50)
    summaries: bool = True
    summary_turns: int = Field(default=20, ge=1, description="A summary is due after this many turns.")
    summary_tokens: int = Field(default=6_000, ge=100, description="Or after this many tokens.")
    summary_share: float = Field(
        default=0.15, ge=0, le=1, description="The share of context_tokens for the summary."
    )
    recall: int = Field(default=20, ge=0, description="The number of older messages to recall.")
    recall_share: float = Field(
        default=0.3, ge=0, le=1, description="The share of the rest of the budget for recalled messages."
    )
    memory: bool = Field(default=True, description="Learn facts about the user, and put them into prompts.")
    learn: bool = Field(default=True, description="After a turn, write a title, a gist and facts.")
    storage: Literal["persistent", "ephemeral", "none"] = Field(
        default="persistent",
        description="The storage of its messages: the database, the cache only, or none.",
    )
    whole: bool = Field(
        default=False,
        description="Send the whole conversation; use summary and recall only once it is too long.",
    )
    memory_share: float = Field(
        default=0.1, ge=0, le=1, description="The share of the rest of the budget for facts."
    )

    @model_validator(mode="after")
    def _leaves_room(self) -> "Agent":
        fixed_tokens = (
            tokens.count(self.instructions, self.model) + tokens.MESSAGE_OVERHEAD + tokens.REPLY_OVERHEAD
        )
        if fixed_tokens >= self.context_tokens:
            raise ValueError(
                f"the instructions take {fixed_tokens} tokens of a budget of {self.context_tokens}, "
                "which leaves no room for a message: shorten them or raise context_tokens"
            )
        return self

    @property
    def recent_pairs(self) -> int | None:
        """The number of earlier exchanges in the prompt; None for all since the summary, or all there are."""
        return None if self.summaries or self.whole else self.window_pairs

    @property
    def without_summary_and_recall(self) -> "Agent":
        return self.model_copy(update={"summaries": False, "recall": 0})

    @property
    def title(self) -> str:
        return self.display_name or self.name

    @property
    def model_name(self) -> str:
        """The model that answers: the built-in responder if there is no model server."""
        return conf().default_model if conf().offline else self.model or conf().default_model

    @property
    def config(self) -> dict[str, object]:
        return self.model_dump()

    @property
    def version(self) -> str:
        """A hash of everything that can change how this agent answers."""
        return _version(self)


@lru_cache(maxsize=256)
def _version(agent: Agent) -> str:
    return hashlib.sha256(json.dumps(agent.config, sort_keys=True).encode()).hexdigest()


class Agents(BaseModel):
    """The content of agents.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str
    agents: Mapping[str, Agent]

    @model_validator(mode="after")
    def _default_exists(self) -> "Agents":
        if self.default not in self.agents:
            raise ValueError(f"default: {self.default!r} is none of the agents: {', '.join(self.agents)}")
        return self


class _NoAliases(yaml.SafeLoader):
    """A loader that rejects aliases: a few of them can stand for a billion nodes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed; write the values out")
        return super().compose_node(parent, index)


def parse(text: str) -> Agents:
    """Parse the text of agents.yaml, or raise ImproperlyConfigured with the place and the reason."""
    try:
        data = yaml.load(text, Loader=_NoAliases)
    except yaml.YAMLError as error:
        raise ImproperlyConfigured(f"it is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ImproperlyConfigured("it must be a mapping with the keys `default` and `agents`")
    defaults, entries = data.pop("defaults", None) or {}, data.get("agents")
    if isinstance(entries, dict) and isinstance(defaults, dict):
        for name, entry in entries.items():
            if isinstance(entry, dict) and "name" in entry:
                raise ImproperlyConfigured(f"agents.{name}.name: an agent's name is its key; leave this out")
        data["agents"] = {
            name: {**defaults, **values, "name": name} if isinstance(values := entry or {}, dict) else entry
            for name, entry in entries.items()
        }
    try:
        return Agents.model_validate(data)
    except ValidationError as error:
        raise ImproperlyConfigured(_describe(error)) from error


def _describe(error: ValidationError) -> str:
    first_error = error.errors(include_url=False)[0]
    location = ".".join(str(part) for part in first_error["loc"]) or "the file"
    return f"{location}: {first_error['msg'].removeprefix('Value error, ')}"


@lru_cache(maxsize=8)
def _load(path: str) -> Agents:
    if not path:
        return Agents(
            default="assistant", agents={"assistant": Agent(name="assistant", instructions=_INSTRUCTIONS)}
        )
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ImproperlyConfigured(
            f"CONVO_AGENTS_FILE={path}: it cannot be read ({error.strerror})"
        ) from error
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"CONVO_AGENTS_FILE={path}: {error}") from error


def all_agents() -> Mapping[str, Agent]:
    return _load(conf().agents_file).agents


def default_name() -> str:
    return _load(conf().agents_file).default


def get(name: str, *, model: str = "") -> Agent:
    """Return the agent of this name, or raise UnknownAgent with the names that exist.

    `passthrough` answers with `model` and adds nothing to the prompt, unless agents.yaml defines that agent.
    """
    if name == PASSTHROUGH:
        base = all_agents().get(name) or Agent(name=name, whole=True, context_tokens=conf().context_tokens)
        return base.model_copy(update={"model": model or base.model})
    try:
        return all_agents()[name]
    except KeyError:
        names = ", ".join(all_agents())
        raise UnknownAgent(f"There is no agent {name!r}. Choose one of: {names}.", param="agent") from None


def check_models(**_: object) -> list[CheckMessage]:
    """Warn about configured models that OpenAI removes from its API, with the date and the replacement."""
    host = urlsplit(conf().openai_base_url).hostname or OPENAI_HOST
    if conf().offline or host != OPENAI_HOST:
        # Another server may offer a model of that name for longer.
        return []
    try:
        models = {f"agents.{name}.model": agent.model for name, agent in all_agents().items()}
    except ImproperlyConfigured:
        # `check` reports this.
        models = {}
    models |= {"CONVO_MODEL": conf().default_model, "CONVO_BACKGROUND_MODEL": conf().background_model}
    return [
        Warning(
            f"{setting}={model}: OpenAI removes this model from its API on {date}. Use {replacement}.",
            id="convo.W001",
        )
        for setting, model in models.items()
        for date, replacement in _retirements(model)
    ]


def _retirements(model: str) -> list[tuple[str, str]]:
    """Return the removal date and the replacement of a model, or of the model that it is a snapshot of."""
    base_name = re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model)
    return [(date, models[base_name]) for date, models in RETIREMENTS.items() if base_name in models]


def check_agents(**_: object) -> list[Error]:
    """Report a mistake in agents.yaml before the server accepts requests."""
    try:
        all_agents()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="convo.E001")]
    return []
