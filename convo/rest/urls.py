"""The URLs of the REST API and its OpenAPI document."""

from django.urls import include, path
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.routers import APIRootView, DefaultRouter

from convo.rest.document import SchemaView
from convo.rest.memories import MemoryViewSet
from convo.rest.search import SearchViewSet
from convo.rest.sessions import QueryViewSet, SessionViewSet
from convo.rest.turns import MessageViewSet, TurnViewSet
from convo.rest.usage import UsageViewSet
from convo.rest.view import ConvoView


class ApiRoot(ConvoView, APIRootView):
    """Conversation memory for LLM chat and agents. The fields of every call are listed at /api/docs/."""

    def get_view_name(self) -> str:
        return "Convo"


class Router(DefaultRouter):
    """A router without format suffixes: Accept or `?format=` selects the representation of a resource."""

    APIRootView = ApiRoot
    include_format_suffixes = False


router = Router()
router.register("sessions", SessionViewSet, basename="session")
router.register(r"sessions/(?P<session>[^/.]+)/messages", MessageViewSet, basename="message")
router.register(r"sessions/(?P<session>[^/.]+)/turns", TurnViewSet, basename="turn")
router.register("memories", MemoryViewSet, basename="memory")
router.register("search", SearchViewSet, basename="search")
router.register("usage", UsageViewSet, basename="usage")
router.register("query", QueryViewSet, basename="query")

urlpatterns = [
    path("v1/", include(router.urls)),
    path("schema/", SchemaView.as_view(), name="schema"),
    # The split view serves its script from its own URL: a strict content policy runs no inline scripts.
    path(
        "docs/",
        SpectacularSwaggerSplitView.as_view(url_name="schema", authentication_classes=[]),
        name="docs",
    ),
]
