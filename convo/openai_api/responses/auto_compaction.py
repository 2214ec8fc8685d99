"""`context_management`: compact a conversation once its prompt has grown too long."""

from collections.abc import Callable, Sequence

from convo import agents, history, memory, turns
from convo.errors import TurnInProgress
from convo.history import NewMessage
from convo.history.tool_pairs import RESULT
from convo.models import Message, Session, Turn
from convo.openai_api.items import sign_text
from convo.openai_api.responses.request import ResponseRequest

COMPACTION = "compaction"


def compaction_items(
    response_request: ResponseRequest, question: Sequence[NewMessage], session: Session, last_position: int
) -> list[NewMessage]:
    """Return the compaction item that replaces all earlier messages; none while the prompt is short enough.

    A tool's output is never separated from its call, so nothing is compacted while a question brings an
    output.
    """
    if not response_request.compact_threshold or any(draft.type == RESULT for draft in question):
        return []
    total = prompt_tokens(response_request, question, session, last_position)
    if total <= response_request.compact_threshold:
        return []
    rows = _since_last_compaction(history.messages_upto(session, last_position))
    dialogue = [(row.role, row.content) for row in rows if row.content]
    if not dialogue:
        return []
    agent = agents.get(response_request.agent, model=response_request.turn_request.options["model"])
    text = memory.compact(dialogue, agent, limit=response_request.compact_threshold // 2)
    item = {"type": COMPACTION, "encrypted_content": sign_text(text)}
    return [
        NewMessage(
            role="assistant", type=COMPACTION, content=text, agent=agent.name, item=item, recallable=False
        )
    ]


def prompt_tokens(
    response_request: ResponseRequest, question: Sequence[NewMessage], session: Session, last_position: int
) -> int:
    """Return the tokens of the prompt that this request would send to the model."""
    prompt = turns.preview(
        session,
        question,
        agent=response_request.agent,
        request=response_request.turn_request,
        upto=last_position,
    )
    return int(prompt.manifest["total"])


def with_unchanged_check(
    earlier_session: Session, check: Callable[[Session], None]
) -> Callable[[Session], None]:
    """Return the same check, which also refuses a session that was written to since it was compacted."""

    def check_unchanged(session: Session) -> None:
        if session.version != earlier_session.version:
            raise TurnInProgress
        check(session)

    return check_unchanged


def leading_compactions(turn: Turn) -> list[Message]:
    """Return the compaction items of a response, which precede its model's output."""
    return [row for row in turns.result_of(turn).messages if row.type == COMPACTION]


def _since_last_compaction(rows: list[Message]) -> list[Message]:
    start = max((index for index, row in enumerate(rows) if row.type == COMPACTION and row.agent), default=0)
    return rows[start:]
