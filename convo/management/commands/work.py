"""`manage.py work`: the child process that does background work for a web server or Celery worker."""

import os
import signal
import sys

from django.core.management.base import BaseCommand, CommandError

from convo.jobs.child import Child


class Command(BaseCommand):
    help = (
        "Do background work for the process that started this one; servers and workers start it themselves."
    )
    # The process that started this one has run them.
    requires_system_checks = []

    def handle(self, **options: object) -> None:
        if sys.stdin.isatty():
            raise CommandError("Servers and workers start this command themselves. Run `manage.py serve`.")
        # The parent ends this process, so it ignores signals to the whole group, such as a terminal's Ctrl-C.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        # The parent reads answers from stdout, so all other output goes to stderr.
        os.dup2(2, 1)
        Child(answers).serve(sys.stdin)
