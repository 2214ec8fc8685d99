"""manage.py reindex: make the search index anew, after an upgrade or with other embeddings."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from convo import search

AT_A_TIME = 500


class Command(BaseCommand):
    help = "Make the search index anew. Searches go on meanwhile; it can be stopped, and go on later."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model-only", action="store_true", help="only vectors of another model, or missing"
        )
        parser.add_argument(
            "--from", type=int, default=0, metavar="TURN", dest="start", help="go on behind this turn"
        )

    def handle(self, *, model_only: bool, start: int, **options: Any) -> None:
        if not model_only:
            self._turns(start)
        self._vectors()

    def _turns(self, last: int) -> None:
        total, done = search.turns_after(last).count(), 0
        while turns := list(search.turns_after(last).values_list("pk", flat=True)[:AT_A_TIME]):
            search.index_anew(turns)
            last, done = turns[-1], done + len(turns)
            self.stdout.write(f"{done} of {total} turns; to go on from here: reindex --from {last}")
        self.stdout.write("All turns are indexed.")

    def _vectors(self) -> None:
        missing = sum(rows.count() for rows in search.other_vectors())
        done = 0
        while some := search.vectors_anew(AT_A_TIME):
            done += some
            self.stdout.write(f"{done} of {missing} vectors")
        if left := sum(rows.count() for rows in search.other_vectors()):
            raise CommandError(
                f"{left} vectors are missing: the model cannot be reached. Searches go by words; "
                "`reindex --model-only` goes on from here."
            )
        self.stdout.write("All vectors are of today's model.")
