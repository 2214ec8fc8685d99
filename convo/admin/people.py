"""Admin of the people whom conversations are with."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from convo.admin.lists import OWNER_NAME
from convo.admin.read_only import ReadOnlyAdmin
from convo.models import Person


@admin.register(Person)
class PersonAdmin(ReadOnlyAdmin[Person]):
    """People: owners themselves (`me`), end users behind their keys, and nobody in particular (no name)."""

    list_display = ("id", "owner", "ref", "epoch")
    list_select_related = ("owner",)
    ordering = ("-id",)
    search_names = ("ref", OWNER_NAME)
    search_help_text = "The complete name of an end user, or the owner's user name."
    extra_lookups = ("owner__exact",)
    content_fields = ("never_store",)
    fields = ("owner", "ref", "related_links", "never_store", "epoch")
    readonly_fields = ("related_links",)

    @admin.display(description="related")
    def related_links(self, person: Person) -> SafeString:
        links = (
            (reverse(f"admin:convo_{model}_changelist"), person.pk, name)
            for model, name in (("session", "conversations"), ("usermemory", "memories"))
        )
        return format_html_join(" · ", '<a href="{}?person__exact={}">{}</a>', links)
