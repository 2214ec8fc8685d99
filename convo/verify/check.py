"""Checking sessions one after the other: memory for one of them, a fixed number of queries for each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from convo.models import Session
from convo.verify import messages, ties, turns
from convo.verify.rows import Finding, Rows, read

PAGE = 500

INVARIANTS: tuple[Callable[[Rows], Iterator[Finding]], ...] = (
    messages.positions_have_no_gap,
    messages.nothing_is_there_twice,
    messages.counters_agree,
    messages.tombstones_are_empty,
    messages.calls_have_results,
    messages.turns_are_whole,
    turns.at_most_one_runs,
    turns.leases_are_kept,
    turns.drafts_are_gone,
    turns.turns_have_questions,
    turns.complete_turns_have_replies,
    turns.turns_continue_earlier_ones,
    turns.the_transcript_is_one_branch,
    turns.replies_stand_behind_their_question,
    ties.the_person_is_the_owners,
    ties.summaries_cover_what_is_there,
    ties.memories_rest_on_messages,
    ties.files_are_shown_as_they_are_kept,
    ties.a_temporary_chat_is_told_nowhere,
    ties.the_hot_window_is_right,
)


@dataclass(frozen=True)
class Checked:
    """One session that was read whole, and what is broken in it."""

    session: UUID
    turns: int
    messages: int
    findings: list[Finding]


def check(session_id: UUID) -> Checked | None:
    """Check one session; None when there is none, or no longer."""
    rows = read(session_id)
    if rows is None:
        return None
    if rows.session.storage == Session.Storage.NONE:
        # Nothing but what its turns cost is kept: there is nothing that could hang together.
        return Checked(session_id, len(rows.turns), 0, list(messages.nothing_is_kept(rows)))
    findings = [finding for invariant in INVARIANTS for finding in invariant(rows)]
    return Checked(session_id, len(rows.turns), len(rows.messages), findings)


def check_all() -> Iterator[Checked]:
    """Check every session, by id."""
    for session_id in _ids():
        if checked := check(session_id):
            yield checked


def _ids() -> Iterator[UUID]:
    # In pages: a cursor that stays open would hold a snapshot of the database for as long as this takes.
    page = list(Session.objects.order_by("pk").values_list("pk", flat=True)[:PAGE])
    while page:
        yield from page
        later = Session.objects.filter(pk__gt=page[-1]).order_by("pk")
        page = list(later.values_list("pk", flat=True)[:PAGE])
