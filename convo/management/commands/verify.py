"""manage.py verify: every broken invariant of the database, a line each."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from convo import verify


class Command(BaseCommand):
    help = "Check that no transcript has a gap, a stray, a lie. Changes nothing; exit status 1 if any has."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--session", type=UUID, metavar="ID", help="only this one")

    def handle(self, *, session: UUID | None, **options: Any) -> None:
        sessions = turns = messages = broken = 0
        for checked in verify.check_all() if session is None else [_one(session)]:
            sessions, turns, messages = sessions + 1, turns + checked.turns, messages + checked.messages
            for finding in checked.findings:
                broken += 1
                self.stdout.write(f"session {checked.session}, {finding.where}: {finding.what}")
        seen = f"{sessions} sessions, {turns} turns, {messages} messages checked"
        if broken:
            raise CommandError(f"{seen}; {broken} findings.")
        self.stdout.write(f"{seen}; all is well.")


def _one(session: UUID) -> verify.Checked:
    checked = verify.check(session)
    if checked is None:
        raise CommandError(f"There is no session {session}.")
    return checked
