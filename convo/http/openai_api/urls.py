"""The addresses below /v1/. None ends in a slash; one that does is understood all the same."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, path, re_path, resolve
from django.views.decorators.csrf import csrf_exempt

from convo.errors import NotFound
from convo.http.errors import v1_respond
from convo.http.openai_api.chat.completions import CompletionsView
from convo.http.openai_api.chat.stored import StoredCompletionView, StoredMessagesView
from convo.http.openai_api.conversations import ConversationsView, ConversationView, ItemsView, ItemView
from convo.http.openai_api.embeddings import EmbeddingsView
from convo.http.openai_api.models import ModelsView, ModelView
from convo.http.openai_api.responses.compaction import CompactView, InputTokensView
from convo.http.openai_api.responses.views import (
    CancelView,
    ContextView,
    InputItemsView,
    ResponsesView,
    ResponseView,
)


# Keys come in a header, which no page of somebody else's can send.
@csrf_exempt
def missing(request: HttpRequest, rest: str = "") -> HttpResponseBase:
    """Any other address; nothing is redirected, for a client would follow a POST with a GET."""
    if request.path.endswith("/"):
        try:
            found: Any = resolve(request.path.rstrip("/"), getattr(request, "urlconf", None))
        except Resolver404:
            found = None
        if found and found.func is not missing:
            answer: HttpResponseBase = found.func(request, *found.args, **found.kwargs)
            return answer
    return v1_respond(NotFound(f"Unknown request URL: {request.method} {request.path}."))


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
