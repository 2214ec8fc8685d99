from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("convo.http.urls")),
]

handler400 = "convo.http.errors.bad_request"
handler500 = "convo.http.errors.server_error"
