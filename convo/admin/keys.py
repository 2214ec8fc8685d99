"""API keys: issued, renewed and revoked here. A key is shown on the page that answers, and nowhere again."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone

from convo.admin.confirming import Deed, action_of, asked, few_of
from convo.admin.lists import owner_named
from convo.admin.reading import ReadOnly
from convo.models import ApiKey

# For so long the old key goes on beside the one that renews it.
OVERLAP = timedelta(hours=24)


class NewKey(forms.Form):
    """What a new key is for."""

    owner = forms.CharField(max_length=150, help_text="The user name of the account that the key acts for.")
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in ApiKey.SCOPES],
        initial=["read", "write"],
        widget=forms.CheckboxSelectMultiple,
    )
    days = forms.IntegerField(
        required=False, min_value=1, max_value=3650, help_text="How long it is valid; empty: for good."
    )

    def __init__(self, by: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.by = by
        self.fields["owner"].initial = by.get_username()

    def clean_owner(self) -> Any:
        """The account; another one's only for superusers, for a key reads and speaks as its owner."""
        name = self.cleaned_data["owner"]
        users = get_user_model()
        owner = users._default_manager.filter(**{users.USERNAME_FIELD: name}, is_active=True).first()
        if owner is None or not may_act_for(self.by, owner):
            raise forms.ValidationError("There is no such account that you may issue keys for.")
        return owner


def may_act_for(user: Any, owner: Any) -> bool:
    """May this member of the staff hold a key that acts for this account?"""
    return bool(user.is_superuser or user.pk == owner.pk)


def _revoke(key: ApiKey) -> bool:
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))


REVOKE = Deed(
    name="revoke",
    label="Revoke",
    means="The next request with one of them is refused. This can't be undone.",
    done="Revoked",
    permission="revoke",
    do=_revoke,
    grave=True,
)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    """Programs' ways in. Only a keyed hash of each is kept, and that is shown to nobody."""

    list_display = ("prefix", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    list_select_related = ("owner",)
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    ordering = ("-id",)
    search_fields = ("prefix",)
    search_help_text = "A key's beginning, or its owner's user name."
    lookups = ("owner__exact",)
    fields = list_display
    actions = [action_of(REVOKE), "rotate"]

    def found_by(self, term: str) -> Q:
        # Somebody may paste a whole key: only its beginning is looked up.
        parts = term.split("_")
        return Q(prefix=parts[1] if term.startswith("convo_") else term) | owner_named(term)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("convo.add_apikey"))

    has_rotate_permission = has_add_permission

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("convo.change_apikey"))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewKey(request.user, request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._answer(request, "admin/convo/apikey/issue.html", form=form, title="Issue an API key")
        wanted = form.cleaned_data
        lifetime = timedelta(days=wanted["days"]) if wanted["days"] else None
        key, raw = ApiKey.objects.issue(wanted["owner"], scopes=wanted["scopes"], lifetime=lifetime)
        self.log_addition(request, key, f"issued for {key.owner}: {', '.join(key.scopes)}")
        return self._issued(request, key, raw)

    @admin.action(description="Renew: issue another in its place", permissions=["rotate"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponseBase | None:
        chosen = [key for key in few_of(request, queryset.select_related("owner")) if key.is_valid]
        if len(chosen) != 1 or not may_act_for(request.user, chosen[0].owner):
            messages.error(request, "Choose one key that is valid and acts for an account of yours.")
            return None
        (old,) = chosen
        deed = Deed(
            name="rotate",
            label="Renew",
            means="Another key is issued with the same scopes. The old one goes on for a day.",
            done="Renewed",
            permission="rotate",
            do=bool,
        )
        if request.POST.get("post") != "yes":
            return asked(self, request, chosen, "rotate", {"deed": deed, "title": "Renew this key?"})
        key, raw = ApiKey.objects.rotate(old, overlap=OVERLAP)
        self.log_change(request, old, f"renewed by {key}")
        self.log_addition(request, key, f"issued in the place of {old}")
        return self._issued(request, key, raw)

    def _issued(self, request: HttpRequest, key: ApiKey, raw: str) -> HttpResponseBase:
        return self._answer(
            request, "admin/convo/apikey/issued.html", key=key, raw=raw, title="A new API key"
        )

    def _answer(self, request: HttpRequest, template: str, **more: Any) -> HttpResponseBase:
        context = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media, **more}
        return TemplateResponse(request, template, context)
