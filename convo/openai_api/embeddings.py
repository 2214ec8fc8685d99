"""/v1/embeddings: vectors of the model that Convo itself searches with."""

import base64
import math
import struct
from typing import Annotated, Literal

from asgiref.sync import async_to_sync
from pydantic import BeforeValidator, Field, WithJsonSchema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import database, llm, tokens
from convo.conf import conf
from convo.errors import UpstreamUnavailable
from convo.http.openapi import STRING, list_of
from convo.openai_api import schema
from convo.openai_api.validation import (
    Array,
    NonEmpty,
    RequestModel,
    custom_error,
    invalid,
    json_types,
    validate,
)
from convo.openai_api.view import V1View
from convo.search.embed import BATCH_SIZE, embed, model_name

MAX_TEXTS = 2048


def _to_texts(value: object) -> object:
    if isinstance(value, list) and any(type(entry) in {int, list} for entry in value):
        raise custom_error(
            "arrays of tokens are not supported, because every model has its own. "
            "Send text; in LangChain, set check_embedding_ctx_length=False"
        )
    return [value] if isinstance(value, str) else value


class NewEmbeddings(RequestModel):
    """Texts to embed. The server's own embedding model is used, whichever `model` is named."""

    model: str
    input: Annotated[
        Array[NonEmpty],
        Field(min_length=1, max_length=MAX_TEXTS),
        WithJsonSchema({"anyOf": [STRING, list_of(STRING, minItems=1, maxItems=MAX_TEXTS)]}),
        BeforeValidator(_to_texts),
        json_types(str, list),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None


class EmbeddingsView(V1View):
    """Vectors for texts."""

    @schema.operation("createEmbedding", schema.EMBEDDINGS, request=NewEmbeddings, reads=True, asks=True)
    def post(self, request: Request) -> Response:
        """Return a vector for each text. The server's own embedding model is used; the answer names it."""
        body = validate(NewEmbeddings, self.body())
        texts, is_base64 = body.input, body.encoding_format == "base64"
        vectors = [_shorten(vector, body.dimensions) for vector in _vectors(texts)]
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if is_base64 else vector}
            for index, vector in enumerate(vectors)
        ]
        token_count = sum(tokens.count(text, model_name()) for text in texts)
        usage = {"prompt_tokens": token_count, "total_tokens": token_count}
        return Response({"object": "list", "data": data, "model": model_name(), "usage": usage})


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
