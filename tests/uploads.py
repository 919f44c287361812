"""Forms with files, and the file that tests upload."""

from typing import Any

from drifts.models import Drift
from files.contents import ContentWriter
from files.models import RunFile
from tests.caller import Caller

BOUNDARY = "the-boundary"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def part(content: bytes, name: str | None = "report.html", field: str = "file", media_type: str = "") -> bytes:
    """A part of a form: of a field, if it has no name of a file."""
    named = "" if name is None else f'; filename="{name}"'
    lines = [f'Content-Disposition: form-data; name="{field}"{named}']
    lines += [f"Content-Type: {media_type}"] if media_type else []
    return b"\r\n".join([f"--{BOUNDARY}".encode(), *(line.encode() for line in lines), b"", content, b""])


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def upload(
    caller: Caller, path: str, content: bytes = b"<p>drift</p>", name: str = "report.html", **options: Any
) -> Any:
    """Upload a file by the API, and return the response."""
    return caller.post(path, form(part(content, name)), content_type=MULTIPART, **options)


def stored_file(drift: Drift, content: bytes = b"<p>drift</p>", name: str = "report.html") -> RunFile:
    """A file of the run, which is stored without a request."""
    writer = ContentWriter()
    writer.write(content)
    writer.close(name)
    return RunFile.objects.create(
        id=writer.id,
        experiment=drift.experiment,
        drift=drift,
        name=name,
        content_type="text/html",
        size=writer.size,
        sha256=writer.sha256,
    )
