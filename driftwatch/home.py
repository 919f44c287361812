"""The page at the root."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from core.api.error_pages import read_only


@read_only
def home(request: HttpRequest) -> HttpResponse:
    """Return the home page to browsers, and a 204 to other clients."""
    if "text/html" in request.headers.get("Accept", ""):
        return render(request, "home.html")
    return HttpResponse(status=204)
