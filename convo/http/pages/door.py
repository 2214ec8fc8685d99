"""The way in to every page: who comes, what is theirs, and the frame around what they see."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.views import redirect_to_login
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Left, Now
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from convo.conf import conf
from convo.errors import ConvoError, NotFound, Unauthenticated
from convo.guests import is_guest, new_guest
from convo.http import errors
from convo.models import ME, Message, Person, Session

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

LISTED = 30


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
            if by_script(request):
                return errors.respond(error)
            signed_out = isinstance(error, Unauthenticated)
            return redirect_to_login(request.get_full_path()) if signed_out else missing(request)

    return shown


def refused(
    request: HttpRequest, error: ConvoError, shown: Callable[[ConvoError], HttpResponseBase]
) -> HttpResponseBase:
    """Why not: to the page's own script in the envelope, to everybody else on the page that was left."""
    told = errors.respond(error) if by_script(request) else shown(error)
    # Becoming a guest changes the CSRF token, so the one in the page's forms has to be renewed.
    told["X-CSRFToken"] = get_token(request)
    return told


def written(request: HttpRequest, name: str) -> str:
    """What was written into this field of a form."""
    # Browsers send the end of a line as CRLF, whatever the platform.
    return request.POST.get(name, "").replace("\r\n", "\n").strip()


def by_script(request: HttpRequest) -> bool:
    """Does the page's own script ask? It shows replies as they come, and errors where they belong."""
    return "X-Convo-Page" in request.headers


def missing(request: HttpRequest, rest: str = "") -> HttpResponse:
    """The page for what is not there, and for what is somebody else's: the same."""
    return render(request, "404.html", status=404)


def show(
    request: HttpRequest, template: str, context: dict[str, Any], *, place: str, status: int = 200
) -> HttpResponse:
    """This page inside the frame that all pages share; `place` is where in Convo it is."""
    frame = {
        "place": place,
        "conversations": listed(request)
        .exclude(state=Session.State.ARCHIVED)
        .order_by("-last_activity", "id")[:LISTED],
        "undo": _undo(request),
        "offline": conf().offline,
        "guest": is_guest(request.user),
    }
    return render(request, template, {**frame, **context}, status=status)


def mine(request: HttpRequest) -> QuerySet[Any]:
    """The visitor's conversations, each with the first words said in it; a newcomer has none."""
    found = Session.objects.of(request.user) if request.user.is_authenticated else Session.objects.none()
    return _opened(found)


def listed(request: HttpRequest) -> QuerySet[Any]:
    """Those of them that are listed anywhere: a temporary one leaves no trace there."""
    return mine(request).exclude(storage=Session.Storage.EPHEMERAL)


def _opened(found: QuerySet[Session]) -> QuerySet[Any]:
    first = Message.objects.filter(
        session=OuterRef("pk"), thread="", role="user", active=True, erased_at=None
    ).order_by("position")
    return found.annotate(opening=Subquery(first.values(words=Left("content", 120))[:1]))


def _undo(request: HttpRequest) -> Any:
    """The conversation that the visitor deleted just now and may have back, if the address names one."""
    try:
        id = UUID(request.GET.get("deleted", ""))
    except ValueError:
        return None
    if not request.user.is_authenticated:
        return None
    found = _opened(Session.objects.discarded(request.user)).filter(pk=id, expires_at__gt=Now()).first()
    if found is not None:
        found.seconds_left = round((found.expires_at - timezone.now()).total_seconds())
    return found


def session_of(request: HttpRequest, id: UUID) -> Session:
    """The visitor's conversation with this id."""
    found: Session | None = mine(request).filter(pk=id).first()
    if found is None:
        raise NotFound("There is no such conversation.")
    return found


def me(request: HttpRequest) -> Person | None:
    """The person that the visitor is; None for one of whom nothing is known yet."""
    visitor = request.user
    return Person.objects.filter(owner=visitor, ref=ME).first() if visitor.is_authenticated else None


def visitor(request: HttpRequest) -> Any:
    """Who is asking; somebody new becomes a guest, with a cookie to come back by."""
    if request.user.is_authenticated:
        return request.user
    guest = new_guest()
    login(request, guest, backend=settings.AUTHENTICATION_BACKENDS[0])
    return guest
