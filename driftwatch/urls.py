"""The URLs of the service."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from driftwatch import home

urlpatterns = [
    # Django tries the patterns in order: the most frequent requests come first.
    path("api/v1/", include("driftwatch.api_urls")),
    # The alias has its own namespace, so that `reverse` uses version 1.
    path("api/latest/", include(("driftwatch.api_urls", "latest"))),
    path("", home.home, name="home"),
    path("favicon.ico", RedirectView.as_view(url=static("driftwatch/icon.svg"))),
    path("", include("accounts.urls")),
    path("", include("pages.urls")),
    path("admin/", admin.site.urls),
]
handler400 = "core.api.error_pages.bad_request"
handler403 = "core.api.error_pages.forbidden"
handler404 = "core.api.error_pages.not_found"
handler500 = "core.api.error_pages.server_error"
