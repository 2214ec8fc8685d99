"""/v1/models: who and what can be asked here."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import agents
from convo.conf import conf
from convo.errors import ModelNotFound
from convo.http.openai_api import schema
from convo.http.openai_api.view import V1View
from convo.search.embed import model_name

AGENT = "agent/"


def listed() -> list[dict[str, Any]]:
    """Every agent, and the models that the configuration names; the server's own are marked as such."""
    answering = [conf().default_model, *(agent.model_name for agent in agents.everyone().values())]
    theirs = dict.fromkeys([*answering, model_name()])
    named = [_model_json(AGENT + name, "convo") for name in agents.everyone()]
    return [*named, *(_model_json(name, _owner(name)) for name in theirs)]


class ModelsView(V1View):
    """The models."""

    @extend_schema(operation_id="listModels", responses=schema.answers(schema.MODELS))
    def get(self, request: Request) -> Response:
        """The agents as `agent/NAME`, and the configured models. Others may be asked by their names, too."""
        return Response({"object": "list", "data": listed()})


class ModelView(V1View):
    """One model."""

    @extend_schema(operation_id="retrieveModel", responses=schema.answers(schema.MODEL))
    def get(self, request: Request, model: str) -> Response:
        """One of those that the list has; its id may hold slashes."""
        for found in listed():
            if found["id"] == model.rstrip("/"):
                return Response(found)
        raise ModelNotFound(f"The model '{model}' does not exist here.", param="model")


def _owner(model: str) -> str:
    is_own = conf().offline or (model == model_name() and not conf().embedding_model)
    return "convo" if is_own else "upstream"


def _model_json(name: str, owner: str) -> dict[str, Any]:
    # When a model was made nobody knows here; its clients need a number.
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
