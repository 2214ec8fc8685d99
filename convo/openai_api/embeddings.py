"""/v1/embeddings: vectors of the model that Convo itself searches with."""

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
from convo.openai_api import schema
from convo.openai_api.body import Body, invalid, missing, wrong_type
from convo.openai_api.view import V1View
from convo.search.embed import BATCH_SIZE, embed, model_name

MAX_TEXTS = 2048


class EmbeddingsView(V1View):
    """Vectors for texts."""

    @extend_schema(
        operation_id="createEmbedding",
        request=schema.NEW_EMBEDDINGS,
        responses=schema.operation_responses(schema.EMBEDDINGS, reads=True, asks=True),
    )
    def post(self, request: Request) -> Response:
        """Return a vector for each text. The server's own embedding model is used; the answer names it."""
        body = self.body()
        body.require("model", str)
        texts, dimensions = _texts(body), body.integer("dimensions", minimum=1, maximum=100_000)
        is_base64 = body.choice("encoding_format", "float", "base64") == "base64"
        vectors = [_shorten(vector, dimensions) for vector in _vectors(texts)]
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if is_base64 else vector}
            for index, vector in enumerate(vectors)
        ]
        token_count = sum(tokens.count(text, model_name()) for text in texts)
        usage = {"prompt_tokens": token_count, "total_tokens": token_count}
        return Response({"object": "list", "data": data, "model": model_name(), "usage": usage})


def _texts(body: Body) -> list[str]:
    value = body.data.get("input")
    if value is None:
        raise missing("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise wrong_type("input", value, str, list)
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise invalid("input", f"expected 1 to {MAX_TEXTS} texts, got {len(texts)}.")
    return [_text(text, f"input[{index}]") for index, text in enumerate(texts)]


def _text(value: Any, path: str) -> str:
    if type(value) is int or isinstance(value, list):
        raise InvalidRequest(
            f"Invalid '{path}': arrays of tokens are not supported, because every model has its own. "
            "Send text; in LangChain, set check_embedding_ctx_length=False.",
            param="input",
        )
    if not isinstance(value, str):
        raise wrong_type(path, value, str)
    if not value:
        raise invalid(path, "a text must not be empty.")
    return value


def _vectors(texts: list[str]) -> list[list[float]]:
    if not conf().embedding_model:
        local_vectors = embed(texts)
        if local_vectors is None:
            raise UpstreamUnavailable
        return [[float(value) for value in vector] for vector in local_vectors]
    database.close_connections()
    vectors: list[list[float]] = []
    for start in range(0, len(texts), BATCH_SIZE):
        vectors += async_to_sync(llm.embed)(texts[start : start + BATCH_SIZE])
    return vectors


def _shorten(vector: list[float], dimensions: int | None) -> list[float]:
    """Shorten a vector to its first dimensions and scale it to length 1 again."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise invalid("dimensions", f"this model's vectors have {len(vector)} dimensions.")
    components = vector[:dimensions]
    length = math.hypot(*components) or 1.0
    return [value / length for value in components]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
