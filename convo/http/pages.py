"""The chat page: a conversation and, under each reply, what the model saw of it. Works without JavaScript."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from itertools import accumulate, groupby
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.views import redirect_to_login
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from convo import agents, history, turns
from convo.conf import conf
from convo.errors import ConvoError, InvalidRequest, NotFound, Unauthenticated
from convo.history import Draft
from convo.http import errors, sse
from convo.models import ME, Message, Session, Turn
from convo.turns import Claim

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

CONVERSATIONS, MESSAGES = 30, 50
GUEST = "guest-"
# What a newcomer may say, and the question behind it that only memory can answer.
SUGGESTIONS = {
    "I’m choosing between the Zephyr 14 and the Atlas 15 laptops.": "Which of these did I mention first?",
    "My sister Mira visits on Sunday. She is allergic to walnuts.": "What is Mira allergic to?",
    "Our standup moves to 9:45, and the demo is on Thursday.": "When is the demo?",
}
PARTS = {
    "instructions": "Instructions",
    "pinned": "Pinned memories",
    "summary": "Summary",
    "verbatim": "Earlier messages",
    "recalled": "Recalled",
    "facts": "Memories",
    "question": "Question",
    "format": "Format",
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of the prompt as a piece of the bar: where it begins and how wide it is, in percent."""

    kind: str
    name: str
    x: str
    width: str
    row: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the model saw: the manifest of a turn, drawn to scale."""

    slices: Sequence[Slice]
    left_out: Sequence[Mapping[str, Any]]
    total: int
    budget: int
    share: str
    counted_by: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A turn as the page shows it: its messages, who answered, and the account of the prompt."""

    turn: Turn
    messages: Sequence[Message]
    who: str
    account: Account | None

    @property
    def question(self) -> str:
        """What was asked, to ask it again."""
        return next((message.content for message in self.messages if message.role == "user"), "")

    @property
    def offline(self) -> bool:
        return self.turn.model == "offline"


