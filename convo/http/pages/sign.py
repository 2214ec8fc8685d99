"""Signing in, up and out. Who was a guest keeps what they have: conversations, memories, files."""

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, get_user_model, login, logout
from django.contrib.auth.forms import AuthenticationForm, BaseUserCreationForm, UsernameField
from django.db import IntegrityError
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from convo import guests
from convo.conf import conf
from convo.http.pages.door import missing

NAME = get_user_model().USERNAME_FIELD


class SignUp(BaseUserCreationForm):  # type: ignore[type-arg]
    """A name that nobody has, and a password twice; the project's validators say which are good."""

    class Meta:
        model = get_user_model()
        fields = (NAME,)
        field_classes = {NAME: UsernameField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password2"].label = "Password once more"
        # What a name may be is told where one isn't.
        self.fields[NAME].help_text = self.fields["password2"].help_text = ""

    def clean(self) -> dict[str, Any] | None:
        """Refuse a name that differs from another one in its capitals alone, too."""
        given = super().clean()
        name = self.cleaned_data.get(NAME)
        if name and self._meta.model._default_manager.filter(**{f"{NAME}__iexact": name}).exists():
            self.taken()
        return given

    def taken(self) -> None:
        """Somebody has this name."""
        self.add_error(NAME, self.instance.unique_error_message(self._meta.model, [NAME]))


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponseBase:
    """Enter an account; a guest's conversations come along."""
    form = AuthenticationForm(request, data=_sent(request), label_suffix="")
    if form.is_valid():
        return _enter(request, form.get_user())
    return _form(request, "convo/sign_in.html", form)


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponseBase:
    """Make an account; a guest becomes it, with everything that is theirs."""
    if not conf().sign_up:
        return missing(request)
    form = SignUp(data=_sent(request), label_suffix="")
    account = _opened(request, form) if form.is_valid() else _own(request, form)
    return _enter(request, account) if account else _form(request, "convo/sign_up.html", form)


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponseBase:
    """Leave; nothing that was shown stays in the browser."""
    logout(request)
    response = redirect("chat")
    response["Clear-Site-Data"] = '"cache"'
    return response


def _sent(request: HttpRequest) -> QueryDict | None:
    return request.POST if request.method == "POST" else None


def _opened(request: HttpRequest, form: SignUp) -> Any | None:
    """The account that the form asks for; None when somebody was faster with its name."""
    given = form.cleaned_data
    try:
        if guests.is_guest(request.user) and guests.settle(request.user, given[NAME], given["password1"]):
            return request.user
        return form.save()
    except IntegrityError:
        form.taken()
        return None


def _own(request: HttpRequest, form: SignUp) -> Any | None:
    """The account of this name, if the password is right: the form was sent twice."""
    if not form.has_error(NAME, "unique"):
        return None
    return authenticate(request, username=request.POST[NAME], password=request.POST.get("password1"))


def _enter(request: HttpRequest, account: Any) -> HttpResponseBase:
    if guests.is_guest(request.user):
        guests.join(request.user, account)
    login(request, account, backend=getattr(account, "backend", settings.AUTHENTICATION_BACKENDS[0]))
    return redirect(_next(request) or "chat")


def _next(request: HttpRequest) -> str:
    """Where the visitor was going, if that is an address of ours."""
    wanted = request.POST.get("next", request.GET.get("next", ""))
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if ours else ""


def _form(request: HttpRequest, template: str, form: BaseForm) -> HttpResponse:
    shown = {
        "form": form,
        "next": _next(request),
        "guest": guests.is_guest(request.user),
        "may_sign_up": conf().sign_up,
    }
    return render(request, template, shown, status=400 if form.errors else 200)
