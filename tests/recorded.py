"""A recorded history and its judge: what clients were promised, compared with what the database holds.

Every text is unique, so that a row tells which write it came from. A deed lasts from `began` to `ended`; one
whose outcome nobody heard may have happened or not, at any time after it began.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

DONE, REFUSED, UNKNOWN = "done", "refused", "unknown"
FOREVER = math.inf
DELETIONS = {"delete message", "delete turn"}


@dataclass(frozen=True, kw_only=True)
class Deed:
    """One thing that a client did, and what it was told."""

    client: int
    step: int
    action: str
    session: str
    began: float
    ended: float = FOREVER
    outcome: str = UNKNOWN
    status: int = 0
    # What it wrote, and at which positions, as far as it was told.
    texts: Sequence[str] = ()
    positions: Sequence[int] = ()
    # The turn that it made or was about, and the message that it was about.
    turn: int = 0
    position: int = 0
    # The reply as it was read word by word, and as the last event or the whole answer had it.
    heard: str | None = None
    reply: str | None = None
    reply_position: int = 0
    # Was an earlier try of it cut off? Then a refusal is no proof that nothing was written.
    cut: bool = False

    @property
    def refused(self) -> bool:
        return self.outcome == REFUSED and not self.cut


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A message as the database has it."""

    session: str
    position: int
    text: str
    turn: int
    # The turn whose question its turn answers again, if it does.
    asks: int | None = None
    erased: bool = False
    # Did a model say it? Its texts are not unique.
    is_reply: bool = False


@dataclass(frozen=True, kw_only=True)
class Database:
    """What there is after the last deed: the messages by position, and from which session each was forked."""

    messages: Sequence[Stored]
    forked_from: dict[str, str] = field(default_factory=dict)


def write_down(path: Path, deed: Deed) -> None:
    with path.open("a", encoding="utf-8") as history:
        history.write(json.dumps(asdict(deed), ensure_ascii=False) + "\n")


def read_back(path: Path) -> list[Deed]:
    with path.open(encoding="utf-8") as history:
        return [Deed(**json.loads(line)) for line in history]


def problems(deeds: Iterable[Deed], database: Database) -> list[str]:
    """Every promise that the database breaks; none, if all is well."""
    found = _Judged(list(deeds), database)
    return [
        *found.lost(),
        *found.doubled(),
        *found.returned(),
        *found.strays(),
        *found.out_of_order(),
        *found.misquoted(),
        *found.crashes(),
    ]


class _Judged:
    def __init__(self, deeds: list[Deed], database: Database) -> None:
        self.deeds = deeds
        self.forked_from = database.forked_from
        self.rows: dict[str, dict[int, Stored]] = defaultdict(dict)
        self.places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for row in database.messages:
            self.rows[row.session][row.position] = row
            if row.text and not row.is_reply:
                self.places[row.session, row.text].append(row.position)
        self.clears = [deed for deed in deeds if deed.action == "clear" and not deed.refused]
        self.deletions = [deed for deed in deeds if deed.action in DELETIONS and not deed.refused]

    def promised(self) -> Iterator[tuple[Deed, int, str]]:
        """Each text that was acknowledged, with its index in its deed."""
        for deed in self.deeds:
            if deed.outcome == DONE:
                yield from ((deed, index, text) for index, text in enumerate(deed.texts))

    def lost(self) -> Iterator[str]:
        for deed, index, text in self.promised():
            if self.places[deed.session, text] or self._cleared_perhaps(deed):
                continue
            position = deed.positions[index] if deed.positions else self._grave(deed)
            row = self.rows[deed.session].get(position)
            if row is None or not row.erased or not self._deleted_perhaps(row):
                yield f"lost: {text!r} in {deed.session}, acknowledged at position {position or 'unknown'}"

    def doubled(self) -> Iterator[str]:
        for (session, text), positions in self.places.items():
            if len(positions) > 1:
                yield f"doubled: {text!r} in {session} at {positions}"

    def returned(self) -> Iterator[str]:
        """What was cleared or deleted, or never taken, and is there all the same."""
        for deed, _, text in self.promised():
            if self.places[deed.session, text] and any(
                clear.session == deed.session and clear.outcome == DONE and deed.ended < clear.began
                for clear in self.clears
            ):
                yield f"returned: {text!r} in {deed.session} was cleared"
        for deed in self.deletions:
            row = self.rows[deed.session].get(deed.position)
            if deed.outcome == DONE and row and not row.erased:
                yield f"returned: position {deed.position} in {deed.session} was deleted"
        for deed in self.deeds:
            for text in deed.texts if deed.refused else ():
                if self.places[deed.session, text]:
                    yield f"taken: {text!r} in {deed.session} was refused with {deed.status}"

    def strays(self) -> Iterator[str]:
        """A text in another session than those that it was written in, or forked into."""
        homes: dict[str, set[str]] = defaultdict(set)
        for deed in self.deeds:
            for text in deed.texts:
                homes[text].add(deed.session)
        for session, text in self.places:
            if not homes[text] & set(self._lineage(session)):
                yield f"stray: {text!r} in {session}"

    def out_of_order(self) -> Iterator[str]:
        """Of two writes, the one that ended before the other began stands before it."""
        known: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
        for deed, index, text in self.promised():
            positions = self.places[deed.session, text]
            if deed.positions and positions and deed.positions[index] != positions[0]:
                yield f"moved: {text!r} in {deed.session} from {deed.positions[index]} to {positions[0]}"
            if positions and deed.action != "fork":
                known[deed.session].append((deed.began, deed.ended, positions[0]))
        for session, writes in known.items():
            by_position = sorted(writes, key=lambda write: write[2])
            latest_began = -FOREVER
            for began, ended, position in by_position:
                if ended < latest_began:
                    yield f"out of order: position {position} in {session}"
                latest_began = max(latest_began, began)

    def misquoted(self) -> Iterator[str]:
        """A reply that was told to its end is stored to the letter, and reads the same word by word."""
        for deed in self.deeds:
            if deed.reply is None:
                continue
            row = self.rows[deed.session].get(deed.reply_position)
            if row is None and not self._cleared_perhaps(deed):
                yield f"lost: the reply at position {deed.reply_position} in {deed.session}"
            if row and not row.erased and row.text != deed.reply:
                yield f"misquoted: position {row.position} in {deed.session} is not what was told"
            if deed.heard is not None and deed.heard != deed.reply:
                yield f"misread: turn {deed.turn} of {deed.session} was {deed.heard!r}, not {deed.reply!r}"

    def crashes(self) -> Iterator[str]:
        for deed in self.deeds:
            if deed.status == 500:
                yield f"crash: {deed.action} in {deed.session} (client {deed.client}, step {deed.step})"

    def _cleared_perhaps(self, deed: Deed) -> bool:
        return any(clear.session == deed.session and clear.ended >= deed.began for clear in self.clears)

    def _deleted_perhaps(self, row: Stored) -> bool:
        return any(
            deed.session == row.session
            and (deed.position == row.position or deed.turn in {row.turn, row.asks})
            for deed in self.deletions
        )

    def _grave(self, deed: Deed) -> int:
        """The tombstone of this deed's question, whose position it was not told."""
        rows = self.rows[deed.session].values()
        # Sent again under its key, a question is that of the turn that failed.
        turns = {deed.turn, *(row.asks for row in rows if row.turn == deed.turn)}
        graves = [row.position for row in rows if row.erased and not row.is_reply and row.turn in turns]
        return min(graves, default=0)

    def _lineage(self, session: str) -> Iterator[str]:
        while session:
            yield session
            session = self.forked_from.get(session, "")
