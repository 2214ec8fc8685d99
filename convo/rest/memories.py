"""The REST API: the memories about a person."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from convo import memory
from convo.errors import NotFound
from convo.http.auth import requested_person
from convo.http.idempotency import process_once
from convo.models import ME, Evidence, Person, UserMemory
from convo.rest import schema
from convo.rest.schema import responses
from convo.rest.serializer_fields import LinesField, StrictCharField, StrictSerializer
from convo.rest.viewset import ConvoViewSet

Status = UserMemory.Status
# Forgotten memories have no text left, so they are never listed.
LISTED_STATUSES = [Status.ACTIVE.value, Status.NEEDS_REVIEW.value, Status.SUPERSEDED.value]


class NewMemorySerializer(StrictSerializer):
    """State a fact about a person. A fact that is known already is returned as it is."""

    text = StrictCharField(max_length=memory.MAX_TEXT_LENGTH)
    kind = StrictCharField(
        required=False, max_length=40, default="fact", help_text="For example `fact` or `preference`."
    )
    slot = StrictCharField(
        required=False,
        max_length=80,
        help_text="Something that a person has only one of, such as `home`: a new fact replaces the old one.",
    )
    user = StrictCharField(required=False, max_length=255, help_text="The end user whom the fact is about.")


class MemoryChangeSerializer(StrictSerializer):
    """Correct a fact, pin it, or approve one that needs review."""

    text = StrictCharField(
        required=False, max_length=memory.MAX_TEXT_LENGTH, help_text="Another text makes a new memory."
    )
    pinned = serializers.BooleanField(required=False, help_text="Always put it into the prompt.")
    confidence = serializers.FloatField(required=False, min_value=0, max_value=1)
    status = serializers.ChoiceField(
        ["active"], required=False, help_text="Approve a fact that needs review."
    )
    user = StrictCharField(required=False, max_length=255)


class ForgettingSerializer(StrictSerializer):
    """Forget the facts that contain these words, or all of them."""

    q = StrictCharField(required=False, max_length=200, help_text="Words that the facts contain.")
    all = serializers.BooleanField(required=False, help_text="Forget everything about this person.")
    user = StrictCharField(required=False, max_length=255)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("q" in attrs) == bool(attrs.get("all")):
            raise serializers.ValidationError({"q": "Give either `q` or `all`: true."})
        return attrs


class RulesSerializer(StrictSerializer):
    """Rules on what must never be remembered about this person."""

    rules = LinesField(child=StrictCharField(), help_text="Each rule is words, or `kind:` and a kind.")
    user = StrictCharField(required=False, max_length=255)


def memory_json(row: UserMemory) -> dict[str, Any]:
    return {
        "id": str(row.key),
        "user": None if row.person.ref == ME else row.person.ref,
        "kind": row.kind,
        "slot": row.slot,
        "text": row.text,
        "confidence": row.confidence,
        "status": row.status,
        "pinned": row.pinned,
        "source": row.source,
        "valid_from": row.valid_from,
        "valid_to": row.valid_to,
        "superseded_by": str(row.superseded_by.key) if row.superseded_by else None,
    }


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    message = evidence.message
    return {
        "message": message.item_id,
        "session": str(message.session_id),
        "turn": message.turn.number,
        "position": message.position,
        "text": message.content,
        "created_at": message.created_at,
    }


def rules_json(person: Person) -> dict[str, Any]:
    return {"rules": person.never_store}


class MemoryViewSet(ConvoViewSet):
    """Facts about a person: list, add, correct, approve and forget them."""

    queryset = UserMemory.objects.none()
    lookup_field, lookup_url_kwarg = "key", "id"
    serializer_classes = {
        "create": NewMemorySerializer,
        "partial_update": MemoryChangeSerializer,
        "forget": ForgettingSerializer,
        "set_rules": RulesSerializer,
    }
    scopes = {"forget": "memory:erase"}
    allowed_params = {"list": ("status", "kind", "q", "cursor", "page_size"), "retrieve": ("explain",)}

    @extend_schema(
        operation_id="memories_list",
        parameters=schema.MEMORIES_PARAMETERS,
        responses=responses(schema.MEMORIES),
    )
    def list(self, request: Request) -> Response:
        """List the facts about the person, the newest first; only active ones unless `status` is given."""
        return self.list_response(self._filtered_queryset(), order_by="valid_from", render=memory_json)

    @extend_schema(responses=responses(schema.MEMORY, status=201, writes=True, finds=True))
    def create(self, request: Request) -> Response:
        """State a fact about the person."""
        data = self.validated_body()
        person = self._person(data.pop("user", None))

        def remember() -> Response:
            row, is_new = memory.remember(person, **data)
            return Response(memory_json(row), status=201 if is_new else 200)

        return process_once(request, remember)

    @extend_schema(parameters=schema.EXPLAIN_PARAMETERS, responses=responses(schema.EXPLAINED_MEMORY))
    def retrieve(self, request: Request, id: str) -> Response:
        """One fact; with `explain=1` also the messages that it was learned from."""
        row = self._memory(id)
        data = memory_json(row)
        if self.params.choice("explain", "0", "1") == "1":
            data["evidence"] = [evidence_json(entry) for entry in memory.evidence(row)]
        return Response(data)

    @extend_schema(responses=responses(schema.MEMORY, writes=True))
    def partial_update(self, request: Request, id: str) -> Response:
        """Pin, approve or correct a fact; another text makes a new memory. Omitted fields are unchanged."""
        data = self.validated_body(partial=True)
        row = self._memory(id, data.pop("user", None))
        approve = data.pop("status", None) is not None
        return process_once(
            request, lambda: Response(memory_json(memory.change(row, approve=approve, **data)))
        )

    @extend_schema(responses=responses(None, status=204, writes=True))
    def destroy(self, request: Request, id: str) -> Response:
        """Forget a fact and the facts that it replaced: at once, everywhere, and for good."""
        return self.delete_once(lambda: memory.forget(self._memory(id)))

    @extend_schema(responses=responses(schema.FACT_HISTORY))
    @action(detail=True, methods=["get"])
    def history(self, request: Request, id: str) -> Response:
        """The versions of a fact, oldest first."""
        return Response({"results": [memory_json(row) for row in memory.versions(self._memory(id))]})

    @extend_schema(responses=responses(schema.FORGOTTEN_COUNT, writes=True))
    @action(detail=False, methods=["post"])
    def forget(self, request: Request) -> Response:
        """Forget every fact that contains these words, or all facts about the person."""
        data = self.validated_body()
        person = self._person(data.get("user"))

        def forget() -> Response:
            words = data.get("q")
            count = memory.forget_matching(person, words) if words else memory.forget_all(person)
            return Response({"forgotten": count})

        return process_once(request, forget)

    @extend_schema(responses=responses(schema.RULES))
    @action(detail=False, methods=["get"])
    def rules(self, request: Request) -> Response:
        """Rules on what must never be remembered about the person, besides the built-in ones."""
        return Response(rules_json(self._person()))

    @extend_schema(responses=responses(schema.RULES, writes=True))
    @rules.mapping.put
    def set_rules(self, request: Request) -> Response:
        """Replace the rules on what must never be remembered about the person."""
        data = self.validated_body()
        person = self._person(data.get("user"))
        return process_once(request, lambda: Response(rules_json(memory.set_rules(person, data["rules"]))))

    def _person(self, user: str | None = None) -> Person:
        """Return the end user who is named, else the owner's own person; unsaved if there is no row."""
        ref = requested_person(self.request, user) or ME
        lookup = {"owner": self.request.user, "ref": ref}
        return Person.objects.filter(**lookup).first() or Person(**lookup)

    def _memory(self, id: str, user: str | None = None) -> UserMemory:
        """Return the memory; an unknown id, a forgotten memory and somebody else's raise the same 404."""
        try:
            key = UUID(id)
        except ValueError:
            key = UUID(int=0)
        rows = UserMemory.objects.owned_by(self.request.user, requested_person(self.request, user) or ME)
        rows = rows.exclude(status=Status.FORGOTTEN).select_related("person", "superseded_by")
        row = rows.filter(key=key).first()
        if row is None:
            raise NotFound("There is no such memory.", param="memory")
        return row

    def _filtered_queryset(self) -> QuerySet[UserMemory]:
        params = self.params
        rows = UserMemory.objects.owned_by(self.request.user, requested_person(self.request) or ME)
        rows = rows.filter(status=params.choice("status", *LISTED_STATUSES))
        rows = rows.matching(kind=params.text("kind"), words=params.text("q"))
        return rows.select_related("person", "superseded_by")
