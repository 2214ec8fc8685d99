"""manage.py verify: print every broken invariant of the database, one per line."""

from argparse import ArgumentParser
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from convo import verify


class Command(BaseCommand):
    help = "Check the invariants of all transcripts. Changes nothing; the exit status is 1 if one is broken."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--session", type=UUID, metavar="ID", help="check only this session")

    def handle(self, *, session: UUID | None, **options: object) -> None:
        sessions = turns = messages = finding_count = 0
        for checked in verify.check_all() if session is None else [_check_session(session)]:
            sessions += 1
            turns += checked.turn_count
            messages += checked.message_count
            finding_count += len(checked.findings)
            for finding in checked.findings:
                self.stdout.write(f"session {checked.session_id}, {finding.location}: {finding.problem}")
        totals = f"{sessions} sessions, {turns} turns, {messages} messages checked"
        if finding_count:
            raise CommandError(f"{totals}; {finding_count} findings.")
        self.stdout.write(f"{totals}; all is well.")


def _check_session(session: UUID) -> verify.CheckedSession:
    checked = verify.check(session)
    if checked is None:
        raise CommandError(f"There is no session {session}.")
    return checked
