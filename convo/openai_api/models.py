"""/v1/models: the agents and models that a client can ask."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from convo import agents
from convo.conf import conf
from convo.errors import ModelNotFound, UnknownAgent
from convo.openai_api import schema
from convo.openai_api.view import V1View
from convo.search.embed import model_name

AGENT_PREFIX = "agent/"


def list_models() -> list[dict[str, Any]]:
    """Return every agent and every model that the configuration names.

    `owned_by` is `convo` for agents and for models that run inside Convo, `upstream` for all others.
    """
    chat_models = [conf().default_model, *(agent.model_name for agent in agents.all_agents().values())]
    model_names = dict.fromkeys([*chat_models, model_name()])
    agent_entries = [_model_json(AGENT_PREFIX + name, "convo") for name in agents.all_agents()]
    return [*agent_entries, *(_model_json(name, _owner(name)) for name in model_names)]


def agent_and_model(name: str) -> tuple[str, str]:
    """Return the agent and the model: `agent/NAME` is an agent, another name goes to the model server."""
    if not name.startswith(AGENT_PREFIX):
        return agents.PASSTHROUGH, name or conf().default_model
    try:
        return agents.get(name.removeprefix(AGENT_PREFIX)).name, ""
    except UnknownAgent as error:
        model_ids = ", ".join(AGENT_PREFIX + agent_name for agent_name in agents.all_agents())
        raise ModelNotFound(
            f"The model '{name}' does not exist. The agents of this server are: {model_ids}.", param="model"
        ) from error


class ModelsView(V1View):
    """All agents and configured models."""

    @schema.operation("listModels", schema.MODELS)
    def get(self, request: Request) -> Response:
        """List the agents as `agent/NAME`, and the configured models. Others can be asked by name, too."""
        return Response({"object": "list", "data": list_models()})


class ModelView(V1View):
    """One agent or model."""

    @schema.operation("retrieveModel", schema.MODEL)
    def get(self, request: Request, model: str) -> Response:
        """Return one entry of the list of models. Its id may contain slashes."""
        for entry in list_models():
            if entry["id"] == model.rstrip("/"):
                return Response(entry)
        raise ModelNotFound(f"The model '{model}' does not exist here.", param="model")


def _owner(model: str) -> str:
    is_own = conf().offline or (model == model_name() and not conf().embedding_model)
    return "convo" if is_own else "upstream"


def _model_json(name: str, owner: str) -> dict[str, Any]:
    # The date of creation is unknown here, but clients require a number.
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
