"""The addresses of the REST API, and the page that lists them."""

from rest_framework.routers import APIRootView, DefaultRouter

from convo.http.rest.view import ConvoView


class Root(ConvoView, APIRootView):
    """Conversation memory for LLM chat and agents. The fields of every call: /api/docs/"""

    def get_view_name(self) -> str:
        return "Convo"


class Router(DefaultRouter):
    """Each thing has one address; what it looks like is chosen by Accept or `?format=`."""

    APIRootView = Root
    include_format_suffixes = False
