"""Uploads: the file of a multipart body, written to MongoDB while it is read, and never to the disk of this machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from rest_framework.exceptions import ParseError, UnsupportedMediaType, ValidationError

from core.api.exceptions import BodyTooLarge, ServiceUnavailable
from core.mongodb.errors import is_database_unavailable
from files.contents import ContentWriter
from files.media_types import TypeDetector

MAX_NAME = 255
# The room for the other parts of a form, and for the boundaries between them.
FORM_BYTES = 20_000
# An upload holds a thread while its client sends. So many at once leave the others free.
AT_ONCE = 8
# Less than `experiments.models.LONGEST_REQUEST`.
LONGEST_SECONDS = 90
FILE_TOO_LARGE = "A file may have at most {limit:,} bytes. Send a smaller one, or split it."
NOT_MULTIPART = "Send multipart/form-data with the file in a part named file: curl -F file=@report.html."
ONE_FILE = "Send one file, with its name, in a part named file, and no other part: curl -F file=@report.html."
EMPTY = "The file is empty. Choose one with content."
LONG_NAME = f"The name of a file must have at most {MAX_NAME} characters."
INCOMPLETE = "The form is malformed or incomplete. Nothing was stored. Send the file again."
TOO_SLOW = (
    f"The file did not arrive within {LONGEST_SECONDS} seconds. Nothing was stored. Send it over a faster connection."
)
BUSY = "The service takes too many files at once. Try again in a few seconds."


@dataclass(frozen=True)
class Upload:
    """A stored content that no file names yet, with the other parts of its form."""

    id: Any
    name: str
    content_type: str
    size: int
    sha256: str
    fields: QueryDict


free = threading.BoundedSemaphore(AT_ONCE)


@contextmanager
def received(request: HttpRequest, allowed: frozenset[str] = frozenset()) -> Iterator[Upload]:
    """Read the body, store its file, and give it to the block. If the block raises an exception, remove the content.

    The form may have the fields `allowed` besides. Check before who the caller is, and that they may upload. Raises
    the exceptions of the API for a body that is no upload.
    """
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType(request.content_type or "", NOT_MULTIPART)
    if not free.acquire(blocking=False):
        raise ServiceUnavailable(BUSY)
    try:
        handler = FileHandler()
        try:
            yield parsed(request, handler, allowed)
        except Exception as error:
            # A link may be stored although its response was lost. Then the content must stay; `sweep.py` knows.
            if not is_database_unavailable(error):
                handler.content.discard()
            raise
    finally:
        free.release()


def parsed(request: HttpRequest, handler: "FileHandler", allowed: frozenset[str]) -> Upload:
    body: Any = Body(request, handler)
    if (body.length or 0) > upload_limit():
        raise too_large()
    # The parser takes an empty body for one without a length, as a chunked one is. It asks for no more than that.
    meta = {"CONTENT_TYPE": request.META["CONTENT_TYPE"], "CONTENT_LENGTH": body.length or upload_limit()}
    try:
        fields, _ = MultiPartParser(meta, body, [handler]).parse()
    except SuspiciousOperation as error:
        # The parser's own limits, of which a form with one file reaches none.
        raise ValidationError({"file": [ONE_FILE]}) from error
    except (MultiPartParserError, OSError, ParseException) as error:
        raise ParseError(INCOMPLETE) from error
    except TypeError as error:
        # Python cannot sort the parts of a parameter if one is the whole (`filename*=…; filename*0=…`, RFC 2231).
        raise ParseError(INCOMPLETE) from error
    if not body.is_complete or handler.is_interrupted:
        raise ParseError(INCOMPLETE)
    if fields.keys() - allowed:
        raise ValidationError({"file": [ONE_FILE]})
    return handler.upload(fields)


def too_large() -> BodyTooLarge:
    return BodyTooLarge(FILE_TOO_LARGE.format(limit=settings.MAX_FILE_BYTES))


def upload_limit() -> int:
    """Return the size limit of a body with a file."""
    return int(settings.MAX_FILE_BYTES) + FORM_BYTES


class Body:
    """The body of a request, whose size and time are bounded. `length` is None for a chunked body."""

    def __init__(self, request: HttpRequest, handler: "FileHandler") -> None:
        self.length = int(request.META["CONTENT_LENGTH"]) if request.META.get("CONTENT_LENGTH") else None
        self._request = request
        self._handler = handler
        self._received = self._beside_file = 0
        self._deadline = time.monotonic() + LONGEST_SECONDS

    @property
    def is_complete(self) -> bool:
        return self.length is None or self._received == self.length

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`."""
        if time.monotonic() > self._deadline:
            raise ParseError(TOO_SLOW)
        data = self._request.read(size)
        self._received += len(data)
        if self._received > upload_limit():
            raise too_large()
        # The parser takes 0.1 ms for a part, and so two seconds for the many that fit into a megabyte.
        if not self._handler.is_in_file:
            self._beside_file += len(data)
        if self._beside_file > FORM_BYTES + self._handler.chunk_size:
            raise ValidationError({"file": [ONE_FILE]})
        return data


class FileHandler(FileUploadHandler):
    """Writes the only file of a form to MongoDB. https://docs.djangoproject.com/en/5.2/ref/files/uploads/"""

    # The parser reads so many bytes at once.
    chunk_size = 64 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.content = ContentWriter()
        self.is_in_file = self.is_interrupted = False
        self._name = ""

    def new_file(self, field_name: str, file_name: str, *args: Any, **options: Any) -> None:
        """Begin a file. Django has removed directories and characters that cannot be printed from its name."""
        name = file_name.strip()
        if field_name != "file" or self._name or not name:
            raise ValidationError({"file": [ONE_FILE]})
        if len(name) > MAX_NAME:
            raise ValidationError({"file": [LONG_NAME]})
        self._name, self._detector = name, TypeDetector(name)
        self.is_in_file = True

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Store bytes. Other handlers get none."""
        if self.content.size + len(raw_data) > settings.MAX_FILE_BYTES:
            raise too_large()
        self._detector.feed(raw_data)
        self.content.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        """Notice the end of the file. Its bytes are stored, and no object stands for them."""
        self.is_in_file = False

    def upload_interrupted(self) -> None:
        """Notice that the body ended within the file."""
        self.is_interrupted = True

    def upload(self, fields: QueryDict) -> Upload:
        """Complete the content. Raises `ValidationError` without a file, and for an empty one."""
        if not self._name:
            raise ValidationError({"file": [ONE_FILE]})
        if not self.content.size:
            raise ValidationError({"file": [EMPTY]})
        self.content.close(self._name)
        media_type = self._detector.media_type()
        return Upload(self.content.id, self._name, media_type, self.content.size, self.content.sha256, fields)
