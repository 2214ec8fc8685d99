"""The transcript's end, word for word: whole exchanges, from the newest back, as many as fit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from convo.history import Line, marks

# Items of other types stay in the transcript; a chat model has no form for them.
READABLE = {"message", "function_call", "function_call_output", "compaction"}


class Counted(Protocol):
    """What can say how many tokens it takes."""

    @property
    def content(self) -> str: ...

    def cost(self, model: str) -> int: ...


@dataclass
class Choice:
    """The exchanges taken, oldest first, and those left out with the reason, newest first."""

    taken: list[list[Line]] = field(default_factory=list)
    left: list[tuple[str, list[Line]]] = field(default_factory=list)
    spent: int = 0
    cut: bool = False

    @property
    def lines(self) -> list[Line]:
        return [line for exchange in self.taken for line in exchange]


def newest_that_fit(
    earlier: Sequence[Line],
    model: str,
    *,
    pairs: int | None,
    budget: int,
    question: Sequence[Line] = (),
    refused: Sequence[int] = (),
) -> Choice:
    """The newest exchanges before this question, at most so many and within so many tokens.

    Calls whose results are in the question come with it, whatever they cost.
    """
    choice, full = Choice(), ""
    later: list[Line] = []
    answered_later = False
    results = {line.call_id for line in question if line.type == "function_call_output"}
    if again := _asked_again(earlier, question):
        choice.left.append(("a question without an answer, which is asked again", again))
        earlier = earlier[: -len(again)]
    for exchange in reversed(_exchanges(line for line in earlier if line.type in READABLE)):
        whole, unpaired, is_needed = _split_unpaired(exchange, results)
        if unpaired:
            choice.left.append(("a tool call and its result are only sent together", unpaired))
        if not whole:
            continue
        if _given_up(whole, []) and whole[0].turn in refused:
            choice.left.append(("a question whose image the model server refused", whole))
            continue
        if answered_later and _given_up(whole, later):
            choice.left.append(("a question without an answer, and a later one was answered", whole))
            continue
        later = whole
        answered_later = answered_later or any(line.role == "assistant" for line in whole)
        spent = cost(whole, model)
        if not (full or is_needed) and pairs is not None and len(choice.taken) >= pairs:
            full = f"older than {last(pairs)}"
        elif not (full or is_needed) and choice.spent + spent > budget:
            full, choice.cut = "no room in the budget", True
        if full:
            choice.left.append((full, whole))
            continue
        choice.taken.insert(0, whole)
        choice.spent += spent
    return choice


def _given_up(whole: Sequence[Line], later: Sequence[Line]) -> bool:
    """Is this a question that nobody answered? One of several messages is answered behind the last."""
    goes_on = bool(later) and later[0].turn == whole[-1].turn
    return not goes_on and all(line.role == "user" and line.asked for line in whole)


def _asked_again(earlier: Sequence[Line], question: Sequence[Line]) -> list[Line]:
    """The same question at the transcript's end, as often as it stands there without an answer."""
    asked, start = [_said(line) for line in question], len(earlier)
    while asked and start >= len(asked):
        before = earlier[start - len(asked) : start]
        same = [_said(line) for line in before if line.asked and not line.agent]
        if same != asked:
            break
        start -= len(asked)
    return list(earlier[start:])


def _said(line: Line) -> tuple[Any, ...]:
    return line.role, line.content, marks(line.item)


def last(pairs: int) -> str:
    return "the last pair" if pairs == 1 else f"the last {pairs} pairs"


def _exchanges(lines: Iterable[Line]) -> list[list[Line]]:
    """The lines by question: each question with all that followed it, a late tool result beside its call."""
    homes: dict[str, list[Line]] = {}
    found: list[list[Line]] = []
    for line in lines:
        if not found or line.role == "user":
            found.append([])
        home = homes.get(line.call_id, found[-1]) if line.type == "function_call_output" else found[-1]
        home.append(line)
        if line.type == "function_call":
            homes[line.call_id] = home
    return [exchange for exchange in found if exchange]


def _split_unpaired(exchange: list[Line], arriving: set[str]) -> tuple[list[Line], list[Line], bool]:
    """The exchange without the calls and results that lack their other half, and those.

    Calls whose results are `arriving` with the question lack nothing; last it is told whether there are any.
    """
    calls = {line.call_id for line in exchange if line.type == "function_call"}
    results = {line.call_id for line in exchange if line.type == "function_call_output"}
    waiting = (calls - results) & arriving
    unpaired = (calls ^ results) - waiting
    return (
        [line for line in exchange if line.call_id not in unpaired],
        [line for line in exchange if line.call_id in unpaired],
        bool(waiting),
    )


def cost(lines: Iterable[Counted], model: str) -> int:
    return sum(line.cost(model) for line in lines)


def left_out(choice: Choice, model: str) -> Iterator[dict[str, Any]]:
    """One row a reason and stretch, oldest first."""
    rows: list[dict[str, Any]] = []
    for why, lines in choice.left:
        if not lines:
            continue
        if rows and rows[-1]["why"] == why:
            rows[-1]["from"] = lines[0].position
            rows[-1]["messages"] += len(lines)
            rows[-1]["tokens"] += cost(lines, model)
            continue
        rows.append(
            {
                "why": why,
                "from": lines[0].position,
                "to": lines[-1].position,
                "messages": len(lines),
                "tokens": cost(lines, model),
            }
        )
    return reversed(rows)
