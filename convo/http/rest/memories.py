"""The REST API: what is remembered about a person, and what they do about it."""

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
from convo.http.auth import named_person
from convo.http.once import once
from convo.http.rest import schema
from convo.http.rest.paging import page_by
from convo.http.rest.schema import answers
from convo.http.rest.values import Lines, Strict, Text
from convo.http.rest.viewset import ConvoViewSet
from convo.models import ME, Evidence, Person, UserMemory

Status = UserMemory.Status
# A forgotten one has nothing left to show.
SHOWN = [Status.ACTIVE.value, Status.NEEDS_REVIEW.value, Status.SUPERSEDED.value]


class NewMemory(Strict):
    """Write down a fact about a person. One that is known already is returned as it is."""

    text = Text(max_length=memory.LONGEST_TEXT)
    kind = Text(required=False, max_length=40, default="fact", help_text="Such as fact or preference.")
    slot = Text(
        required=False, max_length=80, help_text="What there is one of: a new home takes the old one's place."
    )
    user = Text(required=False, max_length=255, help_text="The end user whom it is about.")


class MemoryChange(Strict):
    """Correct a fact, pin it, or let one be used that waits for review."""

    text = Text(required=False, max_length=memory.LONGEST_TEXT, help_text="A new one replaces it.")
    pinned = serializers.BooleanField(required=False, help_text="Always in the prompt.")
    confidence = serializers.FloatField(required=False, min_value=0, max_value=1)
    status = serializers.ChoiceField(["active"], required=False, help_text="Approve it, after review.")
    user = Text(required=False, max_length=255)


class Forgetting(Strict):
    """Forget what has these words, or everything."""

    q = Text(required=False, max_length=200, help_text="Words that the facts have.")
    all = serializers.BooleanField(required=False, help_text="Everything about this person.")
    user = Text(required=False, max_length=255)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if ("q" in given) == bool(given.get("all")):
            raise serializers.ValidationError({"q": "Give either `q` or `all`: true."})
        return given


class Rules(Strict):
    """What must never be remembered about this person."""

    rules = Lines(child=Text(), help_text="Words, or `kind:` and a kind.")
    user = Text(required=False, max_length=255)


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
    said = evidence.message
    return {
        "message": said.item_id,
        "session": str(said.session_id),
        "turn": said.turn.number,
        "position": said.position,
        "text": said.content,
        "created_at": said.created_at,
    }


def rules_json(person: Person) -> dict[str, Any]:
    return {"rules": person.never_store}


