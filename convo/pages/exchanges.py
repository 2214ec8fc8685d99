"""A transcript as people read it: each question with its active reply and the alternatives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.utils.safestring import SafeString

from convo import agents, history
from convo.errors import error_from_json
from convo.http.files import files_json
from convo.models import Feedback, Message, Session, Turn
from convo.pages import markdown
from convo.pages.error_messages import message_for_visitor
from convo.pages.prompt_view import PromptView, build_prompt_view


@dataclass(frozen=True, kw_only=True)
class ShownMessage:
    """A message, its HTML if it is a reply, and its images and files."""

    message: Message
    html: SafeString | None
    files: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A question and its reply: the messages, the agent's title, and what the model saw."""

    turn: Turn
    messages: Sequence[ShownMessage]
    agent_title: str
    account: PromptView | None
    siblings: Sequence[int] = ()
    feedback: Feedback | None = None
    # The last position of the exchange, at which a fork starts.
    last_position: int = 0

    @property
    def question(self) -> Message | None:
        questions = (entry.message for entry in self.messages if entry.message.role == "user")
        return next(questions, None)

    @property
    def markdown(self) -> str:
        """The reply as the model wrote it, for the clipboard."""
        return "\n\n".join(
            entry.message.content for entry in self.messages if entry.html and entry.message.content
        )

    @property
    def has_reply(self) -> bool:
        return any(entry.message.role == "assistant" for entry in self.messages)

    @property
    def is_running(self) -> bool:
        return not self.turn.has_ended

    @property
    def alternative_number(self) -> int:
        """The number of this alternative, counted from one, or zero if it is none."""
        return self.siblings.index(self.turn.number) + 1 if self.turn.number in self.siblings else 0

    @property
    def previous_alternative(self) -> int | None:
        return self.siblings[self.alternative_number - 2] if self.alternative_number > 1 else None

    @property
    def next_alternative(self) -> int | None:
        number = self.alternative_number
        return self.siblings[number] if 0 < number < len(self.siblings) else None

    @property
    def error_message(self) -> str:
        return message_for_visitor(error_from_json(self.turn.error)) if self.turn.error else ""

    @property
    def is_offline(self) -> bool:
        return self.turn.model == "offline"


def unfinished_turn(session: Session) -> Turn | None:
    """Return the turn whose reply is being written, or that is the next to be.

    Read it before the messages: one that ends in between is then among these, or is followed to its end.
    """
    turns = Turn.objects.unfinished().filter(session=session).order_by("pk")
    return turns.select_related("question_turn").first()


def build_exchanges(session: Session, messages: Sequence[Message], unfinished: Turn | None) -> list[Exchange]:
    """Group these messages into exchanges, and add that of the unfinished turn."""
    by_question = groupby(messages, key=lambda row: row.turn.question_turn_id or row.turn.pk)
    groups = [list(group) for _, group in by_question]
    # A page of messages has only the numbers of their turns. Turns that were deleted meanwhile are left out.
    turns_by_id = Turn.objects.in_bulk({rows[-1].turn_id for rows in groups})
    groups = [rows for rows in groups if rows[-1].turn_id in turns_by_id]
    turns = [turns_by_id[rows[-1].turn_id] for rows in groups]
    for turn, rows in zip(turns, groups, strict=True):
        # A turn that ended after its messages were read has no reply here: it is followed to its end.
        turn.status = rows[-1].turn.status
    siblings = history.alternatives(session, turns)
    feedback_by_turn = {row.turn_id: row for row in Feedback.objects.filter(turn__in=turns)}
    exchange_list = [
        _build_exchange(turn, rows, siblings[turn.pk], feedback_by_turn.get(turn.pk))
        for turn, rows in zip(turns, groups, strict=True)
    ]
    return _with_unfinished(unfinished, exchange_list)


def agent_title(agent: str) -> str:
    config = agents.all_agents().get(agent)
    return config.title if config else agent


def _build_exchange(
    turn: Turn, messages: Sequence[Message], siblings: Sequence[int] = (), feedback: Feedback | None = None
) -> Exchange:
    return Exchange(
        turn=turn,
        messages=[_render_message(message) for message in messages if _has_something_to_show(message)],
        agent_title=agent_title(turn.agent),
        account=build_prompt_view(turn.manifest) if turn.manifest and turn.has_ended else None,
        siblings=siblings,
        feedback=feedback,
        last_position=messages[-1].position if messages else 0,
    )


def _has_something_to_show(message: Message) -> bool:
    # Reasoning and compaction items have no text for readers: the page would show an empty box.
    return message.type in {"message", "function_call"} or bool(message.content)


def _render_message(message: Message) -> ShownMessage:
    is_reply = message.type == "message" and message.role == "assistant"
    html = markdown.to_html(message.content) if is_reply else None
    return ShownMessage(message=message, html=html, files=files_json(message))


def _with_unfinished(unfinished: Turn | None, exchange_list: list[Exchange]) -> list[Exchange]:
    """Put the regenerated answer that is being written, with its question, in the place it will have."""
    if (
        unfinished is None
        or unfinished.question_turn is None
        or any(exchange.turn.pk == unfinished.pk for exchange in exchange_list)
    ):
        return exchange_list
    question = history.question_of(unfinished)
    if not question:
        # The conversation was cleared just now.
        return exchange_list
    are_alternatives = [exchange.turn.parent_id == unfinished.parent_id for exchange in exchange_list]
    earlier = exchange_list[: are_alternatives.index(True)] if True in are_alternatives else exchange_list
    return [*earlier, _build_exchange(unfinished, question)]
