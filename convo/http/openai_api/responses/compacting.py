"""`context_management`: what a conversation has said so far, in short, once its prompt has grown too long."""

from collections.abc import Callable, Sequence

from convo import agents, history, memory, turns
from convo.errors import TurnInProgress
from convo.history import Draft
from convo.http.openai_api.responses.wanted import Wanted
from convo.http.openai_api.sealed import seal
from convo.models import Asked, Message, Session, Turn

COMPACTION, _OUTPUT = "compaction", "function_call_output"


def compaction(want: Wanted, question: Sequence[Draft], session: Session, upto: int) -> list[Draft]:
    """The item that takes the place of all that was said before; none while the prompt is short enough.

    A tool's output is never parted from its call, so a question that brings one waits with this.
    """
    if not want.compact_at or any(draft.type == _OUTPUT for draft in question):
        return []
    prompt = turns.preview(session, question, agent=want.agent, asked=want.asked, upto=upto)
    if prompt.manifest["total"] <= want.compact_at:
        return []
    rows = _since_the_last(history.messages_upto(session, upto))
    said = [(row.role, row.content) for row in rows if row.content]
    if not said:
        return []
    agent = agents.get(want.agent, model=want.asked.wishes["model"])
    text = memory.compact(said, agent, limit=want.compact_at // 2)
    item = {"type": COMPACTION, "encrypted_content": seal(text)}
    return [
        Draft(role="assistant", type=COMPACTION, content=text, agent=agent.name, item=item, recallable=False)
    ]


def unchanged(seen: Session, check: Callable[[Session], None]) -> Callable[[Session], None]:
    """The same check, of a session in which nothing was said since it was told in short."""

    def checked(session: Session) -> None:
        if session.version != seen.version:
            raise TurnInProgress(retry_after=1)
        check(session)

    return checked


def told_first(turn: Turn, asked: Asked) -> list[Message]:
    """The items of a response that stand before all that its model said."""
    if not asked.params.get("context_management"):
        return []
    return [row for row in turns.result(turn).messages if row.type == COMPACTION]


def _since_the_last(rows: list[Message]) -> list[Message]:
    last = max((at for at, row in enumerate(rows) if row.type == COMPACTION and row.agent), default=0)
    return rows[last:]
