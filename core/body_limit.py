"""The size limits of request bodies, and the refusal of uploaded files and of compressed bodies."""

from collections.abc import Callable
from io import BytesIO

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from core.api.error_pages import refusal, wants_page
from core.api.errors import MAX_NAME, shortened

TOO_LARGE = "The body is larger than {limit:,} bytes. Send less in one request."
FORM_TOO_LARGE = "The form holds more than {limit:,} bytes. Go back and shorten it, or use the API."
MALFORMED_CHUNKS = "The chunks of the body are malformed or incomplete. Send the request again, with a Content-Length."
NO_FILES = (
    "No address of this service takes multipart/form-data. Send a form as application/x-www-form-urlencoded, "
    "and other bodies as application/json."
)
TRANSFERRED = "Transfer-Encoding: {coding} is not supported. Send Transfer-Encoding: chunked, or a Content-Length."
ENCODED = "Content-Encoding: {coding} is not supported. Send the body as it is, without Content-Encoding."
FORM_WITH_FILES = "This form was sent in a format for files. Go back, and use the form of the page."


class BodyLimitMiddleware:
    """Refuses a body by its headers, before any code reads it: Django would store uploaded files on the disk.

    A chunked body has no length in its headers. It is read here, up to the limit, and has a length afterwards.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            length = read_chunks(request) if is_chunked(request) else int(request.META.get("CONTENT_LENGTH") or 0)
        except (OSError, ParseException):
            return refusal(request, 400, MALFORMED_CHUNKS)
        transfer = request.META.get("HTTP_TRANSFER_ENCODING", "chunked")
        if transfer.lower() != "chunked":
            return refusal(request, 501, TRANSFERRED.format(coding=shortened(transfer, MAX_NAME)))
        # Most bodies are so small that their address does not matter.
        if length > min(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MAX_BULK_BYTES):
            limit = limit_of(request)
            if length > limit:
                message = FORM_TOO_LARGE if wants_page(request) else TOO_LARGE
                return refusal(request, 413, message.format(limit=limit))
        if length and (coding := request.META.get("HTTP_CONTENT_ENCODING", "")).lower() not in ("", "identity"):
            response = refusal(request, 415, ENCODED.format(coding=shortened(coding, MAX_NAME)))
            # The codings that a request may have (RFC 9110, section 12.5.3).
            response["Accept-Encoding"] = "identity"
            return response
        if request.content_type == "multipart/form-data":
            return refusal(request, 415, FORM_WITH_FILES if wants_page(request) else NO_FILES)
        try:
            return self.get_response(request)
        finally:
            # Django's request refers to itself: a chunked body would stay in memory until a garbage collection.
            if isinstance(request._stream, BytesIO):
                request._stream.close()


def limit_of(request: HttpRequest) -> int:
    """Return the size limit of a body for the address: `MAX_BULK_BYTES` if its view stores many objects at once."""
    try:
        view = resolve(request.path_info).func
    except Resolver404:
        view = None
    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return settings.MAX_BULK_BYTES if getattr(getattr(view, "cls", None), "is_bulk", False) else limit


def is_chunked(request: HttpRequest) -> bool:
    """Return whether the body is chunked, and the server marks its end (gunicorn does)."""
    return "HTTP_TRANSFER_ENCODING" in request.META and bool(request.META.get("wsgi.input_terminated"))


def read_chunks(request: HttpRequest) -> int:
    """Read a chunked body up to one byte more than its limit, and return the length."""
    body = request.META["wsgi.input"].read(limit_of(request) + 1)
    request.META["CONTENT_LENGTH"] = str(len(body))
    # Django has no public way to replace the stream of a body.
    request._stream = BytesIO(body)
    return len(body)
