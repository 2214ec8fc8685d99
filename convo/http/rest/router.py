"""The addresses of the REST API, and the page that lists them."""

from collections.abc import Callable
from typing import Any

from rest_framework.routers import APIRootView, DefaultRouter

from convo.http import errors
from convo.http.auth import AUTHENTICATION, HasScope


class Root(APIRootView):
    """Conversation memory for LLM chat and agents. The fields of every call: /api/docs/"""

    authentication_classes = AUTHENTICATION
    permission_classes = [HasScope]

    def get_view_name(self) -> str:
        return "Convo"

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        return errors.handle


class Router(DefaultRouter):
    """Each thing has one address; what it looks like is chosen by Accept or `?format=`."""

    APIRootView = Root
    include_format_suffixes = False
