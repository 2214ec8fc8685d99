"""The people that conversations are with."""

from django.contrib import admin
from django.db.models import Q
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from convo.admin.lists import owner_named
from convo.admin.reading import ReadOnly
from convo.models import Person


@admin.register(Person)
class PersonAdmin(ReadOnly):
    """Owners themselves (`me`), end users behind their keys, and nobody in particular."""

    list_display = ("id", "owner", "ref", "epoch")
    list_select_related = ("owner",)
    ordering = ("-id",)
    search_fields = ("ref",)
    search_help_text = "The name of an end user, whole, or of the owner."
    lookups = ("owner__exact",)
    said = ("never_store",)
    fields = ("owner", "ref", "elsewhere", "never_store", "epoch")
    readonly_fields = ("elsewhere",)

    def found_by(self, term: str) -> Q:
        return Q(ref=term) | owner_named(term)

    @admin.display(description="all of theirs")
    def elsewhere(self, person: Person) -> SafeString:
        links = (
            (reverse(f"admin:convo_{model}_changelist"), person.pk, name)
            for model, name in (("session", "conversations"), ("usermemory", "memories"))
        )
        return format_html_join(" · ", '<a href="{}?person__exact={}">{}</a>', links)
