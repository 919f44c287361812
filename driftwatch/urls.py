"""Where everything is."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from driftwatch import health, home

urlpatterns = [
    # First, for it is asked for all day.
    path("api/v1/", include("driftwatch.api.urls")),
    # In a namespace of its own: addresses are made of the other.
    path("api/latest/", include(("driftwatch.api.urls", "latest"))),
    path("", home.home, name="home"),
    path("favicon.ico", RedirectView.as_view(url=static("driftwatch/icon.svg"))),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("", include("accounts.urls")),
    path("", include("pages.urls")),
    path("admin/", admin.site.urls),
]
handler400 = "driftwatch.api.errors.bad_request"
handler403 = "driftwatch.api.errors.forbidden"
handler404 = "driftwatch.api.errors.not_found"
handler500 = "driftwatch.api.errors.server_error"
