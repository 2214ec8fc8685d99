"""manage.py reindex: rebuild the search index, after an upgrade or with other embeddings."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from convo import search

AT_A_TIME = 500


class Command(BaseCommand):
    help = "Rebuild the search index. Searches work meanwhile; a stopped run can be continued with --from."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model-only",
            action="store_true",
            help="only update vectors that are missing or come from another model",
        )
        parser.add_argument(
            "--from", type=int, default=0, metavar="TURN", dest="start", help="continue after this turn"
        )

    def handle(self, *, model_only: bool, start: int, **options: object) -> None:
        if not model_only:
            self._index_turns(start)
        self._update_vectors()

    def _index_turns(self, last_turn: int) -> None:
        total, indexed_count = search.turns_after(last_turn).count(), 0
        while turns := list(search.turns_after(last_turn).values_list("pk", flat=True)[:AT_A_TIME]):
            search.reindex_turns(turns)
            last_turn, indexed_count = turns[-1], indexed_count + len(turns)
            self.stdout.write(
                f"{indexed_count} of {total} turns; to continue from here: reindex --from {last_turn}"
            )
        self.stdout.write("All turns are indexed.")

    def _update_vectors(self) -> None:
        total = sum(rows.count() for rows in search.rows_without_vectors())
        updated_count = 0
        while batch_count := search.update_vectors(AT_A_TIME):
            updated_count += batch_count
            self.stdout.write(f"{updated_count} of {total} vectors")
        if missing_count := sum(rows.count() for rows in search.rows_without_vectors()):
            raise CommandError(
                f"{missing_count} vectors are missing: the model cannot be reached. Searches use words only; "
                "continue later with `reindex --model-only`."
            )
        self.stdout.write("All vectors come from the current model.")
