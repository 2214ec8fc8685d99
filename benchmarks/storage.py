"""The bytes that are written: WAL for an appended turn, and the search index beside the messages."""

from django.db import connection

from benchmarks import stage
from benchmarks.report import Section, Table, ratio
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


def wal() -> tuple[float, float, float]:
    """Return the bytes, records and whole pages that were written to the log, as pg_stat_wal counts them."""
    with connection.cursor() as cursor:
        # This connection would report what it wrote only a second later.
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT wal_bytes, wal_records, wal_fpi FROM pg_stat_wal")
        wal_bytes, records, pages = map(float, cursor.fetchone())
    return wal_bytes, records, pages


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
    table = Table("WAL for each appended turn (pg_stat_wal)", ["appends", "kB", "records", "whole pages"])
    half, before = appends // 2, wal()
    for name, numbers in (("first", range(half)), ("second", range(half, appends))):
        for number in numbers:
            turns.record(sessions[number % len(sessions)], stage.pair(number))
        after = wal()
        costs = [(new - old) / len(numbers) for new, old in zip(after, before, strict=True)]
        table.add(f"the {name} {len(numbers):,}", costs[0] / 1000, *costs[1:])
        before = after
    section.tables.append(table)
    section.at_most("WAL for each appended turn, in the second half", costs[0] / 1000, 5, "kB")
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
    index_bytes = value_of(f"SELECT pg_total_relation_size('{index}')") / count
    vectors = value_of(f"SELECT coalesce(sum(pg_column_size(vector)), 0) FROM {index}") / count
    table = Table("Bytes on disk for each message, with its indexes", ["what", "bytes", "× the message"])
    rows = {"the message": message, "its words in the index": index_bytes - vectors, "its vector": vectors}
    for name, size in rows.items():
        table.add(name, size, ratio(size, message))
    section.tables.append(table)
    section.at_most("index of words, × the message", ratio(index_bytes - vectors, message), 1)


def measure(sizes: Sizes) -> Section:
    section = Section(NAME)
    stage.progress(f"{sizes.wal_appends:,} appends")
    measure_wal(section, sizes.wal_appends)
    stage.progress("indexing them")
    measure_index(section)
    return section
