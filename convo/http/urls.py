"""Where everything is: include it at the root of a project's addresses."""

from typing import Any

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from convo.http import errors, health, pages
from convo.http.rest.memories import MemoryViewSet
from convo.http.rest.router import Router
from convo.http.rest.search import SearchViewSet
from convo.http.rest.sessions import QueryViewSet, SessionViewSet
from convo.http.rest.turns import MessageViewSet, TurnViewSet

router = Router()
router.register("sessions", SessionViewSet, basename="session")
router.register(r"sessions/(?P<session>[^/.]+)/messages", MessageViewSet, basename="message")
router.register(r"sessions/(?P<session>[^/.]+)/turns", TurnViewSet, basename="turn")
router.register("memories", MemoryViewSet, basename="memory")
router.register("search", SearchViewSet, basename="search")
router.register("query", QueryViewSet, basename="query")

# For everybody: a wrong key is no reason not to see the documentation.
OPEN: dict[str, Any] = {"authentication_classes": [], "permission_classes": []}

urlpatterns = [
    path("api/v1/", include(router.urls)),
    path("api/schema/", SpectacularAPIView.as_view(authentication_classes=[]), name="schema"),
    path(
        "api/docs/", SpectacularSwaggerView.as_view(url_name="schema", authentication_classes=[]), name="docs"
    ),
    path("v1/", include("convo.http.openai_api.urls")),
    re_path(r"^api/(?P<rest>(?s:.*))\Z", errors.missing),
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("", pages.chat, name="chat"),
    path("c/<uuid:id>/", pages.chat, name="conversation"),
    path("c/<uuid:id>/clear/", pages.clear, name="clear"),
    path("c/<uuid:id>/delete/", pages.delete, name="delete"),
    path("c/<path:rest>", pages.missing),
]
