"""/v1/embeddings: the vectors that Convo itself searches by."""

import base64
import math
import struct
from typing import Any

from asgiref.sync import async_to_sync
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, llm, tokens
from convo.conf import conf
from convo.errors import InvalidRequest, UpstreamUnavailable
from convo.http.openai_api import schema
from convo.http.openai_api.body import Body, invalid, missing, mistyped
from convo.http.openai_api.view import V1View
from convo.search.embed import BATCH, embed, model_name

MOST_TEXTS = 2048


class EmbeddingsView(V1View):
    """Texts as numbers."""

    @extend_schema(
        operation_id="createEmbedding",
        request=schema.NEW_EMBEDDINGS,
        responses=schema.answers(schema.EMBEDDINGS, reads=True, asks=True),
    )
    def post(self, request: Request) -> Response:
        """A vector for each text, of the model that the server has: `model` in the answer names it."""
        body = self.body()
        body.need("model", str)
        texts, dimensions = _texts(body), body.whole("dimensions", least=1, most=100_000)
        as_text = body.choice("encoding_format", "float", "base64") == "base64"
        vectors = [_cut(vector, dimensions) for vector in _vectors(texts)]
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if as_text else vector}
            for index, vector in enumerate(vectors)
        ]
        spent = sum(tokens.count(text, model_name()) for text in texts)
        usage = {"prompt_tokens": spent, "total_tokens": spent}
        return Response({"object": "list", "data": data, "model": model_name(), "usage": usage})


def _texts(body: Body) -> list[str]:
    value = body.given.get("input")
    if value is None:
        raise missing("input")
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list):
        raise mistyped("input", value, str, list)
    if not 1 <= len(found) <= MOST_TEXTS:
        raise invalid("input", f"expected 1 to {MOST_TEXTS} texts, got {len(found)}.")
    return [_text(text, f"input[{index}]") for index, text in enumerate(found)]


def _text(value: Any, place: str) -> str:
    if type(value) is int or isinstance(value, list):
        raise InvalidRequest(
            f"Invalid '{place}': arrays of tokens are not read here, for other models have other tokens. "
            "Send text; in LangChain, set check_embedding_ctx_length=False.",
            param="input",
        )
    if not isinstance(value, str):
        raise mistyped(place, value, str)
    if not value:
        raise invalid(place, "a text must not be empty.")
    return value


def _vectors(texts: list[str]) -> list[list[float]]:
    if not conf().embedding_model:
        found = embed(texts)
        if found is None:
            raise UpstreamUnavailable
        return [[float(value) for value in vector] for vector in found]
    database.release()
    vectors: list[list[float]] = []
    for start in range(0, len(texts), BATCH):
        vectors += async_to_sync(llm.embed)(texts[start : start + BATCH])
    return vectors


def _cut(vector: list[float], dimensions: int | None) -> list[float]:
    """The beginning of a vector, made to the length of 1 again."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise invalid("dimensions", f"this model's vectors have {len(vector)} dimensions.")
    cut = vector[:dimensions]
    length = math.hypot(*cut) or 1.0
    return [value / length for value in cut]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
