"""Downloads of files: ranges, conditions and HEAD (RFC 9110, sections 13 and 14)."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from drifts.models import Drift
from files import contents
from files.contents import CHUNK_BYTES, READ_AT_ONCE, chunks, delete_content
from tests.caller import Caller
from tests.uploads import stored_file

CONTENT = bytes(range(256)) * 10
TAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
Get = Callable[..., Any]


@pytest.fixture
def get(reader: Caller, drift: Drift) -> Get:
    """A download of the file with these headers, by its name: `get(if_range=TAG)`."""
    file = stored_file(drift, CONTENT)
    path = f"/experiment/{drift.experiment_id}/drift/{drift.pk}/file/{file.pk}"

    def get(method: str = "GET", **headers: str) -> Any:
        return reader.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})

    return get


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=2500-", 2500, 2560),
        ("bytes=-10", 2550, 2560),
        ("bytes=-99999", 0, 2560),
        ("bytes=2559-2559", 2559, 2560),
        ("bytes=2000-99999999999999", 2000, 2560),
        ("BYTES= 1-2 ", 1, 3),
    ],
)
def test_a_range_is_a_part_of_the_content(get: Get, wanted: str, start: int, end: int) -> None:
    found = get(range=wanted)
    whole = (start, end) == (0, len(CONTENT))
    assert found.status_code == (200 if whole else 206)
    assert found.getvalue() == CONTENT[start:end]
    assert found.headers["Content-Length"] == str(end - start)
    assert found.headers.get("Content-Range") == (None if whole else f"bytes {start}-{end - 1}/{len(CONTENT)}")
    assert (found.headers["ETag"], found.headers["Accept-Ranges"]) == (TAG, "bytes")


@pytest.mark.parametrize("wanted", ["bytes=2560-", "bytes=2560-2570", "bytes=99999999999999999999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(get: Get, wanted: str) -> None:
    refused = get(range=wanted)
    assert refused.status_code == 416
    assert refused.headers["Content-Range"] == "bytes */2560"
    assert refused.json()["message"].startswith("The file has 2,560 bytes, and the range begins after them.")


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,3-4", "bytes=5-4", "bytes=-", "bytes=a-b", "bytes 0-1", "lines=0-1", "bytes=", "bytes=" + "9" * 5_000],
)
def test_several_ranges_and_malformed_ones_get_the_whole_content(get: Get, wanted: str) -> None:
    found = get(range=wanted)
    assert (found.status_code, found.getvalue()) == (200, CONTENT)
    assert "Content-Range" not in found.headers


@pytest.mark.parametrize(
    ("version", "status"),
    [(TAG, 206), (f"W/{TAG}", 200), ('"another"', 200), ("Sun, 29 Nov 2026 09:00:00 GMT", 200)],
)
def test_a_range_of_another_version_gets_the_whole_content(get: Get, version: str, status: int) -> None:
    assert get(range="bytes=0-9", if_range=version).status_code == status


def test_a_client_that_has_the_content_gets_it_no_more(get: Get) -> None:
    known = get(if_none_match=TAG)
    assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", TAG)
    assert get(if_none_match='"another"').status_code == 200
    assert get(if_match='"another"').status_code == 412
    assert get(if_match=TAG, range="bytes=0-9").status_code == 206
    assert get(if_none_match="malformed").status_code == 400


def test_head_has_the_headers_without_the_content(get: Get) -> None:
    head, found = get("HEAD", range="bytes=0-9"), get()
    assert (head.status_code, head.content) == (200, b"")
    names = ("Content-Type", "Content-Length", "Content-Disposition", "ETag", "Content-Security-Policy")
    assert {name: head.headers[name] for name in names} == {name: found.headers[name] for name in names}


def test_ranges_cross_the_borders_of_pieces(reader: Caller, drift: Drift) -> None:
    content = hashlib.sha256(b"").digest() * ((READ_AT_ONCE + 2) * CHUNK_BYTES // 32) + b"end"
    file = stored_file(drift, content)
    piece = READ_AT_ONCE * CHUNK_BYTES
    for start, end in ((0, len(content)), (piece - 1, piece + 1), (CHUNK_BYTES, 3 * CHUNK_BYTES), (5, piece + 5)):
        pieces = [*contents.pieces_of(file.pk.hex, start, end)]
        assert b"".join(pieces) == content[start:end]
        assert max(map(len, pieces)) <= piece


def test_a_content_that_is_deleted_meanwhile_is_not_taken_for_a_shorter_one(get: Get, drift: Drift) -> None:
    file = stored_file(drift, b"x" * (READ_AT_ONCE + 2) * CHUNK_BYTES, "large.txt")
    pieces = contents.pieces_of(file.pk.hex, 0, file.size)
    next(pieces)
    chunks().delete_one({"files_id": file.pk.hex, "n": READ_AT_ONCE})
    with pytest.raises(contents.ContentMissing):
        next(pieces)


def test_a_file_without_its_content_is_not_found(reader: Caller, drift: Drift) -> None:
    file = stored_file(drift)
    path = f"/experiment/{drift.experiment_id}/drift/{drift.pk}/file/{file.pk}"
    delete_content(file.pk.hex)
    missing = reader.get(path)
    assert (missing.status_code, "may have been deleted" in missing.json()["message"]) == (404, True)
