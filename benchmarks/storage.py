"""What is written: WAL for an appended turn, and the size of the search index beside the messages."""

import sys

from django.db import connection

from benchmarks import stage
from benchmarks.report import Section, Table, ratio
from benchmarks.running import main
from benchmarks.stage import Sizes
from convo import search, turns
from convo.models import IndexedMessage, Message

NAME = "storage"
SESSIONS = 100
# Of 500 turns: enough for a size that an index page more or less doesn't change.
INDEX_BATCHES = 8


def value_of(sql: str) -> float:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return float(cursor.fetchone()[0])


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def wal_bytes() -> float:
    """Return the position in the log; pg_stat_wal is a second behind."""
    return value_of("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")


def measure_wal(section: Section, appends: int) -> None:
    """Append turns to sessions in turn; the first half pays for pages that a checkpoint left clean."""
    execute(
        "ALTER SYSTEM SET checkpoint_timeout = '1d'",
        "ALTER SYSTEM SET max_wal_size = '20GB'",
        "SELECT pg_reload_conf()",
        "CHECKPOINT",
    )
    checkpoints = value_of("SELECT num_timed + num_requested FROM pg_stat_checkpointer")
    sessions = stage.new_sessions(stage.owner(), min(SESSIONS, appends))
    half, before = 0.0, wal_bytes()
    for number in range(appends):
        if number == appends // 2:
            half = wal_bytes()
        turns.record(sessions[number % len(sessions)], stage.pair(number))
    after = wal_bytes()
    made = Table("WAL for each appended turn, kB", ["appends", "kB"])
    made.add(f"the first {appends // 2:,}", (half - before) / (appends // 2) / 1000)
    per_turn = (after - half) / (appends - appends // 2) / 1000
    made.add(f"the second {appends - appends // 2:,}", per_turn)
    section.tables.append(made)
    section.at_most("WAL for each appended turn", per_turn, 5, "kB")
    if value_of("SELECT num_timed + num_requested FROM pg_stat_checkpointer") != checkpoints:
        section.notes.append("There was a checkpoint meanwhile, so pages were written whole twice.")


def measure_index(section: Section) -> None:
    for _ in range(INDEX_BATCHES):
        search.index_turns()
    while search.index_vectors():
        pass
    execute("VACUUM ANALYZE")
    index, messages = IndexedMessage._meta.db_table, Message._meta.db_table
    count = IndexedMessage.objects.count() or 1
    message = value_of(f"SELECT pg_total_relation_size('{messages}')") / Message.objects.count()
    whole = value_of(f"SELECT pg_total_relation_size('{index}')") / count
    vectors = value_of(f"SELECT coalesce(sum(pg_column_size(vector)), 0) FROM {index}") / count
    made = Table("Bytes on disk for each message, with its indexes", ["what", "bytes", "× the message"])
    rows = {"the message": message, "its words in the index": whole - vectors, "its vector": vectors}
    for name, size in rows.items():
        made.add(name, size, ratio(size, message))
    section.tables.append(made)
    section.at_most("index of words, × the message", ratio(whole - vectors, message), 1)


def measure(sizes: Sizes) -> Section:
    section = Section(NAME)
    stage.progress(f"{sizes.wal_appends:,} appends")
    measure_wal(section, sizes.wal_appends)
    stage.progress("indexing them")
    measure_index(section)
    return section


if __name__ == "__main__":
    sys.exit(main(__spec__.name, measure, __doc__))
