"""Sessions with all that was said in them, their messages, and their summaries."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest

from convo import history, memory, turns
from convo.admin.confirming import Deed, action_of
from convo.admin.lists import ByAgent, Chosen, owner_named, uuid_in
from convo.admin.reading import ReadOnly, may_read
from convo.admin.transcript import page_of
from convo.models import Message, Session, Summary

State = Session.State


def _becomes(state: str, *before: str) -> Callable[[Session], bool]:
    """Give a session this state, if it is in one of those; was it?"""

    def change(session: Session) -> bool:
        return bool(Session.objects.filter(pk=session.pk, state__in=before).change(state=state))

    return change


def _expire(session: Session) -> bool:
    if session.state == State.DELETED:
        return False
    turns.discard(session)
    return True


def _bring_back(session: Session) -> bool:
    if session.state == State.DELETED:
        turns.bring_back(session.pk, session.owner)
    return session.state == State.DELETED


def _clear(session: Session) -> bool:
    history.clear(session.pk)
    return True


def _delete(session: Session) -> bool:
    history.remove(session.pk)
    return True


DEEDS = (
    Deed(
        name="close",
        label="Close",
        means="Nothing more can be said in them; what was said stays.",
        done="Closed",
        permission="tend",
        do=_becomes(State.CLOSED, State.OPEN, State.ARCHIVED),
        states=(State.OPEN, State.ARCHIVED),
    ),
    Deed(
        name="archive",
        label="Archive",
        means="They leave their owners' lists; what was said stays.",
        done="Archived",
        permission="tend",
        do=_becomes(State.ARCHIVED, State.OPEN, State.CLOSED),
        states=(State.OPEN, State.CLOSED),
    ),
    Deed(
        name="reopen",
        label="Reopen",
        means="One can go on with them where they ended.",
        done="Reopened",
        permission="tend",
        do=_becomes(State.OPEN, State.ARCHIVED, State.CLOSED),
        states=(State.ARCHIVED, State.CLOSED),
    ),
    Deed(
        name="bring_back",
        label="Bring back",
        means="What was deleted a moment ago is there again, as it was.",
        done="Brought back",
        permission="tend",
        do=_bring_back,
        states=(State.DELETED,),
    ),
    Deed(
        name="summarise",
        label="Summarise now",
        means="What stands before the last exchanges gets a summary, however little it is. A model is asked.",
        done="Summary asked for",
        permission="tend",
        do=memory.want_summary,
    ),
    Deed(
        name="clear",
        label="Clear",
        means="All that was said in them is deleted, for good, with what was learned from it alone.",
        done="Cleared",
        permission="end",
        do=_clear,
        grave=True,
    ),
    Deed(
        name="expire",
        label="Expire",
        means="Nobody finds them from now on; when the time to undo it is over they are deleted for good.",
        done="Expired",
        permission="end",
        do=_expire,
        grave=True,
        states=(State.OPEN, State.ARCHIVED, State.CLOSED),
    ),
    Deed(
        name="delete",
        label="Delete",
        means="They are deleted, for good, with all that was said in them and learned from it alone.",
        done="Deleted",
        permission="end",
        do=_delete,
        grave=True,
    ),
)


@admin.register(Session)
class SessionAdmin(ReadOnly):
    """Conversations: read by who may, and closed, cleared or deleted by the rules that their owners have."""

    list_display = ("id", "title", "owner", "person", "agent", "state", "message_count", "last_activity")
    list_filter = ("state", ByAgent, "kind", "storage", "last_activity")
    list_select_related = ("owner", "person__owner")
    ordering = ("-last_activity",)
    search_fields = ("id",)
    search_help_text = "An id, whole; the application's own name for it; or its owner's user name."
    lookups = ("owner__exact", "person__exact", "forked_from__exact")
    said = ("title", "metadata")
    actions = [action_of(deed) for deed in DEEDS]
    fieldsets = [
        (None, {"fields": ("title", "owner", "person", "agent", "state", "message_count", "turn_count")}),
        (
            "All of its fields",
            {
                "classes": ["collapse"],
                "fields": (
                    *("id", "kind", "storage", "ref", "metadata", "token_count", "forked_from", "forked_at"),
                    *("epoch", "base_position", "last_position", "last_turn", "summary_due"),
                    *("created_at", "last_activity", "expires_at"),
                ),
            },
        ),
    ]

    def found_by(self, term: str) -> Q:
        if id := uuid_in(term):
            return Q(pk=id)
        return Q(ref=term) | owner_named(term)

    def has_tend_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("convo.change_session"))

    def has_end_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("convo.delete_session"))

    def deeds(self, request: HttpRequest, session: Session) -> list[Deed]:
        """What this member of the staff may do to a session as it stands."""
        may = {"tend": self.has_tend_permission(request), "end": self.has_end_permission(request)}
        fits = (deed for deed in DEEDS if not deed.states or session.state in deed.states)
        return [deed for deed in fits if may[deed.permission]]

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return page_of(row, request.GET, reads=may_read(request)) | {"deeds": self.deeds(request, row)}


class ByType(Chosen):
    title, parameter_name, field = "type", "type", "type"
    choices_are = (
        *("message", "refusal", "reasoning", "function_call", "function_call_output", "compaction"),
    )


@admin.register(Message)
class MessageAdmin(ReadOnly):
    """Single messages. Their words are on a page of their own and in no list."""

    list_display = ("session", "position", "role", "type", "tokens", "active", "created_at")
    list_filter = ("role", ByType)
    list_select_related = ("session",)
    ordering = ("-id",)
    search_fields = ("item_id",)
    search_help_text = "An item's id such as msg_…, or the id of a session, whole."
    lookups = ("session__exact", "turn__exact")
    deferred = ("content", "item", "name")
    said = ("name", "content", "item")
    fields = (
        *("session", "turn", "position", "role", "type", "name", "agent", "content", "item", "tokens"),
        *("item_id", "thread", "active", "recallable", "erased_at", "created_at"),
    )

    def found_by(self, term: str) -> Q:
        session = uuid_in(term)
        return Q(session=session) | Q(item_id=term) if session else Q(item_id=term)


@admin.register(Summary)
class SummaryAdmin(ReadOnly):
    """What stands for stretches of conversations; a session's page shows what changed in between."""

    list_display = ("session", "from_position", "to_position", "source", "tokens", "stale", "created_at")
    list_filter = ("source", "stale")
    list_select_related = ("session",)
    ordering = ("-id",)
    search_fields = ("session",)
    search_help_text = "The id of a session, whole."
    lookups = ("session__exact",)
    deferred = ("text",)
    said = ("text",)
    fields = (
        *("session", "from_position", "to_position", "text", "previous", "source", "model", "prompt_version"),
        *("tokens", "stale", "created_at"),
    )

    def found_by(self, term: str) -> Q:
        return Q(session=uuid_in(term))
