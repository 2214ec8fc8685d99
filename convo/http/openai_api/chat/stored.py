"""Stored chat completions: those that were made with `store: true`, to look at again."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from convo import history, turns
from convo.errors import ContentFilter, MaxOutputTokens, NotFound
from convo.http.openai_api import ids, schema
from convo.http.openai_api.body import missing
from convo.http.openai_api.chat import schema as chat_schema
from convo.http.openai_api.chat.frames import completion_json
from convo.http.openai_api.paging import asked as page_asked
from convo.http.openai_api.paging import page_json, page_of, unknown
from convo.http.openai_api.view import V1View, mapped
from convo.models import Asked, Message, Turn

_WHOLE = Q(turn__status=Turn.Status.COMPLETE) | Q(
    turn__status=Turn.Status.PARTIAL, turn__error__code__in=[MaxOutputTokens.code, ContentFilter.code]
)


class _StoredView(V1View):
    """What the views of stored completions share."""

    def stored(self) -> QuerySet[Asked]:
        """The caller's, of one end user when one is named; what broke off is none."""
        found = Asked.objects.of(self.request.user, Asked.Surface.COMPLETION).filter(_WHOLE)
        refs = self.people()
        return found if refs is None else found.filter(turn__session__person__ref__in=refs)

    def find(self, id: str) -> Asked | None:
        key = ids.uuid_of(ids.COMPLETION, id)
        return self.stored().filter(turn__key=key).first() if key else None

    def completion(self, id: str) -> Asked:
        """An unknown one and another's are the same 404."""
        if found := self.find(id):
            return found
        raise NotFound(f"Chat completion with id '{id}' not found.", param="completion_id")


class StoredCompletionsView(_StoredView):
    """All of the caller's stored completions."""

    @extend_schema(
        operation_id="listChatCompletions",
        parameters=[*schema.PAGE, OpenApiParameter("model", OpenApiTypes.STR)],
        responses=schema.answers(chat_schema.COMPLETIONS),
    )
    def get(self, request: Request) -> Response:
        """Those of one `model`, or with this `metadata[key]=value`; the oldest first unless `order=desc`."""
        wanted, rows = page_asked(request, order="asc"), self.stored()
        if model := request.query_params.get("model"):
            rows = rows.filter(params__model=model)
        if wanted.after:
            last = self.find(wanted.after)
            if last is None:
                raise unknown(wanted.after)
            side = "lt" if wanted.newest_first else "gt"
            rows = rows.filter(**{f"turn_id__{side}": last.turn_id})
        sought = mapped(request, "metadata").items()
        found = rows.order_by("-turn_id" if wanted.newest_first else "turn_id")
        # A key of metadata may be any text, and the two databases look for some of them differently.
        fitting = (asked for asked in found.iterator(200) if sought <= asked.metadata.items())
        shown = list(islice(fitting if sought else found[: wanted.limit + 1], wanted.limit + 1))
        page = [stored_json(asked) for asked in shown[: wanted.limit]]
        return Response(page_json(page, has_more=len(shown) > wanted.limit))


class StoredCompletionView(_StoredView):
    """One stored completion."""

    @extend_schema(operation_id="retrieveChatCompletion", responses=schema.answers(chat_schema.COMPLETION))
    def get(self, request: Request, id: str) -> Response:
        """The completion as it was answered."""
        return Response(stored_json(self.completion(id)))

    @extend_schema(
        operation_id="updateChatCompletion",
        request=chat_schema.CHANGE,
        responses=schema.answers(chat_schema.COMPLETION, writes=True),
    )
    def post(self, request: Request, id: str) -> Response:
        """Replace its metadata."""
        asked, metadata = self.completion(id), self.body().metadata()
        if metadata is None:
            raise missing("metadata")

        def change() -> Response:
            asked.metadata = metadata
            asked.save(update_fields=["metadata"])
            return Response(stored_json(asked))

        return self.once(change, lambda made: asked.turn)

    @extend_schema(
        operation_id="deleteChatCompletion", responses=schema.answers(chat_schema.DELETED, writes=True)
    )
    def delete(self, request: Request, id: str) -> Response:
        """Delete it; what a session holds of it stays there until it is deleted there."""

        def delete() -> Response:
            turns.take_back(self.completion(id).turn)
            return Response({"object": "chat.completion.deleted", "id": id, "deleted": True})

        return self.once(delete)


class StoredMessagesView(_StoredView):
    """What a stored completion answered."""

    @extend_schema(
        operation_id="listChatCompletionMessages",
        parameters=schema.PAGE,
        responses=schema.answers(chat_schema.MESSAGES),
    )
    def get(self, request: Request, id: str) -> Response:
        """The messages that were sent; in a session, those that were new to it."""
        turn = self.completion(id).turn
        wanted = page_asked(request, order="asc")
        asked = [row for row in history.messages_of(turn.asks or turn) if not row.agent]
        found = [
            {"id": f"{id}-{index}", **said} for index, said in enumerate(_messages(history.inlined(asked)))
        ]
        return Response(page_of(found, wanted))


def stored_json(asked: Asked) -> dict[str, Any]:
    whole = completion_json(turns.result(asked.turn), str(asked.params["model"]))
    return {**whole, "metadata": asked.metadata}


def _messages(rows: Iterable[Message]) -> Iterator[dict[str, Any]]:
    """The rows as the messages that they were sent as: the calls of one message stand together."""
    said: dict[str, Any] | None = None
    for row in rows:
        if row.type == "function_call":
            if said is None or said["role"] != "assistant":
                if said:
                    yield said
                said = _message("assistant", None)
            function = {"name": row.name, "arguments": row.reply_text}
            call = {"id": row.call_id, "type": "function", "function": function}
            said.setdefault("tool_calls", []).append(call)
            continue
        if said:
            yield said
        said = _said(row)
    if said:
        yield said


def _said(row: Message) -> dict[str, Any]:
    item = row.item or {}
    if row.type == "function_call_output":
        return {**_message("tool", item.get("output")), "tool_call_id": row.call_id}
    return {**_message(row.role, item.get("content", row.content)), "name": row.name or None}


def _message(role: str, content: Any) -> dict[str, Any]:
    parts = [_part(part) for part in content] if isinstance(content, list) else None
    refused = [part["refusal"] for part in content if "refusal" in part] if parts else []
    words = "\n".join(part["text"] for part in parts if "text" in part) if parts else content
    shown = {"content": words, "refusal": "".join(refused) or None, "content_parts": parts}
    return {"role": role, "name": None, **shown}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of an item as a part of a chat message."""
    match part["type"]:
        case "input_image":
            image = {"url": part.get("image_url"), "detail": part.get("detail", "auto")}
            return {"type": "image_url", "image_url": image}
        case "input_file":
            return {"type": "file", "file": {key: part[key] for key in part if key != "type"}}
        case "refusal":
            return part
    return {"type": "text", "text": part.get("text", "")}
