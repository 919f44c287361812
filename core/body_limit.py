"""The size limits of request bodies, and the refusal of compressed bodies, and of uploads where no view takes them."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import Resolver404, resolve
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from core.api.error_pages import refusal, wants_page
from core.api.errors import MAX_NAME, shortened

TOO_LARGE = "The body is larger than {limit:,} bytes. Send less in one request."
FORM_TOO_LARGE = "The form holds more than {limit:,} bytes. Go back and shorten it, or use the API."
MALFORMED_CHUNKS = "The chunks of the body are malformed or incomplete. Send the request again, with a Content-Length."
NO_FILES = (
    "This address does not take multipart/form-data. Send a form as application/x-www-form-urlencoded, "
    "and other bodies as application/json."
)
TRANSFERRED = "Transfer-Encoding: {coding} is not supported. Send Transfer-Encoding: chunked, or a Content-Length."
ENCODED = "Content-Encoding: {coding} is not supported. Send the body as it is, without Content-Encoding."
FORM_WITH_FILES = "This form was sent in a format for files. Go back, and use the form of the page."


class BodyLimitMiddleware:
    """Refuses a body by its headers, before any code reads it: Django would store uploaded files on the disk.

    A chunked body has no length in its headers. It is read here, up to the limit, and has a length afterwards. Only the
    view of an upload reads its body itself, and bounds it (files/uploads.py). So it can say more to people.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        upload = is_upload(request)
        try:
            if is_chunked(request):
                length = pass_chunks(request) if upload else read_chunks(request)
            else:
                length = int(request.META.get("CONTENT_LENGTH") or 0)
        except (OSError, ParseException):
            return refusal(request, 400, MALFORMED_CHUNKS)
        transfer = request.META.get("HTTP_TRANSFER_ENCODING", "chunked")
        if transfer.lower() != "chunked":
            return refusal(request, 501, TRANSFERRED.format(coding=shortened(transfer, MAX_NAME)))
        if not upload and (message := problem_of_length(request, length)):
            return refusal(request, 413, message)
        if (length or upload) and (coding := request.META.get("HTTP_CONTENT_ENCODING", "")).lower() not in (
            "",
            "identity",
        ):
            response = refusal(request, 415, ENCODED.format(coding=shortened(coding, MAX_NAME)))
            # The codings that a request may have (RFC 9110, section 12.5.3).
            response["Accept-Encoding"] = "identity"
            return response
        if upload:
            # An empty form, so that no other code parses the body to look for the token of the form.
            request.POST = QueryDict()
        elif request.content_type == "multipart/form-data":
            return refusal(request, 415, FORM_WITH_FILES if wants_page(request) else NO_FILES)
        try:
            return self.get_response(request)
        finally:
            # Django's request refers to itself: a chunked body would stay in memory until a garbage collection.
            if isinstance(request._stream, BytesIO):
                request._stream.close()


def problem_of_length(request: HttpRequest, length: int) -> str | None:
    """Return a sentence if the body is too large, or None."""
    # Most bodies are so small that their address does not matter.
    if length <= min(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MAX_BULK_BYTES) or length <= limit_of(request):
        return None
    return (FORM_TOO_LARGE if wants_page(request) else TOO_LARGE).format(limit=limit_of(request))


def limit_of(request: HttpRequest) -> int:
    """Return the size limit of a body for the address: `MAX_BULK_BYTES` if its view stores many objects at once."""
    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return settings.MAX_BULK_BYTES if getattr(view_class(request), "is_bulk", False) else limit


def is_upload(request: HttpRequest) -> bool:
    """Return whether the body is a form with a file, for a view that takes one."""
    is_form = request.method == "POST" and request.content_type == "multipart/form-data"
    return is_form and getattr(view_class(request), "is_upload", False)


def view_class(request: HttpRequest) -> Any:
    """Return the class of the view at the address, or None."""
    try:
        view = resolve(request.path_info).func
    except Resolver404:
        return None
    return getattr(view, "cls", None)


def is_chunked(request: HttpRequest) -> bool:
    """Return whether the body is chunked, and the server marks its end (gunicorn does)."""
    return "HTTP_TRANSFER_ENCODING" in request.META and bool(request.META.get("wsgi.input_terminated"))


def pass_chunks(request: HttpRequest) -> int:
    """Let the view read a chunked body itself. Return 0, because its length is unknown."""
    # Django reads as many bytes as Content-Length says, which is none here.
    request._stream = request.META["wsgi.input"]
    return 0


def read_chunks(request: HttpRequest) -> int:
    """Read a chunked body up to one byte more than its limit, and return the length."""
    body = request.META["wsgi.input"].read(limit_of(request) + 1)
    request.META["CONTENT_LENGTH"] = str(len(body))
    # Django has no public way to replace the stream of a body.
    request._stream = BytesIO(body)
    return len(body)