def page(view: View[P]) -> View[P]:
    """A view for people: signed in, or guests where those are welcome; what goes wrong is told in words."""

    @never_cache
    @wraps(view)
    def shown(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            if not request.user.is_authenticated and not conf().guests:
                raise Unauthenticated("You are signed out. Reload this page to sign in.")
            return view(request, *args, **kwargs)
        except (Unauthenticated, NotFound) as error:
            if _by_script(request):
                return errors.respond(error)
            signed_out = isinstance(error, Unauthenticated)
            return redirect_to_login(request.get_full_path()) if signed_out else missing(request)

    return shown


@page
@require_http_methods(["GET", "HEAD", "POST"])
def chat(request: HttpRequest, id: UUID | None = None) -> HttpResponseBase:
    """A conversation, or the beginning of one. A POST asks."""
    session = _session(request, id) if id else None
    if request.method != "POST":
        return _show(request, session)
    try:
        return _answer(request, _begin(request, session))
    except ConvoError as error:
        told = errors.respond(error) if _by_script(request) else _show(request, session, error)
        return _with_token(request, told)


@page
@require_POST
def clear(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Forget the messages and keep the conversation."""
    history.clear(_session(request, id).pk)
    return redirect("conversation", id)


@page
@require_POST
def delete(request: HttpRequest, id: UUID) -> HttpResponseBase:
    """Delete the conversation with everything in it."""
    history.remove(_session(request, id).pk)
    return redirect("chat")


def missing(request: HttpRequest, rest: str = "") -> HttpResponse:
    """The page for what is not there, and for what is somebody else's: the same."""
    return render(request, "404.html", status=404)


def _by_script(request: HttpRequest) -> bool:
    return sse.MEDIA_TYPE in request.headers.get("Accept", "")


def _with_token(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    # Becoming a guest changes the CSRF token, so the one in the page's forms has to be renewed.
    response["X-CSRFToken"] = get_token(request)
    return response


def _mine(request: HttpRequest) -> QuerySet[Any]:
    """The visitor's conversations, each with the first words said in it; a newcomer has none."""
    first = Message.objects.filter(
        session=OuterRef("pk"), thread="", role="user", active=True, erased_at=None
    ).order_by("position")
    mine = Session.objects.of(request.user) if request.user.is_authenticated else Session.objects.none()
    return mine.annotate(opening=Subquery(first.values(words=Left("content", 120))[:1]))


def _session(request: HttpRequest, id: UUID) -> Session:
    found: Session | None = _mine(request).filter(pk=id).first()
    if found is None:
        raise NotFound("There is no such conversation.")
    return found


def _visitor(request: HttpRequest) -> Any:
    """Who is asking; somebody new becomes a guest, with a cookie to come back by."""
    if request.user.is_authenticated:
        return request.user
    model = get_user_model()
    guest = model(**{model.USERNAME_FIELD: GUEST + secrets.token_hex(8)})
    guest.set_unusable_password()
    guest.save()
    login(request, guest, backend=settings.AUTHENTICATION_BACKENDS[0])
    return guest


def _begin(request: HttpRequest, session: Session | None) -> Claim:
    """Begin the turn that was asked for; a new conversation is stored with its first question."""
    question = [Draft(role="user", content=_typed(request))]
    return turns.begin(session or turns.new_session(_visitor(request), ME), question)


def _typed(request: HttpRequest) -> str:
    # Browsers send the end of a line as CRLF, whatever the platform.
    text = request.POST.get("message", "").replace("\r\n", "\n").strip()
    if not text:
        raise InvalidRequest("Write a message first.", param="message")
    if "\0" in text:
        raise InvalidRequest("The message holds a NUL character, which no database stores.", param="message")
    return text


def _answer(request: HttpRequest, claim: Claim) -> HttpResponseBase:
    """The reply as events to a script; to a form, the page on which it stands when it is there."""
    here = reverse("conversation", args=[claim.session_id])
    if _by_script(request):
        response = _with_token(request, sse.stream(request, claim))
        response["Content-Location"] = here
        return response
    # A failed turn keeps its question and its error, and the page shows both.
    with suppress(ConvoError):
        sse.answer(request, claim)
    return redirect(f"{here}#end")


def _show(request: HttpRequest, session: Session | None, error: ConvoError | None = None) -> HttpResponse:
    seen = _messages(request, session)
    exchanges = [_exchange(list(group)) for _, group in groupby(seen.messages, key=lambda row: row.turn_id)]
    context = {
        "session": session,
        "open": session is None or session.state == Session.State.OPEN,
        "conversations": _mine(request).order_by("-last_activity", "id")[:CONVERSATIONS],
        "exchanges": exchanges,
        "seen": seen,
        "who": _title(session.agent if session else agents.default_name()),
        "suggestions": SUGGESTIONS.items(),
        "follow_up": _follow_up(exchanges),
        "offline": conf().offline,
        "guest": request.user.get_username().startswith(GUEST),
        "error": error,
        "typed": request.POST.get("message", "") if error else "",
    }
    return render(request, "convo/chat.html", context, status=error.status if error else 200)


def _messages(request: HttpRequest, session: Session | None) -> history.Page:
    """The newest messages, or the newest before the position that the address names."""
    if session is None:
        return history.Page([], older=False, newer=False)
    before = request.GET.get("before", str(session.last_position + 1))
    if not (before.isascii() and before.isdecimal() and len(before) <= 15):
        raise NotFound("`before` is the position of a message.")
    return history.page(session, before=int(before), newest_first=False, size=MESSAGES)


def _follow_up(exchanges: Sequence[Exchange]) -> str | None:
    """After a suggested opening and its reply, the question that belongs to it."""
    if len(exchanges) != 1 or exchanges[0].turn.status != Turn.Status.COMPLETE:
        return None
    return SUGGESTIONS.get(exchanges[0].question)


def _title(agent: str) -> str:
    known = agents.everyone().get(agent)
    return known.title if known else agent


def _exchange(messages: Sequence[Message]) -> Exchange:
    turn = messages[0].turn
    account = _account(turn.manifest) if turn.manifest else None
    return Exchange(turn=turn, messages=messages, who=_title(turn.agent), account=account)


def _account(manifest: Mapping[str, Any]) -> Account:
    opening = {"part": "format", "why": "what opens the reply", "tokens": manifest["reply_overhead"]}
    rows = [*manifest["parts"], opening]
    total, budget = manifest["total"], manifest["budget"]
    starts = accumulate((row["tokens"] for row in rows), initial=0)
    slices = [
        Slice(
            kind=row["part"],
            name=PARTS.get(row["part"], row["part"]),
            x=f"{100 * start / total:.2f}",
            width=f"{100 * row['tokens'] / total:.2f}",
            row=row,
        )
        for start, row in zip(starts, rows, strict=False)
    ]
    return Account(
        slices=slices,
        left_out=manifest["left_out"],
        total=total,
        budget=budget,
        share=f"{100 * total / budget:.1f}",
        counted_by=manifest["counted_by"],
    )
