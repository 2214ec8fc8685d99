from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

admin.site.site_header = admin.site.site_title = "Convo"

urlpatterns = [
    # One way in for everybody, where a guest's conversations come along.
    path("admin/login/", RedirectView.as_view(pattern_name="sign-in", query_string=True)),
    path("admin/", admin.site.urls),
    path("", include("convo.http.urls")),
]

handler400 = "convo.http.errors.bad_request"
handler500 = "convo.http.errors.server_error"
