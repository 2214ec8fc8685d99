from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from convo.pages import page

admin.site.site_header = admin.site.site_title = "Convo"

urlpatterns = [
    # Everybody uses the same sign-in page, which moves a guest's conversations to the account.
    path("admin/login/", RedirectView.as_view(pattern_name="sign-in", query_string=True)),
    path("admin/", admin.site.urls),
    path("", include("convo.urls")),
    # With DEBUG=1, Django's own page for a mistyped address would list every address of the project.
    re_path(r"^(?P<rest>(?s:.*))\Z", page.not_found),
]

handler400 = "convo.http.errors.bad_request"
handler500 = "convo.http.errors.server_error"
