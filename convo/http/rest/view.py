"""What every address of the REST API has: who may call, how errors look, and to whom it shows pages."""

from collections.abc import Callable
from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from convo.conf import conf
from convo.http import errors
from convo.http.auth import AUTHENTICATION, HasScope
from convo.http.rest.browsable import Page


class ConvoView(APIView):
    """JSON for programs; a page for people in a browser, where there may be pages."""

    authentication_classes = AUTHENTICATION
    permission_classes = [HasScope]
    renderer_classes = [JSONRenderer, Page]
    has_pages = False

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        # It is forced after an error that came before anybody was known.
        self.has_pages = not force and _has_pages(request)
        return super().perform_content_negotiation(request, force)

    def get_renderers(self) -> list[BaseRenderer]:
        return [kind() for kind in self.renderer_classes if self.has_pages or not issubclass(kind, Page)]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        return errors.handle


def _has_pages(request: Request) -> bool:
    who = conf().browsable_api
    # A user model of somebody else's may know of no staff.
    return who == "everyone" or (who == "staff" and getattr(request.user, "is_staff", False))
