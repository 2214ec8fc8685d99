"""The hottest statements, written by hand: Django takes longer to build them than databases to answer them.

Tests hold each of them against the ORM's answer, so that a later column or another rule of the querysets is
not forgotten here.
"""

from convo.history.statements.appending import LockedSession, insert_if_absent, insert_turn, lock_session
from convo.history.statements.branching import BranchPoint, find_branch_point, switch_branch
from convo.history.statements.ending import (
    Draft,
    PromptRecord,
    end_turn,
    insert_ended_turn,
    renew_leases,
    save_drafts,
)
from convo.history.statements.reading import (
    AFTER_ALL,
    BEFORE_ALL,
    FactRow,
    IndexEntry,
    SummaryRow,
    find_session,
    read_newest,
    read_page,
    read_prompt_sources,
)
