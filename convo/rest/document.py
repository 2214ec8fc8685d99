"""The OpenAPI document: the same for everybody, so each process renders it once in each format."""

import gzip
import re
from functools import cache
from hashlib import sha256
from threading import Lock
from typing import Any, NamedTuple

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer, OpenApiYamlRenderer2
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request

# `gzip;q=0` means that gzip is not accepted.
_ACCEPTS_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")
# Rendering takes half a second of CPU time, so concurrent requests wait for one rendering.
_render_lock = Lock()


class JsonRenderer(OpenApiJsonRenderer):
    """A renderer without indentation, which would be four fifths of the document."""

    def get_indent(self, accepted_media_type: str, renderer_context: Any) -> None:
        return None


class PlainJsonRenderer(JsonRenderer):
    media_type = "application/json"


class RenderedDocument(NamedTuple):
    """The document in one format, gzipped; it is decompressed for the few clients that don't accept gzip."""

    gzipped: bytes
    etag: str


class SchemaView(SpectacularAPIView):
    """The OpenAPI document, as YAML or JSON."""

    renderer_classes = [OpenApiYamlRenderer, OpenApiYamlRenderer2, JsonRenderer, PlainJsonRenderer]
    authentication_classes = []
    permission_classes = []

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        renderer = request.accepted_renderer
        with _render_lock:
            document = _render(renderer.format)
        charset = f"; charset={renderer.charset}" if renderer.charset else ""
        if _ACCEPTS_GZIP.search(request.META.get("HTTP_ACCEPT_ENCODING", "")):
            response = HttpResponse(document.gzipped, headers={"Content-Encoding": "gzip"})
        else:
            response = HttpResponse(gzip.decompress(document.gzipped))
        response["Content-Type"] = f"{renderer.media_type}{charset}"
        response["Content-Disposition"] = f'inline; filename="Convo.{renderer.format}"'
        response["Cache-Control"] = "public, no-cache"
        response["ETag"] = document.etag
        patch_vary_headers(response, ["Accept", "Accept-Encoding"])
        return get_conditional_response(request._request, document.etag, response=response) or response


@cache
def _render(format: str) -> RenderedDocument:
    # Neither class of drf-spectacular has type annotations.
    generator: Any = SpectacularAPIView.generator_class
    renderer: Any = JsonRenderer if format == JsonRenderer.format else OpenApiYamlRenderer
    content = renderer().render(generator().get_schema(public=True), renderer_context={})
    return RenderedDocument(gzip.compress(content), f'W/"{sha256(content).hexdigest()[:32]}"')
