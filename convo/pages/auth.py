"""Signing in, up and out. A guest keeps everything: conversations, memories, files."""

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
from convo.pages.page import not_found

USERNAME_FIELD = get_user_model().USERNAME_FIELD


class SignUpForm(BaseUserCreationForm):  # type: ignore[type-arg]
    """The sign-up form: a free username, and twice a password that the project's validators accept."""

    class Meta:
        model = get_user_model()
        fields = (USERNAME_FIELD,)
        field_classes = {USERNAME_FIELD: UsernameField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password2"].label = "Repeat the password"
        # The rules for names are shown only when a name breaks one.
        self.fields[USERNAME_FIELD].help_text = self.fields["password2"].help_text = ""

    def clean(self) -> dict[str, Any] | None:
        """Also refuse a name that differs from an existing one only in its capitals."""
        cleaned_data = super().clean()
        name = self.cleaned_data.get(USERNAME_FIELD)
        if name and self._meta.model._default_manager.filter(**{f"{USERNAME_FIELD}__iexact": name}).exists():
            self.add_name_taken_error()
        return cleaned_data

    def add_name_taken_error(self) -> None:
        self.add_error(USERNAME_FIELD, self.instance.unique_error_message(self._meta.model, [USERNAME_FIELD]))


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponseBase:
    """Sign in; the account takes over what a guest has."""
    form = AuthenticationForm(request, data=_post_data(request), label_suffix="")
    if form.is_valid():
        return _log_in(request, form.get_user())
    return _render_form(request, "convo/sign_in.html", form)


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponseBase:
    """Create an account; a guest becomes it, with everything they have."""
    if not conf().sign_up:
        return not_found(request)
    form = SignUpForm(data=_post_data(request), label_suffix="")
    account = _create_account(request, form) if form.is_valid() else _existing_account(request, form)
    return _log_in(request, account) if account else _render_form(request, "convo/sign_up.html", form)


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponseBase:
    """Sign out, and clear the browser's cache of everything it was shown."""
    logout(request)
    response = redirect("chat")
    response["Clear-Site-Data"] = '"cache"'
    return response


def _post_data(request: HttpRequest) -> QueryDict | None:
    return request.POST if request.method == "POST" else None


def _create_account(request: HttpRequest, form: SignUpForm) -> Any | None:
    """Create the account of this form; return None if its name was taken meanwhile."""
    data = form.cleaned_data
    try:
        if guests.is_guest(request.user) and guests.convert_to_account(
            request.user, data[USERNAME_FIELD], data["password1"]
        ):
            return request.user
        return form.save()
    except IntegrityError:
        form.add_name_taken_error()
        return None


def _existing_account(request: HttpRequest, form: SignUpForm) -> Any | None:
    """Return the account of this name if the password is right, as when the form was sent twice."""
    if not form.has_error(USERNAME_FIELD, "unique"):
        return None
    return authenticate(
        request, username=request.POST[USERNAME_FIELD], password=request.POST.get("password1")
    )


def _log_in(request: HttpRequest, account: Any) -> HttpResponseBase:
    if guests.is_guest(request.user):
        guests.merge_into_account(request.user, account)
    login(request, account, backend=getattr(account, "backend", settings.AUTHENTICATION_BACKENDS[0]))
    return redirect(_next_url(request) or "chat")


def _next_url(request: HttpRequest) -> str:
    next_url = request.POST.get("next", request.GET.get("next", ""))
    is_local = url_has_allowed_host_and_scheme(
        next_url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return next_url if is_local else ""


def _render_form(request: HttpRequest, template: str, form: BaseForm) -> HttpResponse:
    context = {
        "form": form,
        "next": _next_url(request),
        "guest": guests.is_guest(request.user),
        "may_sign_up": conf().sign_up,
    }
    return render(request, template, context, status=400 if form.errors else 200)
