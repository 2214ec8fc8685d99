"""The base of all pages: access, the visitor's conversations, and the frame around the content."""

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
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from convo.conf import conf
from convo.errors import ConvoError, NotAuthenticated, NotFound
from convo.guests import create_guest, is_guest
from convo.http import errors
from convo.models import ME, Message, Person, Session
from convo.pages.error_messages import message_for_visitor

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

SIDEBAR_SIZE = 30


def page(view: View[P]) -> View[P]:
    """Decorate a page for users and, with CONVO_GUESTS, for guests; answer NotFound and NotAuthenticated."""

    @never_cache
    @wraps(view)
    def wrapper(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            if not request.user.is_authenticated and not conf().guests:
                raise NotAuthenticated("You are signed out. Reload this page to sign in.")
            return view(request, *args, **kwargs)
        except (NotAuthenticated, NotFound) as error:
            if is_from_script(request):
                return errors.error_response(error)
            is_signed_out = isinstance(error, NotAuthenticated)
            return redirect_to_login(request.get_full_path()) if is_signed_out else not_found(request)

    return wrapper


def page_error_response(
    request: HttpRequest, error: ConvoError, render_page: Callable[[ConvoError], HttpResponseBase]
) -> HttpResponseBase:
    """Answer with this error: as JSON to the page's own script, else on the page from `render_page`."""
    error = error.with_message(message_for_visitor(error))
    response = errors.error_response(error) if is_from_script(request) else render_page(error)
    # Becoming a guest changes the CSRF token, so the one in the page's forms has to be renewed.
    response["X-CSRFToken"] = get_token(request)
    return response


def form_text(request: HttpRequest, name: str) -> str:
    # Browsers send line ends as CRLF on every platform.
    return request.POST.get(name, "").replace("\r\n", "\n").strip()


def is_from_script(request: HttpRequest) -> bool:
    """Return whether the page's own script sent this. It shows replies as they come, and errors in place."""
    return "X-Convo-Page" in request.headers


# A program that posts to a wrong address gets this 404, and no complaint about a missing CSRF token.
@csrf_exempt
def not_found(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Answer 404, the same for what doesn't exist and for what belongs to somebody else."""
    return render(request, "404.html", status=404)


@require_safe
def favicon(request: HttpRequest) -> HttpResponseBase:
    """Redirect to the icon, for pages that name none: the admin's, and files opened by themselves."""
    return redirect(static("convo/mark.svg"))


def render_page(
    request: HttpRequest, template: str, context: dict[str, Any], *, section: str, status: int = 200
) -> HttpResponse:
    """Render a page inside the frame that all pages share; `section` is its entry in the navigation."""
    frame = {
        "place": section,
        "conversations": listed_sessions(request)
        .exclude(state=Session.State.ARCHIVED)
        .order_by("-last_activity", "id")[:SIDEBAR_SIZE],
        "undo": _undoable_session(request),
        "offline": conf().offline,
        "guest": is_guest(request.user),
    }
    return render(request, template, {**frame, **context}, status=status)


def sessions_of_visitor(request: HttpRequest) -> QuerySet[Any]:
    """Return the visitor's conversations, each with its first words as `opening`; a newcomer has none."""
    user = request.user
    sessions = Session.objects.owned_by(user) if user.is_authenticated else Session.objects.none()
    return _with_opening(sessions)


def listed_sessions(request: HttpRequest) -> QuerySet[Any]:
    """Return the visitor's conversations without the temporary ones, which no list shows."""
    return sessions_of_visitor(request).exclude(storage=Session.Storage.EPHEMERAL)


def _with_opening(sessions: QuerySet[Session]) -> QuerySet[Any]:
    first_messages = Message.objects.filter(
        session=OuterRef("pk"), thread="", role="user", active=True, erased_at=None
    ).order_by("position")
    return sessions.annotate(opening=Subquery(first_messages.values(words=Left("content", 120))[:1]))


def _undoable_session(request: HttpRequest) -> Any:
    """Return the deleted conversation that the query string names, if the visitor can still restore it."""
    try:
        id = UUID(request.GET.get("deleted", ""))
    except ValueError:
        return None
    if not request.user.is_authenticated:
        return None
    return restorable_session(Session.objects.discarded(request.user).filter(pk=id))


def restorable_session(sessions: QuerySet[Session]) -> Any:
    """Return the first of these that can still be restored, with the seconds left as `seconds_left`."""
    session = _with_opening(sessions.filter(expires_at__gt=Now())).first()
    if session is not None:
        session.seconds_left = round((session.expires_at - timezone.now()).total_seconds())
    return session


def session_of(request: HttpRequest, id: UUID) -> Session:
    session: Session | None = sessions_of_visitor(request).filter(pk=id).first()
    if session is None:
        raise NotFound("There is no such conversation.")
    return session


def person_of_visitor(request: HttpRequest) -> Person | None:
    """Return the person that the visitor is, or None if nothing is stored about them yet."""
    user = request.user
    return Person.objects.filter(owner=user, ref=ME).first() if user.is_authenticated else None


def user_or_guest(request: HttpRequest) -> Any:
    """Return the user; a newcomer is made a guest, with a session cookie to come back by."""
    if request.user.is_authenticated:
        return request.user
    guest = create_guest()
    login(request, guest, backend=settings.AUTHENTICATION_BACKENDS[0])
    return guest
