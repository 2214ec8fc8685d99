"""Background work. The rows say what is behind; hints make it quick, a sweep makes it certain."""

from convo.jobs.behind import dead, lag
from convo.jobs.hints import later
from convo.jobs.kinds import job, swept, swept_anywhere
from convo.jobs.ledger import want
from convo.jobs.run import run
from convo.jobs.sweep import sweep
from convo.jobs.worker import Worker

__all__ = [
    "Worker",
    "dead",
    "job",
    "lag",
    "later",
    "run",
    "sweep",
    "swept",
    "swept_anywhere",
    "want",
]
