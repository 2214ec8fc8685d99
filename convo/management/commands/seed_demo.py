"""manage.py seed_demo: a person with a past, so that every page has something to show."""

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
from convo.history import Draft
from convo.management.demo import QUESTIONS, TALKS, Talk
from convo.models import ME, Message, Session, Turn

MODELS = ("large-model", "small-model")
# Enough to index, learn and summarise what was just told.
SWEEPS = 4


class Command(BaseCommand):
    help = (
        "Make a person with some weeks of made-up conversations, and memories learned from them, to try the "
        "pages and the admin on. Prints a password for them. Leaves everybody else alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", default="ada", help="Their name; made, and must not have talked yet.")
        parser.add_argument("--staff", action="store_true", help="Let them into the admin, with all rights.")

    def handle(self, *args: Any, **options: Any) -> None:
        password = secrets.token_urlsafe(9)
        user = _person(options["user"], password, is_staff=options["staff"])
        # The same past every time.
        draw = random.Random(1)
        for talk in TALKS:
            _told(user, talk, draw)
        for _ in range(SWEEPS):
            jobs.sweep()
        today, _ = turns.stored(turns.new_session(user, ME))
        for question in QUESTIONS:
            turns.ask(user, today, question)
        jobs.sweep()
        self.stdout.write(f"Sign in as {options['user']} with the password {password}")


def _person(name: str, password: str, *, is_staff: bool) -> Any:
    users = get_user_model()
    user = users._default_manager.filter(**{users.USERNAME_FIELD: name}).first()
    if user and Session.objects.of(user).exists():
        raise CommandError(f"{name} has conversations already. Choose another name with --user.")
    user = user or users(**{users.USERNAME_FIELD: name})
    user.is_staff = user.is_superuser = is_staff
    user.set_password(password)
    user.save()
    return user


def _told(user: Any, talk: Talk, draw: random.Random) -> None:
    """Record this conversation, and let it have happened when it says it did."""
    session, _ = turns.stored(turns.new_session(user, ME, title=talk.title))
    began = timezone.now() - timedelta(days=talk.days, minutes=draw.randint(0, 300))
    drafts = [
        Draft(role=role, content=text)
        for role, text in zip(("user", "assistant") * len(talk.said), talk.said, strict=False)
    ]
    _answered(session, turns.record(session, drafts), began, draw)
    Session.objects.filter(pk=session.pk).update(created_at=began, last_activity=began)


def _answered(session: Session, rows: Sequence[Message], began: datetime, draw: random.Random) -> None:
    """Let these turns have been answered by a model, a minute after one another."""
    for minute, turn in enumerate({row.turn_id: row.turn for row in rows}.values()):
        asked = began + timedelta(minutes=minute)
        first = asked + timedelta(seconds=draw.uniform(0.3, 1.8))
        Turn.objects.filter(pk=turn.pk).update(
            kind=Turn.Kind.REPLY,
            model=draw.choice(MODELS),
            input_tokens=draw.randint(300, 3000),
            output_tokens=draw.randint(20, 400),
            created_at=asked,
            started_at=asked,
            first_token_at=first,
            finished_at=first + timedelta(seconds=draw.uniform(0.8, 6)),
        )
        Message.objects.filter(turn=turn.pk).update(created_at=asked)
