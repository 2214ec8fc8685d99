"""manage.py retry: make background work due now that is dead or waits after a failure."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from convo.models import Work


class Command(BaseCommand):
    help = (
        "Make dead and waiting work due now; the next sweep does it. Without arguments, only list this work."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "targets", nargs="*", metavar="PK", help="primary keys of the rows that the work is about"
        )
        parser.add_argument("--kind", help="only work of this kind")
        parser.add_argument(
            "--all", action="store_true", dest="retry_all", help="retry all work that is listed"
        )

    def handle(self, *, targets: list[str], kind: str | None, retry_all: bool, **options: object) -> None:
        if targets and retry_all:
            raise CommandError("Give either primary keys or --all, not both.")
        rows = Work.objects.items().given_up()
        rows = rows.filter(**({"kind": kind} if kind else {}), **({"target__in": targets} if targets else {}))
        for work in rows.order_by("kind", "next_at"):
            self.stdout.write(f"{work}: {work.state} after {work.attempts} attempts. {work.error}".rstrip())
        if targets or retry_all:
            self.stdout.write(f"{rows.retry()} due now; the next sweep does them.")
        else:
            self.stdout.write("To retry, give primary keys or --all.")
