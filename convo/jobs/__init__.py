"""Background work: rows say what is overdue, hints make it quick, and sweeps make it certain."""

from convo.jobs.backlog import count_dead, count_waiting, is_sweep_late, lag_seconds
from convo.jobs.hints import enqueue
from convo.jobs.ledger import require
from convo.jobs.registry import batch_job, bulk_job, job, quick_batch_job
from convo.jobs.run import follow_hint, run
from convo.jobs.supervisor import Supervisor, supervisor
from convo.jobs.sweep import sweep, sweep_quickly
from convo.jobs.worker import Worker
