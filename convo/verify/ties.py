"""What must hold between a session and what hangs on it: its person, its summaries, its hot window."""

from collections.abc import Iterator

from convo.history import window
from convo.verify import shown
from convo.verify.rows import Finding, Rows


def the_person_is_the_owners(rows: Rows) -> Iterator[Finding]:
    session = rows.session
    if session.owner_id != session.person.owner_id:
        yield Finding(
            "person", f"belongs to user {session.person.owner_id}, the session to {session.owner_id}"
        )


def summaries_cover_what_is_there(rows: Rows) -> Iterator[Finding]:
    """A summary stands for positions that exist, and is stale when one of them was deleted after it."""
    session = rows.session
    erased = [(row.position, row.erased_at) for row in rows.messages if row.erased_at]
    for summary in rows.summaries:
        first, last = summary.from_position, summary.to_position
        where = f"summary of {first}–{last}"
        if not session.base_position < first <= last <= session.last_position:
            yield Finding(where, "covers positions that are not there")
        for position, erased_at in erased:
            if not summary.stale and first <= position <= last and erased_at > summary.created_at:
                yield Finding(where, f"is not stale, though position {position} was deleted")


def memories_rest_on_messages(rows: Rows) -> Iterator[Finding]:
    """What is known about a person rests on words of that person that are still there."""
    for evidence in rows.evidence:
        where = f"position {evidence.message.position}"
        if evidence.message.erased_at:
            yield Finding(where, f"deleted, but memory {evidence.memory.key} rests on it")
        if evidence.memory.person_id != rows.session.person_id:
            yield Finding(where, f"memory {evidence.memory.key} of another person rests on it")


def files_are_shown_as_they_are_kept(rows: Rows) -> Iterator[Finding]:
    """Items and uses tell the same, of the person's own; and what no message shows is not kept."""
    for where, what in shown.broken(rows.files):
        yield Finding(where, what)


def a_temporary_chat_is_told_nowhere(rows: Rows) -> Iterator[Finding]:
    """What is said in it is in the cache alone."""
    for place in rows.words:
        yield Finding(place, "tells of a temporary chat, of which no table may have a word")


def the_hot_window_is_right(rows: Rows) -> Iterator[Finding]:
    """The window found under the session's version holds the transcript's newest lines."""
    if rows.hot is None:
        return
    kept, right = rows.hot
    if kept[-window.LENGTH :] != right:
        yield Finding("hot window", f"does not hold what the database says of version {rows.session.version}")
