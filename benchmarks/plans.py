"""The plans by which PostgreSQL runs the statements of a piece of code, on all threads."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.statements import Execute, wrapped_execution

EXPLAINED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
STATEMENTS = "convo.history.statements"
# Modules that send what others have written.
SENDERS = ("convo.sql", "convo.database")
BUFFERS = re.compile(r"^ *Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", re.MULTILINE)
SCAN = re.compile(r"Scan\b.*\(actual rows=([\d.]+) loops=(\d+)\)((?:\n +(?!->)[A-Z].*)*)")
REMOVED = re.compile(r"Rows Removed by (?:Filter|Index Recheck): (\d+)")
INDEX = re.compile(r"(?:Index(?: Only)? Scan(?: Backward)? using|Bitmap Index Scan on) (\w+)")
FULL_SCAN = re.compile(r"Seq Scan on (\w+)")


@dataclass(frozen=True)
class StatementPlan:
    """A statement, where it comes from, and PostgreSQL's plan of it with the figures of one execution."""

    operation: str
    caller: str
    sql: str
    plan: str

    @property
    def text(self) -> str:
        return f"-- {self.operation}: {self.caller}\n{self.sql}\n\n{self.plan}\n"

    @property
    def indexes(self) -> list[str]:
        return list(dict.fromkeys(INDEX.findall(self.plan)))

    @property
    def scans(self) -> set[str]:
        """Return the tables that are read from beginning to end."""
        return set(FULL_SCAN.findall(self.plan))

    @property
    def buffers(self) -> int:
        """Return the pages that were read, from memory or disk: the first line counts those of all nodes."""
        match = BUFFERS.search(self.plan)
        return sum(int(count) for count in match.groups(default="0")) if match else 0

    @property
    def rows(self) -> int:
        """Return the rows that all scans read, those included that a filter then removed."""
        return sum(
            round((float(rows) + sum(map(int, REMOVED.findall(details)))) * int(loops))
            for rows, loops, details in SCAN.findall(self.plan)
        )


@contextmanager
def explain_statements(operation: str) -> Iterator[list[StatementPlan]]:
    """Explain every statement just before it is sent: it runs twice, and the first time is rolled back."""
    plans: list[StatementPlan] = []

    def explain(execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.lstrip().startswith(EXPLAINED):
            begin, end = ("SAVEPOINT plan", "ROLLBACK TO SAVEPOINT plan")
            if not context["connection"].in_atomic_block:
                begin, end = "BEGIN", "ROLLBACK"
            execute(begin, None, False, context)
            options = "ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF"
            execute(f"EXPLAIN ({options}) {sql}", params, False, context)
            plan = "\n".join(row[0] for row in context["cursor"].fetchall())
            execute(end, None, False, context)
            plans.append(StatementPlan(operation, caller(), sql, plan))
        return execute(sql, params, many, context)

    with wrapped_execution(explain):
        yield plans


def caller() -> str:
    """Return the function of ours that sends a statement: the public one, if it is written by hand."""
    frame, name = sys._getframe(1), ""
    while frame.f_back:
        module = frame.f_globals["__name__"]
        is_written_by_hand = module.startswith(STATEMENTS)
        if module.startswith("convo.") and module not in SENDERS and (is_written_by_hand or not name):
            name = f"{module}.{frame.f_code.co_name}"
        frame = frame.f_back
    return name.removeprefix("convo.")
