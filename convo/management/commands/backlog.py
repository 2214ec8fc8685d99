"""manage.py backlog: show how far background work is behind."""

from django.core.management.base import BaseCommand

from convo import jobs

MAX_COUNTED = 50_000


class Command(BaseCommand):
    help = "Show the background work that waits by kind, how long it has waited at most, and the dead work."

    def handle(self, **options: object) -> None:
        for kind, count in jobs.count_waiting(MAX_COUNTED).items():
            self.stdout.write(f"{kind}: {count:,}{' or more' if count == MAX_COUNTED else ''} waiting")
        lag = jobs.lag_seconds()
        self.stdout.write(f"Behind by {lag:.0f} s at most." if lag else "Nothing is behind.")
        if dead := jobs.count_dead():
            self.stdout.write(f"{dead} dead: `manage.py retry` lists and retries them.")
