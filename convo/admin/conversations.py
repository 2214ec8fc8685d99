"""Admin of sessions with their transcripts, of single messages, and of summaries."""

from collections.abc import Callable

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest

from convo import history, memory, turns
from convo.admin.confirmation import RowAction, admin_action
from convo.admin.lists import OWNER_NAME, AgentFilter, ConfiguredNameFilter, parse_uuid
from convo.admin.read_only import ReadOnlyAdmin, can_read_content, permission_check
from convo.admin.transcript import session_context
from convo.models import Message, Session, Summary

State = Session.State


def _change_state(state: str, *from_states: str) -> Callable[[Session], bool]:
    """Return a function that moves a session from `from_states` to `state`, and returns whether it did."""

    def change(session: Session) -> bool:
        return bool(Session.objects.filter(pk=session.pk, state__in=from_states).change(state=state))

    return change


def _expire(session: Session) -> bool:
    if session.state == State.DELETED:
        return False
    turns.discard(session)
    return True


def _bring_back(session: Session) -> bool:
    if session.state == State.DELETED:
        turns.restore(session.pk, session.owner)
    return session.state == State.DELETED


def _clear(session: Session) -> bool:
    history.clear(session.pk)
    return True


def _delete(session: Session) -> bool:
    history.remove(session.pk)
    return True


SESSION_ACTIONS = (
    RowAction(
        name="close",
        label="Close",
        description="They take no more questions; their messages stay.",
        done_label="Closed",
        permission="manage",
        apply=_change_state(State.CLOSED, State.OPEN, State.ARCHIVED),
        states=(State.OPEN, State.ARCHIVED),
    ),
    RowAction(
        name="archive",
        label="Archive",
        description="They leave their owners' lists; their messages stay.",
        done_label="Archived",
        permission="manage",
        apply=_change_state(State.ARCHIVED, State.OPEN, State.CLOSED),
        states=(State.OPEN, State.CLOSED),
    ),
    RowAction(
        name="reopen",
        label="Reopen",
        description="Their owners can continue them where they ended.",
        done_label="Reopened",
        permission="manage",
        apply=_change_state(State.OPEN, State.ARCHIVED, State.CLOSED),
        states=(State.ARCHIVED, State.CLOSED),
    ),
    RowAction(
        name="bring_back",
        label="Bring back",
        description="Conversations that were just deleted are restored as they were.",
        done_label="Brought back",
        permission="manage",
        apply=_bring_back,
        states=(State.DELETED,),
    ),
    RowAction(
        name="summarise",
        label="Summarise now",
        description="Everything before the last exchanges is summarised by a model, however little it is.",
        done_label="Summary requested",
        permission="manage",
        apply=memory.request_summary,
    ),
    RowAction(
        name="clear",
        label="Clear",
        description="Their messages are deleted for good, with all memories that rest on these messages "
        "alone.",
        done_label="Cleared",
        permission="discard",
        apply=_clear,
        is_destructive=True,
    ),
    RowAction(
        name="expire",
        label="Expire",
        description="Nobody can find them any more. "
        "They are deleted for good once it is too late to undo this.",
        done_label="Expired",
        permission="discard",
        apply=_expire,
        is_destructive=True,
        states=(State.OPEN, State.ARCHIVED, State.CLOSED),
    ),
    RowAction(
        name="delete",
        label="Delete",
        description="They are deleted for good, with their messages and all memories that rest on these "
        "alone.",
        done_label="Deleted",
        permission="discard",
        apply=_delete,
        is_destructive=True,
    ),
)


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin[Session]):
    """Conversations. Closing, clearing and deleting one follows the same rules as for its owner."""

    list_display = ("id", "title", "owner", "person", "agent", "state", "message_count", "last_activity")
    list_filter = ("state", AgentFilter, "kind", "storage", "last_activity")
    list_select_related = ("owner", "person__owner")
    ordering = ("-last_activity",)
    search_ids = ("pk",)
    search_names = ("ref", OWNER_NAME)
    search_help_text = "A complete id, the application's own reference, or the owner's user name."
    extra_lookups = ("owner__exact", "person__exact", "forked_from__exact")
    content_fields = ("title", "metadata")
    actions = [admin_action(row_action) for row_action in SESSION_ACTIONS]
    fieldsets = [
        (None, {"fields": ("title", "owner", "person", "agent", "state", "message_count", "turn_count")}),
        (
            "All fields",
            {
                "classes": ["collapse"],
                "fields": (
                    *("id", "kind", "storage", "ref", "metadata", "token_count"),
                    *("forked_from", "fork_position"),
                    *("epoch", "base_position", "last_position", "last_turn", "summary_due"),
                    *("created_at", "last_activity", "expires_at"),
                ),
            },
        ),
    ]

    has_manage_permission = permission_check("convo.change_session")
    has_discard_permission = permission_check("convo.delete_session")

    def page_context(self, request: HttpRequest, row: Session) -> dict[str, object]:
        permitted = self.get_actions(request)
        deeds = [
            row_action
            for row_action in SESSION_ACTIONS
            if row_action.name in permitted and (not row_action.states or row.state in row_action.states)
        ]
        return session_context(row, request.GET, can_read=can_read_content(request)) | {"deeds": deeds}


class TypeFilter(ConfiguredNameFilter):
    """A filter with links for the most useful types; the address may contain any other."""

    title = parameter_name = "type"

    def names(self) -> list[str]:
        return ["message", "refusal", "reasoning", "function_call", "function_call_output", "compaction"]


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin[Message]):
    """Single messages. The list never shows their text; each message's own page does."""

    list_display = ("session", "position", "role", "type", "tokens", "active", "created_at")
    list_filter = ("role", TypeFilter)
    list_select_related = ("session",)
    ordering = ("-id",)
    search_ids = ("session",)
    search_names = ("item_id",)
    search_help_text = "The complete id of an item, such as msg_…, or of a session."
    extra_lookups = ("session__exact", "turn__exact")
    deferred_fields = ("content", "item", "name")
    content_fields = ("name", "content", "item")
    fields = (
        *("session", "turn", "position", "role", "type", "name", "agent", "content", "item", "tokens"),
        *("item_id", "thread", "active", "recallable", "erased_at", "created_at"),
    )

    def search_condition(self, term: str) -> Q:
        session_id = parse_uuid(term)
        return Q(session=session_id) | Q(item_id=term) if session_id else Q(item_id=term)


@admin.register(Summary)
class SummaryAdmin(ReadOnlyAdmin[Summary]):
    """Summaries of message ranges. A session's page shows how each differs from the one before."""

    list_display = ("session", "from_position", "to_position", "source", "tokens", "stale", "created_at")
    list_filter = ("source", "stale")
    list_select_related = ("session",)
    ordering = ("-id",)
    search_ids = ("session",)
    search_help_text = "The complete id of a session."
    extra_lookups = ("session__exact",)
    deferred_fields = ("text",)
    content_fields = ("text",)
    fields = (
        *("session", "from_position", "to_position", "text", "previous", "source", "model", "prompt_version"),
        *("tokens", "stale", "created_at"),
    )
