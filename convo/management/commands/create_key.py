"""manage.py create_key USERNAME: an API key for a user, made if missing."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from convo.models import ApiKey


class Command(BaseCommand):
    help = "Make an API key and print it, alone. It is shown this once. The user is made if missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--scopes", default="read,write", help="Comma-separated: " + ", ".join(ApiKey.SCOPES)
        )
        parser.add_argument("--days", type=int, help="How long it is valid; for good when left out.")

    def handle(self, *args: Any, **options: Any) -> None:
        scopes = options["scopes"].split(",")
        if unknown := [scope for scope in scopes if scope not in ApiKey.SCOPES]:
            raise CommandError(f"There is no scope {unknown[0]!r}; there are: {', '.join(ApiKey.SCOPES)}.")
        lifetime = timedelta(days=options["days"]) if options["days"] else None
        _, raw = ApiKey.objects.issue(_user(options["username"]), scopes=scopes, lifetime=lifetime)
        self.stdout.write(raw)


def _user(username: str) -> Any:
    users = get_user_model()
    try:
        return users._default_manager.get_by_natural_key(username)
    except users.DoesNotExist:
        user = users(**{users.USERNAME_FIELD: username})
        user.set_unusable_password()
        try:
            user.full_clean(exclude=["password"])
        except ValidationError as error:
            raise CommandError(f"{username!r} can't be a username. {' '.join(error.messages)}") from error
        user.save()
        return user
