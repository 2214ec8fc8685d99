"""All URLs of Convo, to be included at the root of a project's URLconf."""

from django.urls import include, path, re_path, register_converter

from convo.http import errors, health
from convo.http.converters import WholeNumberConverter
from convo.http.files import FileView

register_converter(WholeNumberConverter, "whole")

urlpatterns = [
    path("api/", include("convo.rest.urls")),
    path("v1/", include("convo.openai_api.urls")),
    re_path(r"^api/(?P<rest>(?s:.*))\Z", errors.api_not_found),
    path("healthz", health.liveness),
    path("readyz", health.readiness),
    path("files/<whole:id>/", FileView.as_view(), name="file"),
    path("", include("convo.pages.urls")),
]
