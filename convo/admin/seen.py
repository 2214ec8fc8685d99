"""What the model saw in a turn: the account of its prompt, drawn to scale, with the words behind it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from convo import context
from convo.admin.reading import size_of
from convo.models import Turn

# A long prompt is a book: so much of a part is shown.
MOST_SOURCES, LONGEST = 60, 4000
KINDS = {"pinned": "memories", "facts": "memories"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something that a part was made of: what it is, where it stands, and its words."""

    label: str
    link: str
    text: str | None
    hidden: bool


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of the prompt as a piece of a bar; its place in percent, as strings for the drawing."""

    name: str
    kind: str
    why: str
    tokens: int
    x: str
    width: str
    sources: Sequence[Source] = ()
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class Left:
    """What did not get into the prompt, and why."""

    why: str
    where: str
    size: str
    sources: Sequence[Source]


@dataclass(frozen=True, kw_only=True)
class Seen:
    slices: Sequence[Slice]
    left: Sequence[Left]
    total: int
    budget: int
    counted_by: str
    share: str


def seen_by(turn: Turn, *, reads: bool) -> Seen | None:
    """The prompt of this turn; without the words for who may not read them, None where no model was asked."""
    if turn.manifest is None:
        return None
    # The words are looked up again, so that what was deleted or forgotten since is not shown here either.
    told = context.replay(turn)
    return Seen(
        slices=[_slice(turn, piece, reads=reads) for piece in context.to_scale(told, told["total"] or 1)],
        left=[_left(turn, row, reads=reads) for row in told["left_out"]],
        total=told["total"],
        budget=told["budget"],
        counted_by=told["counted_by"],
        share=f"{100 * told['total'] / (told['budget'] or 1):.1f}",
    )


def _slice(turn: Turn, piece: context.Piece, *, reads: bool) -> Slice:
    part = piece.part
    sources = part.get("sources", ())
    return Slice(
        name=part["part"],
        kind=KINDS.get(part["part"], part["part"]),
        why=part["why"],
        tokens=part["tokens"],
        x=piece.x,
        width=piece.width,
        sources=[_source(turn, source, reads=reads) for source in sources[:MOST_SOURCES]],
        more=max(0, len(sources) - MOST_SOURCES),
    )


def _source(turn: Turn, source: Mapping[str, Any], *, reads: bool) -> Source:
    label, link = _named(turn, source)
    text = source.get("text")
    hidden = bool(text) and not reads
    return Source(
        label=f"{label}, score {source['score']}" if "score" in source else label,
        link=link,
        text=size_of(text) if hidden else text[:LONGEST] if text else None,
        hidden=hidden,
    )


def _named(turn: Turn, source: Mapping[str, Any]) -> tuple[str, str]:
    if "agent" in source:
        version = turn.agent_version_id
        return f"agent {source['agent']}", _page("agentversion", version) if version else ""
    if "summary" in source:
        return f"summary {source['summary']}", _page("summary", source["summary"])
    if "memory" in source:
        return "a memory", f"{reverse('admin:convo_usermemory_changelist')}?q={source['memory']}"
    session, position = source.get("session", turn.session_id), source.get("position", 0)
    elsewhere = "" if str(session) == str(turn.session_id) else " of another conversation"
    role = source.get("role", "message")
    return f"{role} at {position}{elsewhere}", place_of(session, position)


def _left(turn: Turn, row: Mapping[str, Any], *, reads: bool) -> Left:
    sources = row.get("sources", ())
    return Left(
        why=row["why"],
        where=" ".join(_stretch(row)),
        size=f"{row['tokens']} tokens" if "tokens" in row else "",
        sources=[_source(turn, source, reads=reads) for source in sources[:MOST_SOURCES]],
    )


def _stretch(row: Mapping[str, Any]) -> Iterator[str]:
    if "messages" in row:
        yield f"{row['messages']} messages"
    if "to" in row:
        yield f"at {row['from']} to {row['to']}" if "from" in row else f"up to {row['to']}"


def place_of(session: Any, position: int) -> str:
    """Where a message stands in the transcript of its session's page."""
    return f"{_page('session', session)}?before={position + 1}#m{position}"


def _page(model: str, pk: Any) -> str:
    return reverse(f"admin:convo_{model}_change", args=[str(pk)])
