"""The page at the root."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from core.api.errors import read_only


@read_only
def home(request: HttpRequest) -> HttpResponse:
    """A page for browsers, 204 for those who only ask whether somebody is there."""
    if "text/html" in request.headers.get("Accept", ""):
        return render(request, "home.html")
    return HttpResponse(status=204)
