"""Choose the end of the transcript, word for word: whole exchanges, the newest first, as many as fit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from convo.history import TranscriptMessage
from convo.history.files import hashes
from convo.history.messages import CountableMessage, costs
from convo.history.tool_pairs import Pairs, pair
from convo.models import ManifestOmission

# Items of other types stay in the transcript: a chat model has no form for them.
SENDABLE_TYPES = {"message", "function_call", "function_call_output", "compaction"}


@dataclass(frozen=True)
class PastExchange:
    """A question with what followed it; with the reason if it is left out whatever room there is."""

    messages: list[TranscriptMessage]
    token_count: int
    is_needed: bool = False
    omission: str = ""


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


def newest_that_fit(exchanges: Iterable[PastExchange], *, pairs: int | None, budget: int) -> Choice:
    """Return the newest of these, which come newest first: at most `pairs` of them, within `budget` tokens.

    Those that are needed are always taken, whatever they cost.
    """
    choice, full_reason = Choice(), ""
    for exchange in exchanges:
        if exchange.omission:
            choice.omissions.append((exchange.omission, exchange.messages))
            continue
        if not (full_reason or exchange.is_needed):
            if pairs is not None and len(choice.exchanges) >= pairs:
                full_reason = f"older than {last_pairs(pairs)}"
            elif choice.token_count + exchange.token_count > budget:
                full_reason, choice.is_truncated = "no room in the budget", True
        if full_reason:
            choice.omissions.append((full_reason, exchange.messages))
            continue
        choice.exchanges.append(exchange.messages)
        choice.token_count += exchange.token_count
    choice.exchanges.reverse()
    return choice


def exchanges_before(
    earlier: Sequence[TranscriptMessage],
    model: str,
    *,
    question: Sequence[TranscriptMessage] = (),
    refused_turns: Sequence[int] = (),
) -> list[PastExchange]:
    """Return the exchanges before this question, newest first; calls whose results it has are needed."""
    newest_first: list[PastExchange] = []
    later_exchange: list[TranscriptMessage] = []
    has_later_answer = False

    def add(messages: list[TranscriptMessage], omission: str = "", *, is_needed: bool = False) -> None:
        newest_first.append(PastExchange(messages, total_tokens(messages, model), is_needed, omission))

    if repeats := _unanswered_repeats(earlier, question):
        add(repeats, "a question without an answer, which is asked again")
        earlier = earlier[: -len(repeats)]
    messages = [message for message in earlier if message.type in SENDABLE_TYPES]
    call_pairs = pair(enumerate([*messages, *question]))
    for indexes in reversed(_exchanges(messages, call_pairs)):
        exchange = [messages[index] for index in indexes if index not in call_pairs.orphans]
        if unpaired_messages := [messages[index] for index in indexes if index in call_pairs.orphans]:
            add(unpaired_messages, "a tool call and its result are only sent together")
        if not exchange:
            continue
        if _is_unanswered(exchange, []) and exchange[0].turn in refused_turns:
            add(exchange, "a question whose image the model server refused")
            continue
        if has_later_answer and _is_unanswered(exchange, later_exchange):
            add(exchange, "a question without an answer, and a later one was answered")
            continue
        later_exchange = exchange
        has_later_answer = has_later_answer or any(message.role == "assistant" for message in exchange)
        is_needed = any(call_pairs.results.get(index, 0) >= len(messages) for index in indexes)
        add(exchange, is_needed=is_needed)
    return newest_first


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
    return sum(costs(messages, model))


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
