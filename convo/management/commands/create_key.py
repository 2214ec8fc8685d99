"""manage.py create_key USERNAME: issue an API key for a user, who is created if missing."""

from argparse import ArgumentParser
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from convo.models import ApiKey


class Command(BaseCommand):
    help = "Issue an API key and print it alone. It can't be shown again. The user is created if missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--scopes",
            default="read,write",
            help=f"Comma-separated: {', '.join(ApiKey.SCOPES)}. Default: read,write.",
        )
        parser.add_argument("--days", type=int, help="Days until the key expires. By default it never does.")

    def handle(self, *, username: str, scopes: str, days: int | None, **options: object) -> None:
        names = scopes.split(",")
        if unknown_scopes := [scope for scope in names if scope not in ApiKey.SCOPES]:
            raise CommandError(
                f"There is no scope {unknown_scopes[0]!r}. Choose from: {', '.join(ApiKey.SCOPES)}."
            )
        lifetime = timedelta(days=days) if days else None
        _, raw_key = ApiKey.objects.issue(_get_or_create_user(username), scopes=names, lifetime=lifetime)
        self.stdout.write(raw_key)


def _get_or_create_user(username: str) -> User:
    user_model = get_user_model()
    try:
        return user_model._default_manager.get_by_natural_key(username)
    except user_model.DoesNotExist:
        user = user_model(**{user_model.USERNAME_FIELD: username})
        user.set_unusable_password()
        try:
            user.full_clean(exclude=["password"])
        except ValidationError as error:
            raise CommandError(f"{username!r} can't be a username. {' '.join(error.messages)}") from error
        user.save()
        return user
