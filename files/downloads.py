"""Responses with the content of a file, or with a range of it (RFC 9110, section 14)."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from django.http import Http404, HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header, quote_etag
from rest_framework.request import Request

from core.api.conditional import allows
from core.api.errors import problem
from core.api.responses import JSONResponse
from core.metrics import FILE_BYTES
from files.contents import ContentMissing, pieces_of
from files.models import RunFile

# The policy of a file that is downloaded, and of a picture: even if a browser took it for a page, nothing in it would
# run or load.
CLOSED = "sandbox; default-src 'none'"
# One range. Of several, or of other units, the whole content is the response, as the RFC allows.
RANGE = re.compile(r"bytes=[ \t]*(\d{0,20})-(\d{0,20})[ \t]*", re.IGNORECASE)


class Span(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int


def content_response(
    request: Request, file: RunFile, *, policy: str = CLOSED, is_attachment: bool = True
) -> HttpResponseBase:
    """Return the content of a file, or the range that the request asks for, as an attachment if not said otherwise.

    `policy` is the Content-Security-Policy. Raises `Http404` if the content is deleted.
    """
    tag = quote_etag(file.sha256)
    headers = {
        "ETag": tag,
        "Vary": "Authorization, Cookie",
        "Accept-Ranges": "bytes",
        "Content-Disposition": content_disposition_header(is_attachment, file.name) or "inline",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
    }
    if not allows(request, tag):
        return HttpResponseNotModified(headers=headers)
    span = requested_span(request, file.size, tag)
    if span is None:
        message = f"The file has {file.size:,} bytes, and the range begins after them. Ask for an earlier one."
        return JSONResponse(problem(416, message), 416, {"Content-Range": f"bytes */{file.size}"})
    is_part = "HTTP_RANGE" in request.META and span != (0, file.size)
    if is_part:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
    headers["Content-Length"] = str(span.end - span.start)
    is_text = file.content_type.startswith("text/")
    media_type = f"{file.content_type}; charset=utf-8" if is_text else file.content_type
    status = 206 if is_part else 200
    if request.method == "HEAD":
        return HttpResponse(content_type=media_type, status=status, headers=headers)
    return StreamingHttpResponse(content_of(file, span), content_type=media_type, status=status, headers=headers)


def content_of(file: RunFile, span: Span) -> Iterator[bytes]:
    """Return the bytes in pieces. The first one is read at once, so that a database that is away leads to a 503."""
    pieces = pieces_of(file.pk.hex, *span)
    try:
        first = next(pieces)
    except ContentMissing:
        raise Http404("The content of this file does not exist. It may have been deleted.") from None
    return counted(chain([first], pieces))


def counted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        FILE_BYTES.labels("downloaded").inc(len(piece))


def requested_span(request: Request, size: int, tag: str) -> Span | None:
    """Return the range that a request asks for: all without one, None if it begins after the end."""
    whole = Span(0, size)
    found = RANGE.fullmatch(request.META.get("HTTP_RANGE", ""))
    # A client with an older version gets all of this one (section 13.1.5).
    if request.method != "GET" or not found or request.META.get("HTTP_IF_RANGE", tag) != tag:
        return whole
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        # The last byte is before the first one: the header is malformed, and so ignored.
        if last and int(last) < start:
            return whole
        return Span(start, end) if start < size else None
    if not last:
        return whole
    return Span(max(size - int(last), 0), size) if int(last) else None
