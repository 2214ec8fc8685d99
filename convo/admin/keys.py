"""Admin of API keys. Issuing or renewing one shows the raw key once, on the page that follows."""

from datetime import timedelta

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.utils import timezone

from convo.admin.confirmation import RowAction, admin_action, confirmation_page, render_page, selected_rows
from convo.admin.lists import OWNER_NAME
from convo.admin.read_only import ReadOnlyAdmin, permission_check
from convo.models import ApiKey

# The old key stays valid this long after its renewal.
OVERLAP = timedelta(hours=24)


class ApiKeyForm(forms.Form):
    """A form for the owner, the scopes and the lifetime of a new key."""

    owner = forms.CharField(max_length=150, help_text="The user name of the account that the key acts for.")
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in ApiKey.SCOPES],
        initial=["read", "write"],
        widget=forms.CheckboxSelectMultiple,
    )
    days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=3650,
        help_text="Days until the key expires. Leave empty for a key that never expires.",
    )

    def __init__(self, issuer: User | AnonymousUser, data: QueryDict | None) -> None:
        super().__init__(data)
        self.issuer = issuer
        self.fields["owner"].initial = issuer.get_username()

    def clean_owner(self) -> User:
        """Return the account. A key acts as its owner, so only superusers may name another user's."""
        username = self.cleaned_data["owner"]
        user_model = get_user_model()
        owner = user_model._default_manager.filter(
            **{user_model.USERNAME_FIELD: username}, is_active=True
        ).first()
        if owner is None or not can_issue_for(self.issuer, owner):
            raise forms.ValidationError(
                "There is no such account, or you may not issue keys for it. Enter your own user name."
            )
        return owner


def can_issue_for(user: User | AnonymousUser, owner: User) -> bool:
    """Return whether this staff member may hold a key that acts for this account."""
    return bool(user.is_superuser or user.pk == owner.pk)


def _revoke(key: ApiKey) -> bool:
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))


REVOKE = RowAction(
    name="revoke",
    label="Revoke",
    description="Requests with these keys are refused from now on, and running streams end soon. "
    "There is no undo.",
    done_label="Revoked",
    permission="revoke",
    apply=_revoke,
    is_destructive=True,
)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin[ApiKey]):
    """API keys of programs. The database has only a keyed hash of each, and no page shows it."""

    list_display = ("prefix", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    list_select_related = ("owner",)
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    ordering = ("-id",)
    search_names = ("prefix", OWNER_NAME)
    search_help_text = "A key's prefix, or its owner's user name."
    extra_lookups = ("owner__exact",)
    fields = list_display
    actions = [admin_action(REVOKE), "rotate"]

    def search_condition(self, term: str) -> Q:
        # Staff may paste a whole key, so everything after its prefix is ignored.
        parts = term.split("_")
        return Q(prefix=parts[1] if term.startswith("convo_") else term) | Q(**{OWNER_NAME: term})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("convo.add_apikey"))

    has_rotate_permission = has_add_permission

    has_revoke_permission = permission_check("convo.change_apikey")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ApiKeyForm(request.user, request.POST or None)
        if request.method != "POST" or not form.is_valid():
            context = {"form": form, "title": "Issue an API key"}
            return render_page(self, request, "admin/convo/apikey/issue.html", context)
        data = form.cleaned_data
        lifetime = timedelta(days=data["days"]) if data["days"] else None
        key, raw_key = ApiKey.objects.issue(data["owner"], scopes=data["scopes"], lifetime=lifetime)
        self.log_addition(request, key, f"issued for {key.owner}: {', '.join(key.scopes)}")
        return self._show_raw_key(request, key, raw_key)

    @admin.action(description="Renew: issue a key to replace this one", permissions=["rotate"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponseBase | None:
        keys = [key for key in selected_rows(request, queryset.select_related("owner")) if key.is_valid]
        if len(keys) != 1 or not can_issue_for(request.user, keys[0].owner):
            messages.error(request, "Select one valid key of an account that you may issue keys for.")
            return None
        (old_key,) = keys
        if request.POST.get("post") != "yes":
            description = "A new key with the same scopes is issued. The old key stays valid for a day."
            context = {"deed": {"label": "Renew", "description": description}, "title": "Renew this key?"}
            return confirmation_page(self, request, keys, "rotate", context)
        key, raw_key = ApiKey.objects.rotate(old_key, overlap=OVERLAP)
        self.log_change(request, old_key, f"renewed by {key}")
        self.log_addition(request, key, f"issued in place of {old_key}")
        return self._show_raw_key(request, key, raw_key)

    def _show_raw_key(self, request: HttpRequest, key: ApiKey, raw_key: str) -> HttpResponse:
        context = {"key": key, "raw": raw_key, "title": "A new API key"}
        return render_page(self, request, "admin/convo/apikey/issued.html", context)
