"""A plain Django REST framework project that keeps messages: the yardstick for Convo's HTTP requests.

It does what any such project does and nothing more: Django's own handler, the middlewares of
project/settings.py, one indexed look-up of a hashed key with its owner, one `Session.get`, then 20 rows
through a `ModelSerializer`, or an append of two rows under the session's lock. Its tables are its own.
"""

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connection, models, transaction
from django.urls import path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

PAGE_SIZE = 20


class PlainKey(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    hash = models.CharField(max_length=64, unique=True)

    objects: "models.Manager[PlainKey]" = models.Manager()

    class Meta:
        app_label = "plain_drf"

    def __str__(self) -> str:
        return self.hash[:8]


class PlainSession(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    last_position = models.PositiveBigIntegerField(default=0)
    last_activity = models.DateTimeField(default=timezone.now)

    objects: "models.Manager[PlainSession]" = models.Manager()

    class Meta:
        app_label = "plain_drf"

    def __str__(self) -> str:
        return str(self.pk)


class PlainMessage(models.Model):
    session = models.ForeignKey(PlainSession, models.CASCADE, related_name="+", db_index=False)
    position = models.PositiveBigIntegerField()
    role = models.CharField(max_length=9)
    content = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    objects: "models.Manager[PlainMessage]" = models.Manager()

    class Meta:
        app_label = "plain_drf"
        constraints = [
            models.UniqueConstraint(fields=["session", "position"], name="one_plain_message_per_position")
        ]

    def __str__(self) -> str:
        return f"message {self.position}"


class MessageSerializer(serializers.ModelSerializer[PlainMessage]):
    class Meta:
        model = PlainMessage
        fields = ["id", "position", "role", "content", "created_at"]


class NewMessageSerializer(serializers.ModelSerializer[PlainMessage]):
    class Meta:
        model = PlainMessage
        fields = ["role", "content"]


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Any, PlainKey]:
        secret = request.META.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        key = PlainKey.objects.select_related("owner").filter(hash=hash_of(secret)).first()
        if key is None or not key.owner.is_active:
            raise AuthenticationFailed
        return key.owner, key


class MessagesView(APIView):
    authentication_classes = [KeyAuthentication]
    permission_classes = [IsAuthenticated]
    renderer_classes = [JSONRenderer]

    def get(self, request: Request, session: uuid.UUID) -> Response:
        row = get_object_or_404(PlainSession, pk=session, owner=request.user)
        newest = PlainMessage.objects.filter(session=row).order_by("-position")[:PAGE_SIZE]
        return Response({"results": MessageSerializer(newest, many=True).data})

    def post(self, request: Request, session: uuid.UUID) -> Response:
        body: dict[str, Any] = request.data  # type: ignore[assignment]
        serializer = NewMessageSerializer(data=body["messages"], many=True)
        serializer.is_valid(raise_exception=True)
        rows = append(session, request.user, serializer.validated_data)
        return Response({"results": MessageSerializer(rows, many=True).data}, status=201)


def append(session_id: uuid.UUID, owner: Any, messages: Sequence[dict[str, str]]) -> list[PlainMessage]:
    """Append messages in one transaction, under the session's lock."""
    with transaction.atomic():
        session = get_object_or_404(PlainSession.objects.select_for_update(), pk=session_id, owner=owner)
        rows = [
            PlainMessage(session=session, position=position, **message)
            for position, message in enumerate(messages, session.last_position + 1)
        ]
        PlainMessage.objects.bulk_create(rows)
        PlainSession.objects.filter(pk=session.pk).update(
            last_position=session.last_position + len(rows), last_activity=timezone.now()
        )
    return rows


def hash_of(secret: str) -> str:
    return hashlib.sha256(settings.SECRET_KEY.encode() + secret.encode()).hexdigest()


def create_tables() -> None:
    """Create the project's tables, unless another section of the run has."""
    if PlainKey._meta.db_table in connection.introspection.table_names():
        return
    with connection.schema_editor() as editor:
        for model in (PlainKey, PlainSession, PlainMessage):
            editor.create_model(model)


def issue_key(owner: Any) -> str:
    """Store the hash of a new key, and return its secret."""
    secret = secrets.token_urlsafe(32)
    PlainKey.objects.create(owner=owner, hash=hash_of(secret))
    return secret


urlpatterns = [path("sessions/<uuid:session>/messages/", MessagesView.as_view())]
# Django's own handler, whatever Convo's server is set to.
application = get_asgi_application()
