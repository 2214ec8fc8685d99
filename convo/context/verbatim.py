"""Choose the end of the transcript, word for word: whole exchanges, the newest first, as many as fit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from convo.history import TranscriptMessage
from convo.history.files import hashes
from convo.history.tool_pairs import Pairs, pair
from convo.models import ManifestOmission

# Items of other types stay in the transcript: a chat model has no form for them.
SENDABLE_TYPES = {"message", "function_call", "function_call_output", "compaction"}


class CountableMessage(Protocol):
    """A message that can count its tokens."""

    @property
    def content(self) -> str: ...

    def cost(self, model: str) -> int: ...


@dataclass
class Choice:
    """The exchanges taken, oldest first, and those left out with the reason, newest first."""

    exchanges: list[list[TranscriptMessage]] = field(default_factory=list)
    omissions: list[tuple[str, list[TranscriptMessage]]] = field(default_factory=list)
    token_count: int = 0
    is_truncated: bool = False

    @property
    def messages(self) -> list[TranscriptMessage]:
        return [message for exchange in self.exchanges for message in exchange]


def newest_that_fit(
    earlier: Sequence[TranscriptMessage],
    model: str,
    *,
    pairs: int | None,
    budget: int,
    question: Sequence[TranscriptMessage] = (),
    refused_turns: Sequence[int] = (),
) -> Choice:
    """Return the newest exchanges before this question: at most `pairs` of them, within `budget` tokens.

    Calls whose results are in the question are always taken, whatever they cost.
    """
    choice, full_reason = Choice(), ""
    later_exchange: list[TranscriptMessage] = []
    has_later_answer = False
    if repeats := _unanswered_repeats(earlier, question):
        choice.omissions.append(("a question without an answer, which is asked again", repeats))
        earlier = earlier[: -len(repeats)]
    messages = [message for message in earlier if message.type in SENDABLE_TYPES]
    call_pairs = pair(enumerate([*messages, *question]))
    for indexes in reversed(_exchanges(messages, call_pairs)):
        exchange = [messages[index] for index in indexes if index not in call_pairs.orphans]
        is_needed = any(call_pairs.results.get(index, 0) >= len(messages) for index in indexes)
        if unpaired_messages := [messages[index] for index in indexes if index in call_pairs.orphans]:
            choice.omissions.append(("a tool call and its result are only sent together", unpaired_messages))
        if not exchange:
            continue
        if _is_unanswered(exchange, []) and exchange[0].turn in refused_turns:
            choice.omissions.append(("a question whose image the model server refused", exchange))
            continue
        if has_later_answer and _is_unanswered(exchange, later_exchange):
            choice.omissions.append(("a question without an answer, and a later one was answered", exchange))
            continue
        later_exchange = exchange
        has_later_answer = has_later_answer or any(message.role == "assistant" for message in exchange)
        exchange_tokens = total_tokens(exchange, model)
        if not (full_reason or is_needed) and pairs is not None and len(choice.exchanges) >= pairs:
            full_reason = f"older than {last_pairs(pairs)}"
        elif not (full_reason or is_needed) and choice.token_count + exchange_tokens > budget:
            full_reason, choice.is_truncated = "no room in the budget", True
        if full_reason:
            choice.omissions.append((full_reason, exchange))
            continue
        choice.exchanges.insert(0, exchange)
        choice.token_count += exchange_tokens
    return choice


def _is_unanswered(
    exchange: Sequence[TranscriptMessage], later_exchange: Sequence[TranscriptMessage]
) -> bool:
    """Return whether this exchange is a question without an answer.

    A question of several messages has its answer after the last one, in `later_exchange`.
    """
    is_continued = bool(later_exchange) and later_exchange[0].turn == exchange[-1].turn
    return not is_continued and all(
        message.role == "user" and message.from_model_turn for message in exchange
    )


def _unanswered_repeats(
    earlier: Sequence[TranscriptMessage], question: Sequence[TranscriptMessage]
) -> list[TranscriptMessage]:
    """Return the copies of this question at the transcript's end, which all have no answer."""
    question_keys, start = [_comparison_key(message) for message in question], len(earlier)
    while question_keys and start >= len(question_keys):
        candidates = earlier[start - len(question_keys) : start]
        candidate_keys = [_comparison_key(row) for row in candidates if row.from_model_turn and not row.agent]
        if candidate_keys != question_keys:
            break
        start -= len(question_keys)
    return list(earlier[start:])


def _comparison_key(message: TranscriptMessage) -> tuple[object, ...]:
    return message.role, message.content, hashes(message.item)


def last_pairs(pairs: int) -> str:
    return "the last pair" if pairs == 1 else f"the last {pairs} pairs"


def _exchanges(messages: Sequence[TranscriptMessage], pairs: Pairs) -> list[list[int]]:
    """Group these messages' indexes by question; a late tool result joins the group of its call."""
    groups: dict[int, list[int]] = {}
    exchanges: list[list[int]] = []
    for index, message in enumerate(messages):
        if not exchanges or message.role == "user":
            exchanges.append([])
        groups[index] = groups.get(pairs.calls.get(index, -1), exchanges[-1])
        groups[index].append(index)
    return [exchange for exchange in exchanges if exchange]


def total_tokens(messages: Iterable[CountableMessage], model: str) -> int:
    return sum(message.cost(model) for message in messages)


def left_out(choice: Choice, model: str) -> Iterator[ManifestOmission]:
    """Yield one manifest row for each reason and range of messages, oldest first."""
    rows: list[ManifestOmission] = []
    for reason, messages in choice.omissions:
        if not messages:
            continue
        if rows and rows[-1]["why"] == reason:
            rows[-1]["from"] = messages[0].position
            rows[-1]["messages"] += len(messages)
            rows[-1]["tokens"] += total_tokens(messages, model)
            continue
        rows.append(
            {
                "why": reason,
                "from": messages[0].position,
                "to": messages[-1].position,
                "messages": len(messages),
                "tokens": total_tokens(messages, model),
            }
        )
    return reversed(rows)