class MemoryViewSet(ConvoViewSet):
    """What is remembered about a person: look, add, correct, approve, forget."""

    queryset = UserMemory.objects.none()
    lookup_field, lookup_url_kwarg = "key", "id"
    serializers = {
        "create": NewMemory,
        "partial_update": MemoryChange,
        "forget": Forgetting,
        "set_rules": Rules,
    }
    parameters = {"list": ("status", "kind", "q", "cursor", "page_size"), "retrieve": ("explain",)}

    @extend_schema(
        operation_id="memories_list",
        parameters=schema.MEMORIES_PARAMETERS,
        responses=answers(schema.MEMORIES),
    )
    def list(self, request: Request) -> Response:
        """What is remembered about the person, the newest first; what is in use, unless `status` is given."""
        cursor, size = self.asked.text("cursor"), self.asked.page_size()
        page = page_by(request, self._filtered(), by="valid_from", cursor=cursor, size=size)
        results = [memory_json(row) for row in page.rows]
        return Response({"results": results, "next": page.next, "previous": page.previous})

    @extend_schema(responses=answers(schema.MEMORY, status=201, writes=True, finds=True))
    def create(self, request: Request) -> Response:
        """Write down a fact about the person."""
        given = self.body()
        person = self._person(given.pop("user", None))

        def remember() -> Response:
            row, made = memory.remember(person, **given)
            return Response(memory_json(row), status=201 if made else 200)

        return once(request, remember)

    @extend_schema(parameters=schema.EXPLAIN_PARAMETERS, responses=answers(schema.EXPLAINED_MEMORY))
    def retrieve(self, request: Request, id: str) -> Response:
        """One fact; with `explain=1` the messages that it was learned from."""
        row = self._memory(id)
        shown = memory_json(row)
        if self.asked.choice("explain", "0", "1") == "1":
            shown["evidence"] = [evidence_json(entry) for entry in memory.evidence(row)]
        return Response(shown)

    @extend_schema(responses=answers(schema.MEMORY, writes=True))
    def partial_update(self, request: Request, id: str) -> Response:
        """Correct the text, which makes a new memory in its place; pin it; approve it. The rest stays."""
        given = self.body(partial=True)
        row = self._memory(id, given.pop("user", None))
        approve = given.pop("status", None) is not None
        return once(request, lambda: Response(memory_json(memory.change(row, approve=approve, **given))))

    @extend_schema(responses=answers(None, status=204, writes=True))
    def destroy(self, request: Request, id: str) -> Response:
        """Forget a fact, with what it replaced: at once, everywhere, and for good."""

        def forget() -> Response:
            memory.forget(self._memory(id))
            return Response(status=204)

        return once(request, forget)

    @extend_schema(responses=answers(schema.FACT_HISTORY))
    @action(detail=True, methods=["get"])
    def history(self, request: Request, id: str) -> Response:
        """The fact through time, oldest first."""
        return Response({"results": [memory_json(row) for row in memory.history(self._memory(id))]})

    @extend_schema(responses=answers(schema.FORGOTTEN, writes=True))
    @action(detail=False, methods=["post"])
    def forget(self, request: Request) -> Response:
        """Forget every fact that has these words, or all there are."""
        given = self.body()
        person = self._person(given.get("user"))

        def forget() -> Response:
            words = given.get("q")
            count = memory.forget_matching(person, words) if words else memory.forget_all(person)
            return Response({"forgotten": count})

        return once(request, forget)

    @extend_schema(responses=answers(schema.RULES))
    @action(detail=False, methods=["get"])
    def rules(self, request: Request) -> Response:
        """What must never be remembered about the person, besides what never is."""
        return Response(rules_json(self._person()))

    @extend_schema(responses=answers(schema.RULES, writes=True))
    @rules.mapping.put
    def set_rules(self, request: Request) -> Response:
        """Set what must never be remembered from now on, in place of the rules before."""
        given = self.body()
        person = self._person(given.get("user"))
        return once(request, lambda: Response(rules_json(memory.set_rules(person, given["rules"]))))

    def _person(self, named: str | None = None) -> Person:
        """Whose memories: the end user's who is named, else the owner's. A person of no row may come back."""
        ref = named_person(self.request, named) or ME
        whose = {"owner": self.request.user, "ref": ref}
        return Person.objects.filter(**whose).first() or Person(**whose)

    def _memory(self, id: str, user: str | None = None) -> UserMemory:
        """The person's memory; an unknown, a forgotten and somebody else's are the same 404."""
        try:
            key = UUID(id)
        except ValueError:
            key = UUID(int=0)
        rows = UserMemory.objects.of(self.request.user, named_person(self.request, user) or ME)
        rows = rows.exclude(status=Status.FORGOTTEN).select_related("person", "superseded_by")
        row = rows.filter(key=key).first()
        if row is None:
            raise NotFound("There is no such memory.", param="memory")
        return row

    def _filtered(self) -> QuerySet[UserMemory]:
        asked = self.asked
        rows = UserMemory.objects.of(self.request.user, named_person(self.request) or ME)
        rows = rows.filter(status=asked.choice("status", *SHOWN))
        rows = rows.about(kind=asked.text("kind"), words=asked.text("q"))
        return rows.select_related("person", "superseded_by")
