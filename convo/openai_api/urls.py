"""URLs below /v1/. None ends in a slash, but a request with a trailing slash is answered all the same."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, path, re_path, resolve
from django.views.decorators.csrf import csrf_exempt

from convo.errors import NotFound
from convo.http.errors import v1_error_response
from convo.openai_api.chat.completions import CompletionsView
from convo.openai_api.chat.stored_views import StoredCompletionView, StoredMessagesView
from convo.openai_api.conversations import ConversationsView, ConversationView, ItemsView, ItemView
from convo.openai_api.embeddings import EmbeddingsView
from convo.openai_api.models import ModelsView, ModelView
from convo.openai_api.responses.compact_views import CompactView, InputTokensView
from convo.openai_api.responses.views import (
    CancelView,
    ContextView,
    InputItemsView,
    ResponsesView,
    ResponseView,
)


# The API key comes in a header that a foreign page cannot send, so CSRF protection is not needed.
@csrf_exempt
def missing(request: HttpRequest, rest: str = "") -> HttpResponseBase:
    """Answer every other URL: without its trailing slash if that URL exists, else with a 404.

    Nothing is redirected, because a client would follow the redirect of a POST with a GET.
    """
    stripped_path = request.path.rstrip("/")
    # A path that is shorter than the prefix of this include belongs to the project's own URLs.
    if request.path.endswith("/") and stripped_path.startswith(request.path.removesuffix(rest)):
        try:
            match: Any = resolve(stripped_path, getattr(request, "urlconf", None))
        except Resolver404:
            match = None
        if match and match.func is not missing:
            response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
            return response
    return v1_error_response(NotFound(f"Unknown request URL: {request.method} {request.path}."))


urlpatterns = [
    path("conversations", ConversationsView.as_view()),
    path("conversations/<str:id>", ConversationView.as_view()),
    path("conversations/<str:id>/items", ItemsView.as_view()),
    path("conversations/<str:id>/items/<str:item_id>", ItemView.as_view()),
    path("responses", ResponsesView.as_view()),
    path("responses/input_tokens", InputTokensView.as_view()),
    path("responses/compact", CompactView.as_view()),
    path("responses/<str:id>", ResponseView.as_view()),
    path("responses/<str:id>/cancel", CancelView.as_view()),
    path("responses/<str:id>/input_items", InputItemsView.as_view()),
    path("responses/<str:id>/context", ContextView.as_view()),
    path("models", ModelsView.as_view()),
    path("models/<path:model>", ModelView.as_view()),
    path("chat/completions", CompletionsView.as_view()),
    path("chat/completions/<str:id>", StoredCompletionView.as_view()),
    path("chat/completions/<str:id>/messages", StoredMessagesView.as_view()),
    path("embeddings", EmbeddingsView.as_view()),
    re_path(r"^(?P<rest>(?s:.*))\Z", missing),
]
