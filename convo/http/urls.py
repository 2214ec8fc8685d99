"""Where everything is: include it at the root of a project's addresses."""

from typing import Any

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from convo.http import errors, health
from convo.http.files import FileView
from convo.http.rest.memories import MemoryViewSet
from convo.http.rest.router import Router
from convo.http.rest.search import SearchViewSet
from convo.http.rest.sessions import QueryViewSet, SessionViewSet
from convo.http.rest.turns import MessageViewSet, TurnViewSet
from convo.http.rest.usage import UsageViewSet

router = Router()
router.register("sessions", SessionViewSet, basename="session")
router.register(r"sessions/(?P<session>[^/.]+)/messages", MessageViewSet, basename="message")
router.register(r"sessions/(?P<session>[^/.]+)/turns", TurnViewSet, basename="turn")
router.register("memories", MemoryViewSet, basename="memory")
router.register("search", SearchViewSet, basename="search")
router.register("usage", UsageViewSet, basename="usage")
router.register("query", QueryViewSet, basename="query")

# For everybody: a wrong key is no reason not to see the documentation.
OPEN: dict[str, Any] = {"authentication_classes": [], "permission_classes": []}

urlpatterns = [
    path("api/v1/", include(router.urls)),
    path("api/schema/", SpectacularAPIView.as_view(authentication_classes=[]), name="schema"),
    # Its script has an address of its own: a strict content policy runs none inside a page.
    path(
        "api/docs/",
        SpectacularSwaggerSplitView.as_view(url_name="schema", authentication_classes=[]),
        name="docs",
    ),
    path("v1/", include("convo.http.openai_api.urls")),
    re_path(r"^api/(?P<rest>(?s:.*))\Z", errors.missing),
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("files/<int:id>/", FileView.as_view(), name="file"),
    path("", include("convo.http.pages.urls")),
]
