"""The type of a content, by its own bytes. What a client says about it does not count.

A picture or a PDF is known by its first bytes, whatever its name is. A text is known by its name, if all of it is
UTF-8. Everything else is bytes to download: also SVG, which is a program as much as a picture.
"""

import codecs
from pathlib import PurePosixPath

BINARY = "application/octet-stream"
HTML = "text/html"
PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
# The first bytes, with a question mark for any byte.
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"RIFF????WEBP": "image/webp",
    b"%PDF-": "application/pdf",
}
TEXTS = {
    ".html": HTML,
    ".htm": HTML,
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".json": "application/json",
}
LONGEST_SIGNATURE = max(map(len, SIGNATURES))


class TypeDetector:
    """Finds the type of a content with this name while it is read."""

    def __init__(self, name: str) -> None:
        self._text_type = TEXTS.get(PurePosixPath(name).suffix.lower())
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._head = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._head += data[: LONGEST_SIGNATURE - len(self._head)]
        if self._text_type:
            self._decode(data)

    def media_type(self) -> str:
        """Return the type of all the bytes."""
        if self._text_type:
            self._decode(b"", is_end=True)
        signed = (media_type for signature, media_type in SIGNATURES.items() if begins_with(self._head, signature))
        return next(signed, self._text_type or BINARY)

    def _decode(self, data: bytes, *, is_end: bool = False) -> None:
        try:
            self._decoder.decode(data, is_end)
        except UnicodeDecodeError:
            self._text_type = None
        if b"\0" in data:
            self._text_type = None


def begins_with(head: bytes, signature: bytes) -> bool:
    pairs = zip(head, signature, strict=False)
    return len(head) >= len(signature) and all(wanted in (byte, ord("?")) for byte, wanted in pairs)
