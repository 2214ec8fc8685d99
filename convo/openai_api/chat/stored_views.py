"""Views of stored chat completions: those that were requested with `store: true`."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from convo import history, turns
from convo.errors import ContentFilter, MaxOutputTokens, NotFound
from convo.http.pagination import first_rows
from convo.models import Message, Turn, TurnRequest
from convo.openai_api import ids, schema
from convo.openai_api.chat.reply import completion_json, tool_call_json
from convo.openai_api.pagination import cut_page, page_json, read_page_query, unknown_cursor
from convo.openai_api.validation import Metadata, RequestModel, validate
from convo.openai_api.view import V1View

_IS_COMPLETE = Q(turn__status=Turn.Status.COMPLETE) | Q(
    turn__status=Turn.Status.PARTIAL, turn__error__code__in=[MaxOutputTokens.code, ContentFilter.code]
)


class MetadataReplacement(RequestModel):
    """New metadata for a stored completion."""

    metadata: Metadata


class _StoredView(V1View):
    """The base of the views of stored completions."""

    def completions(self) -> QuerySet[TurnRequest]:
        """Return the caller's stored completions, or those of one end user. Failed ones are excluded."""
        return self.turn_requests(TurnRequest.Surface.COMPLETION).filter(_IS_COMPLETE)

    def find_completion(self, id: str) -> TurnRequest | None:
        key = ids.uuid_of(ids.COMPLETION, id)
        return self.completions().filter(turn__key=key).first() if key else None

    def completion(self, id: str) -> TurnRequest:
        """Return the completion. An unknown id and another owner's give the same 404."""
        if turn_request := self.find_completion(id):
            return turn_request
        raise NotFound(f"Chat completion with id '{id}' not found.", param="completion_id")


class StoredCompletionsView(_StoredView):
    """All stored completions of the caller."""

    @schema.operation(
        "listChatCompletions",
        schema.COMPLETIONS,
        parameters=[*schema.PAGE_PARAMETERS, OpenApiParameter("model", OpenApiTypes.STR)],
    )
    def get(self, request: Request) -> Response:
        """List the stored completions, oldest first unless `order=desc`.

        Filter them by `model` or by `metadata[key]=value`.
        """
        page_query, rows = read_page_query(self.params, order="asc"), self.completions()
        if model := self.params.text("model"):
            rows = rows.filter(params__model=model)
        if page_query.after:
            cursor = self.find_completion(page_query.after)
            if cursor is None:
                raise unknown_cursor(page_query.after)
            lookup = "lt" if page_query.newest_first else "gt"
            rows = rows.filter(**{f"turn_id__{lookup}": cursor.turn_id})
        ordered_rows = rows.order_by("-turn_id" if page_query.newest_first else "turn_id")
        metadata = self.params.mapping("metadata").items()
        # Metadata is filtered in Python: keys may be any text, and the two databases match some differently.
        matching_rows = (row for row in ordered_rows.iterator(200) if metadata <= row.metadata.items())
        page_rows, has_more = first_rows(matching_rows if metadata else ordered_rows, page_query.limit)
        return Response(page_json([stored_completion_json(row) for row in page_rows], has_more=has_more))


class StoredCompletionView(_StoredView):
    """One stored completion."""

    @schema.operation("retrieveChatCompletion", schema.COMPLETION)
    def get(self, request: Request, id: str) -> Response:
        """Return the completion as it was answered."""
        return Response(stored_completion_json(self.completion(id)))

    @schema.operation("updateChatCompletion", schema.COMPLETION, request=MetadataReplacement, writes=True)
    def post(self, request: Request, id: str) -> Response:
        """Replace the completion's metadata."""
        turn_request = self.completion(id)
        metadata = validate(MetadataReplacement, self.body()).metadata

        def change() -> Response:
            turn_request.metadata = metadata
            turn_request.save(update_fields=["metadata"])
            return Response(stored_completion_json(turn_request))

        return self.idempotent(change, lambda response: turn_request.turn)

    @schema.operation("deleteChatCompletion", schema.DELETED, writes=True)
    def delete(self, request: Request, id: str) -> Response:
        """Delete the completion. Its messages stay in a session until they are deleted there."""

        def delete() -> Response:
            turns.delete_response(self.completion(id).turn)
            return Response({"object": "chat.completion.deleted", "id": id, "deleted": True})

        return self.idempotent(delete)


class StoredMessagesView(_StoredView):
    """The messages that a stored completion answered."""

    @schema.operation("listChatCompletionMessages", schema.CHAT_MESSAGES, parameters=schema.PAGE_PARAMETERS)
    def get(self, request: Request, id: str) -> Response:
        """List the messages of the request or, in a session, those that were new to it."""
        turn = self.completion(id).turn
        page_query = read_page_query(self.params, order="asc")
        rows = history.question_of(turn)
        entries = [
            {"id": f"{id}-{index}", **message}
            for index, message in enumerate(_chat_messages(history.with_inline_data(rows)))
        ]
        return Response(cut_page(entries, page_query))


def stored_completion_json(turn_request: TurnRequest) -> dict[str, Any]:
    completion = completion_json(turns.result_of(turn_request.turn), str(turn_request.params["model"]))
    return {**completion, "metadata": turn_request.metadata}


def _chat_messages(rows: Iterable[Message]) -> list[dict[str, Any]]:
    """Convert rows back to the messages that were sent. Calls of one message are merged into it."""
    messages: list[dict[str, Any]] = []
    for row in rows:
        if row.type != "function_call":
            messages.append(_chat_message(row))
            continue
        if not messages or messages[-1]["role"] != "assistant":
            messages.append(_message_json("assistant", None))
        messages[-1].setdefault("tool_calls", []).append(tool_call_json(row))
    return messages


def _chat_message(row: Message) -> dict[str, Any]:
    item = row.item or {}
    if row.type == "function_call_output":
        return {**_message_json("tool", item.get("output")), "tool_call_id": row.call_id}
    return {**_message_json(row.role, item.get("content", row.content)), "name": row.name or None}


def _message_json(role: str, content: Any) -> dict[str, Any]:
    parts = [_chat_part(part) for part in content] if isinstance(content, list) else None
    refusals = [part["refusal"] for part in content if "refusal" in part] if parts else []
    text = "\n".join(part["text"] for part in parts if "text" in part) if parts else content
    content_fields = {"content": text, "refusal": "".join(refusals) or None, "content_parts": parts}
    return {"role": role, "name": None, **content_fields}


def _chat_part(part: dict[str, Any]) -> dict[str, Any]:
    match part["type"]:
        case "input_image":
            image = {"url": part.get("image_url"), "detail": part.get("detail", "auto")}
            return {"type": "image_url", "image_url": image}
        case "input_file":
            return {"type": "file", "file": {key: part[key] for key in part if key != "type"}}
        case "refusal":
            return part
    return {"type": "text", "text": part.get("text", "")}
