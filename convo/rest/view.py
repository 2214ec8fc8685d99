"""The base view of the REST API: authentication, errors, and the choice between JSON and pages."""

from collections.abc import Callable
from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from convo.conf import conf
from convo.http import errors
from convo.http.auth import AUTHENTICATION, HasScope
from convo.rest.browsable import BrowsableRenderer


class ConvoView(APIView):
    """A view that answers with JSON, or in a browser with a page if `BROWSABLE_API` allows that."""

    authentication_classes = AUTHENTICATION
    permission_classes = [HasScope]
    renderer_classes = [JSONRenderer, BrowsableRenderer]
    has_pages = False

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        # Most clients need no negotiation, which takes longer than rendering a short response.
        accept = request.META.get("HTTP_ACCEPT", "*/*")
        if accept in {"*/*", JSONRenderer.media_type} and "format" not in request.query_params:
            return JSONRenderer(), JSONRenderer.media_type
        # REST framework forces the negotiation after an error that came before authentication.
        self.has_pages = not force and _may_see_pages(request)
        return super().perform_content_negotiation(request, force)

    def get_renderers(self) -> list[BaseRenderer]:
        return [cls() for cls in self.renderer_classes if self.has_pages or cls is not BrowsableRenderer]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        return errors.handle


def _may_see_pages(request: Request) -> bool:
    audience = conf().browsable_api
    # A project's own user model may lack `is_staff`.
    return audience == "everyone" or (audience == "staff" and getattr(request.user, "is_staff", False))
