"""ETags, and requests that depend on them (RFC 9110, sections 8.8.3 and 13).

An ETag is a digest of the response's content, and so of the fields that this caller may see: a field that is
hidden from the caller does not change it. A condition means the same at every method.
"""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpResponse, HttpResponseNotModified
from django.http.request import HttpHeaders
from django.utils.http import quote_etag
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from core.api.exceptions import PreconditionFailed
from core.api.responses import JSONResponse, json_of
from core.mongodb.transaction import in_transaction
from core.versions import digest

Action = Callable[..., HttpResponse]

# Django's `parse_etags` splits an ETag at a comma inside it, and skips malformed ones: both change the condition.
ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# A list may have empty elements (section 5.6.1.2).
CONDITION = re.compile(rf"\*|[ \t,]*{ENTITY_TAG}(?:[ \t]*,[ \t,]*{ENTITY_TAG})*[ \t,]*")
# The headers of the 200 that its 304 has too (section 15.4.5).
KEPT = ("ETag", "Vary", "Cache-Control")


def tagged(action: Action) -> Action:
    """Decorate an action: add the `ETag` of its response, or respond with 304 if the client has that already."""

    @wraps(action)
    def respond(view: Any, request: Request, **path: str) -> HttpResponse:
        response = action(view, request, **path)
        tag = quote_etag(digest(content_of(response, view)))
        response["ETag"], response["Vary"] = tag, "Authorization, Cookie"
        if request.method in ("GET", "HEAD") and not allows(request, tag) and not has_progress(response, view):
            kept = {name: response[name] for name in KEPT if name in response}
            # The length of the 200 (section 8.6). Without it, a middleware would add a length of 0.
            return HttpResponseNotModified(headers={**kept, "Content-Length": str(len(response.content))})
        return response

    respond.is_tagged = True  # type: ignore[attr-defined]
    return respond


def content_of(response: HttpResponse, view: Any) -> bytes:
    """Return the content that a client may have changed: without the progress of background work."""
    if not isinstance(response, JSONResponse) or not view.progress_fields:
        return response.content
    return json_of({name: value for name, value in response.data.items() if name not in view.progress_fields})


def has_progress(response: HttpResponse, view: Any) -> bool:
    """Return whether the response shows progress, which a client with the same ETag may have seen earlier."""
    return isinstance(response, JSONResponse) and view.has_progress(response.data)


def conditional(action: Action) -> Action:
    """Decorate an action: change the object only if the conditions hold, and respond with 412 otherwise.

    The view's GET at the same path is `tagged`. Its response is compared in the transaction of the change. If
    another request changes the object in between, the transaction is retried and finds that change.
    """

    @wraps(action)
    def change(view: Any, request: Request, **path: str) -> HttpResponse:
        if not {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & request.META.keys():
            return action(view, request, **path)
        read = getattr(view, view.action_map["get"])

        @in_transaction
        def compare_and_change() -> HttpResponse:
            tag = read(request, **path)["ETag"]
            if not allows(request, tag):
                raise PreconditionFailed(
                    f"The object has the ETag {tag} already, which If-None-Match excludes. "
                    "Leave the header out to change it."
                )
            return action(view, request, **path)

        return compare_and_change()

    change.is_conditional = True  # type: ignore[attr-defined]
    return change


def allows(request: Request, tag: str) -> bool:
    """Return whether `If-None-Match` allows the request; `tag` is the present ETag.

    Raises `PreconditionFailed` when `If-Match` names other versions only.
    """
    wanted, known = tags_in(request, "If-Match"), tags_in(request, "If-None-Match")
    if wanted is not None and not wanted & {"*", tag}:
        raise PreconditionFailed(
            f"The object was changed: its ETag is {tag} now, not the one in If-Match. Read it again, then change it."
        )
    # If-None-Match compares weakly, If-Match strongly (section 13.1).
    return known is None or not {each.removeprefix("W/") for each in known} & {"*", tag}


def tags_in(request: Request, header: str) -> set[str] | None:
    """Return the ETags that a header lists, `*` for any; None for a request without that header."""
    value = request.META.get(HttpHeaders.to_wsgi_name(header))
    if value is None:
        return None
    if not CONDITION.fullmatch(value):
        raise ParseError(f'{header} must be *, or ETags with their quotes, as in the response: {header}: "0c1d2e…".')
    return {"*"} if value == "*" else set(re.findall(ENTITY_TAG, value))
