"""Entity tags, and requests that depend on them (RFC 9110, sections 8.8.3 and 13).

A tag is a digest of the answer's bytes, and so of what this caller is shown: what is hidden from the
caller does not change it. The same conditions mean the same at every method.
"""

import hashlib
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpResponse, HttpResponseNotModified
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from core.api.exceptions import PreconditionFailed
from core.mongodb.transaction import in_transaction

Action = Callable[..., HttpResponse]

ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# A list may have empty elements (section 5.6.1.2).
CONDITION = re.compile(rf"\*|[ \t,]*{ENTITY_TAG}(?:[ \t]*,[ \t,]*{ENTITY_TAG})*[ \t,]*")
# Shared caches keep what one caller was shown to themselves, and the caller's own asks each time.
CACHING = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}


def tagged(action: Action) -> Action:
    """Have an action answer with the `ETag` of what it shows, or with a 304 where the reader has that already."""

    @wraps(action)
    def answer(view: Any, request: Request, **path: str) -> HttpResponse:
        response = action(view, request, **path)
        tag = f'"{hashlib.blake2b(response.content, digest_size=16).hexdigest()}"'
        headers = {"ETag": tag, **CACHING}
        if request.method in ("GET", "HEAD") and not holds(request, tag):
            # The length that a 200 would have (section 8.6): without it, a middleware would say 0.
            return HttpResponseNotModified(headers={**headers, "Content-Length": str(len(response.content))})
        for name, value in headers.items():
            response[name] = value
        return response

    answer.is_tagged = True  # type: ignore[attr-defined]
    return answer


def conditional(action: Action) -> Action:
    """Have an action change only what is as the conditions say: else a 412, and nothing is changed.

    The view answers GET at the same address, `tagged`. What that shows is compared in the transaction
    of the change: when somebody else's change comes between, the transaction starts anew, and meets it.
    """

    @wraps(action)
    def change(view: Any, request: Request, **path: str) -> HttpResponse:
        if "HTTP_IF_MATCH" not in request.META and "HTTP_IF_NONE_MATCH" not in request.META:
            return action(view, request, **path)
        read = getattr(view, view.action_map["get"])

        @in_transaction
        def compare_and_change() -> HttpResponse:
            tag = read(request, **path)["ETag"]
            if not holds(request, tag):
                raise PreconditionFailed(f"If-None-Match names the ETag that it has: {tag}.")
            return action(view, request, **path)

        return compare_and_change()

    change.is_conditional = True  # type: ignore[attr-defined]
    return change


def holds(request: Request, tag: str) -> bool:
    """Whether the reader or writer has something else than this: `If-None-Match`.

    Raises `PreconditionFailed` when it is not what the request is for: `If-Match`.
    """
    wanted, known = tags_in(request, "If-Match"), tags_in(request, "If-None-Match")
    if wanted is not None and not wanted & {"*", tag}:
        raise PreconditionFailed(
            f"It is not what If-Match names: its ETag is {tag}. Read it again, and decide on what it is now."
        )
    # A weak tag is good enough to know what one has, and never to change it.
    return known is None or not {each.removeprefix("W/") for each in known} & {"*", tag}


def tags_in(request: Request, header: str) -> set[str] | None:
    """The entity tags that a header lists, `*` for any; None where the request has no such header."""
    value = request.META.get(f"HTTP_{header.upper().replace('-', '_')}")
    if value is None:
        return None
    if not CONDITION.fullmatch(value):
        raise ParseError(f'{header} must be *, or ETags as they were answered, in their quotes: {header}: "0c1d2e…".')
    return {"*"} if value == "*" else set(re.findall(ENTITY_TAG, value))
