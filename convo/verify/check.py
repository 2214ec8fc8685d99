"""Check sessions one by one, with the memory of one session and a fixed number of queries for each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from convo.history import window
from convo.models import Session
from convo.verify import messages, turns
from convo.verify.rows import Finding, SessionRows, read

PAGE_SIZE = 500


def person_belongs_to_the_owner(rows: SessionRows) -> Iterator[Finding]:
    session = rows.session
    if session.owner_id != session.person.owner_id:
        yield Finding(
            "person", f"belongs to user {session.person.owner_id}, the session to {session.owner_id}"
        )


def summaries_cover_existing_positions(rows: SessionRows) -> Iterator[Finding]:
    """A summary covers existing positions, and is stale if one of them was deleted after it was written."""
    session = rows.session
    tombstones = [(row.position, row.erased_at) for row in rows.messages if row.erased_at]
    for summary in rows.summaries:
        first, last = summary.from_position, summary.to_position
        location = f"summary of {first}–{last}"
        if not session.base_position < first <= last <= session.last_position:
            yield Finding(location, "covers positions that do not exist")
        for position, erased_at in tombstones:
            if not summary.stale and first <= position <= last and erased_at > summary.created_at:
                yield Finding(location, f"is not stale, though position {position} was deleted")


def memories_cite_existing_messages(rows: SessionRows) -> Iterator[Finding]:
    """The evidence of a memory is a message of its person that was not deleted."""
    for evidence in rows.evidence:
        location = f"position {evidence.message.position}"
        if evidence.message.erased_at:
            yield Finding(location, f"deleted, but memory {evidence.memory.key} cites it as evidence")
        if evidence.memory.person_id != rows.session.person_id:
            yield Finding(location, f"memory {evidence.memory.key} of another person cites it as evidence")


def attachments_match_their_links(rows: SessionRows) -> Iterator[Finding]:
    yield from rows.attachment_findings


def ephemeral_text_is_only_cached(rows: SessionRows) -> Iterator[Finding]:
    for location in rows.ephemeral_texts:
        yield Finding(location, "holds text of a temporary chat, which belongs in the cache only")


def hot_window_matches_the_database(rows: SessionRows) -> Iterator[Finding]:
    """The hot window that is cached for the session's version holds the newest messages of the transcript."""
    if rows.hot_windows is None:
        return
    cached_window, expected_window = rows.hot_windows
    if cached_window[-window.MAX_MESSAGES :] != expected_window:
        yield Finding("hot window", f"differs from the database at version {rows.session.version}")


INVARIANTS: tuple[Callable[[SessionRows], Iterator[Finding]], ...] = (
    messages.positions_have_no_gap,
    messages.positions_and_ids_are_unique,
    messages.counters_agree,
    messages.tombstones_are_empty,
    messages.calls_have_results,
    messages.turns_are_contiguous,
    turns.at_most_one_turn_runs,
    turns.leases_match_status,
    turns.ended_turns_have_no_draft,
    turns.turns_have_questions,
    turns.complete_turns_have_replies,
    turns.turns_continue_earlier_ones,
    turns.the_transcript_is_one_branch,
    turns.replies_are_shown_with_their_question,
    person_belongs_to_the_owner,
    summaries_cover_existing_positions,
    memories_cite_existing_messages,
    attachments_match_their_links,
    ephemeral_text_is_only_cached,
    hot_window_matches_the_database,
)


@dataclass(frozen=True)
class CheckedSession:
    """The result of checking one session."""

    session_id: UUID
    turn_count: int
    message_count: int
    findings: list[Finding]


def check(session_id: UUID) -> CheckedSession | None:
    """Check one session; return None if it doesn't exist."""
    rows = read(session_id)
    if rows is None:
        return None
    if rows.session.storage == Session.Storage.NONE:
        # Such a session stores nothing but the usage of its turns, so the other invariants don't apply.
        return CheckedSession(session_id, len(rows.turns), 0, list(messages.nothing_is_stored(rows)))
    findings = [finding for invariant in INVARIANTS for finding in invariant(rows)]
    return CheckedSession(session_id, len(rows.turns), len(rows.messages), findings)


def check_all() -> Iterator[CheckedSession]:
    for session_id in _session_ids():
        if checked := check(session_id):
            yield checked


def _session_ids() -> Iterator[UUID]:
    # The ids are read in pages: an open cursor would hold a snapshot of the database until the last check.
    page = list(Session.objects.order_by("pk").values_list("pk", flat=True)[:PAGE_SIZE])
    while page:
        yield from page
        next_sessions = Session.objects.filter(pk__gt=page[-1]).order_by("pk")
        page = list(next_sessions.values_list("pk", flat=True)[:PAGE_SIZE])
