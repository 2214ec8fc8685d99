"""manage.py seed_demo: create a user with past conversations, so that every page has something to show."""

import random
import secrets
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from convo import jobs, turns
from convo.history import NewMessage
from convo.models import ME, Message, Session, Turn
from project.demo import QUESTIONS, TALKS, Talk

MODELS = ("large-model", "small-model")
# This many sweeps are enough to index, learn from and summarise the recorded conversations.
SWEEPS = 4


class Command(BaseCommand):
    help = (
        "Create a user with some weeks of made-up conversations, and memories learned from them, to try out "
        "the pages and the admin. Prints the user's password. Leaves all other users' data alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--user", default="ada", help="The user name; must not have any conversations yet."
        )
        parser.add_argument(
            "--staff", action="store_true", help="Give the user access to the admin, with all permissions."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        password = secrets.token_urlsafe(9)
        user = _create_user(options["user"], password, is_staff=options["staff"])
        # With a fixed seed the past is the same every time.
        rng = random.Random(1)
        for talk in TALKS:
            _record_talk(user, talk, rng)
        for _ in range(SWEEPS):
            jobs.sweep()
        session, _ = turns.store_session(turns.new_session(user, ME))
        for question in QUESTIONS:
            turns.ask(user, session, question)
        jobs.sweep()
        self.stdout.write(f"Sign in as {options['user']} with the password {password}")


def _create_user(username: str, password: str, *, is_staff: bool) -> Any:
    user_model = get_user_model()
    user = user_model._default_manager.filter(**{user_model.USERNAME_FIELD: username}).first()
    if user and Session.objects.owned_by(user).exists():
        raise CommandError(f"{username} already has conversations. Choose another name with --user.")
    user = user or user_model(**{user_model.USERNAME_FIELD: username})
    user.is_staff = user.is_superuser = is_staff
    user.set_password(password)
    user.save()
    return user


def _record_talk(user: Any, talk: Talk, rng: random.Random) -> None:
    """Record this conversation, dated back by its number of days."""
    session, _ = turns.store_session(turns.new_session(user, ME, title=talk.title))
    started_at = timezone.now() - timedelta(days=talk.days_ago, minutes=rng.randint(0, 300))
    messages = [
        NewMessage(role=role, content=text)
        for role, text in zip(("user", "assistant") * len(talk.messages), talk.messages, strict=False)
    ]
    _pretend_answered(session, turns.record(session, messages), started_at, rng)
    Session.objects.filter(pk=session.pk).update(created_at=started_at, last_activity=started_at)


def _pretend_answered(
    session: Session, rows: Sequence[Message], started_at: datetime, rng: random.Random
) -> None:
    """Make these turns look as if a model had answered them, one minute apart."""
    for minute, turn in enumerate({row.turn_id: row.turn for row in rows}.values()):
        asked_at = started_at + timedelta(minutes=minute)
        first_token_at = asked_at + timedelta(seconds=rng.uniform(0.3, 1.8))
        Turn.objects.filter(pk=turn.pk).update(
            kind=Turn.Kind.REPLY,
            model=rng.choice(MODELS),
            input_tokens=rng.randint(300, 3000),
            output_tokens=rng.randint(20, 400),
            created_at=asked_at,
            started_at=asked_at,
            first_token_at=first_token_at,
            finished_at=first_token_at + timedelta(seconds=rng.uniform(0.8, 6)),
        )
        Message.objects.filter(turn=turn.pk).update(created_at=asked_at)
