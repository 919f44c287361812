"""Files on runs: uploads with their limits, types, lists, deletion and audit events."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from django.test.client import FakePayload
from gridfs import GridFSBucket
from prometheus_client import REGISTRY
from pymongo.errors import AutoReconnect, PyMongoError
from pytest_django import Settings

from audit.models import Action, Event
from core.mongodb.documents import collection_of, mongodb
from drifts.models import Drift
from experiments.models import Experiment
from files import uploads
from files.contents import CHUNK_BYTES, ContentWriter, chunks, files
from files.models import RunFile
from tests.caller import Caller
from tests.uploads import MULTIPART, PNG, form, part, upload

HTML = b"<!doctype html><script>document.title = 'drift'</script>"
Post = Callable[..., Any]


@pytest.fixture
def path(drift: Drift) -> str:
    return f"/experiment/{drift.experiment_id}/drift/{drift.pk}/file"


def is_empty() -> bool:
    """Return whether no file and no part of a content is stored."""
    return not any(each.count_documents({}) for each in (collection_of(RunFile), files(), chunks()))


def test_an_upload_is_stored_listed_downloaded_and_deleted(editor: Caller, reader: Caller, path: str) -> None:
    added = upload(editor, path, HTML)
    assert added.status_code == 201
    file = added.json()
    assert {name: file[name] for name in ("name", "content_type", "size", "sha256")} == {
        "name": "report.html",
        "content_type": "text/html",
        "size": len(HTML),
        "sha256": hashlib.sha256(HTML).hexdigest(),
    }
    assert f"/experiment/{file['experiment_id']}/drift/{file['drift_id']}/file" == path
    assert reader.get(path).json() == [file]
    found = reader.get(f"{path}/{file['id']}")
    assert (found.status_code, found.getvalue()) == (200, HTML)
    assert editor.delete(f"{path}/{file['id']}").status_code == 204
    assert is_empty()
    assert reader.get(path).json() == []
    for request in (reader.get, editor.delete):
        assert request(f"{path}/{file['id']}").status_code == 404


def test_a_content_is_in_gridfs_as_every_driver_reads_it(editor: Caller, path: str) -> None:
    content = bytes(range(256)) * 40_000
    file = upload(editor, path, content, "data.bin").json()
    stored = GridFSBucket(mongodb().database, "run_files").open_download_stream(file["id"].replace("-", ""))
    assert (stored.read(), stored.length, stored.filename) == (content, len(content), "data.bin")
    assert {len(chunk["data"]) for chunk in chunks().find()} == {CHUNK_BYTES, len(content) % CHUNK_BYTES}
    assert editor.get(f"{path}/{file['id']}").getvalue() == content


def test_a_download_is_never_shown_and_nothing_in_it_runs(editor: Caller, path: str) -> None:
    file = upload(editor, path, HTML).json()
    headers = editor.get(f"{path}/{file['id']}").headers
    assert headers["Content-Disposition"] == 'attachment; filename="report.html"'
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("plot.png", PNG, "image/png"),
        ("report.html", PNG + HTML, "image/png"),
        ("plot.png", HTML, "application/octet-stream"),
        ("plot.jpg", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("plot.gif", b"GIF89a..", "image/gif"),
        ("plot.webp", b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("song.wav", b"RIFF\x10\x00\x00\x00WAVEfmt ", "application/octet-stream"),
        ("report.pdf", b"%PDF-1.7", "application/pdf"),
        ("report.pdf", b"%PD", "application/octet-stream"),
        ("REPORT.HTM", HTML, "text/html"),
        ("data.csv", "a,b\n1,ä".encode(), "text/csv"),
        ("data.csv", "a,b\n1,ä".encode("latin-1"), "application/octet-stream"),
        ("data.csv", "a,ä".encode()[:-1], "application/octet-stream"),
        ("data.json", b'{"a": 1}', "application/json"),
        ("notes.txt", b"a\0b", "application/octet-stream"),
        ("notes.md", b"# Drift", "text/markdown"),
        ("plot.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "application/octet-stream"),
        ("model", b"\x80\x04", "application/octet-stream"),
    ],
)
def test_a_file_has_the_type_of_its_bytes_whatever_the_client_says(
    editor: Caller, path: str, name: str, content: bytes, media_type: str
) -> None:
    body = form(part(content, name, media_type="text/html"))
    assert editor.post(path, body, content_type=MULTIPART).json()["content_type"] == media_type


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("../../etc/passwd", "passwd"),
        (r"C:\\reports\\drift.html", "drift.html"),
        ("a\tb\x7fc\u202ed.html", "abcd.html"),
        ("  Bericht für Müller.html ", "Bericht für Müller.html"),
        ("a&quot;b;c.html", 'a"b;c.html'),
    ],
)
def test_a_name_loses_its_directories_and_control_characters(editor: Caller, path: str, sent: str, stored: str) -> None:
    file = upload(editor, path, name=sent).json()
    assert file["name"] == stored
    headers = editor.get(f"{path}/{file['id']}").headers
    named = headers["Content-Disposition"].removeprefix("attachment; ")
    plain = stored.replace("\\", r"\\").replace('"', r"\"")
    assert named == (f'filename="{plain}"' if stored.isascii() else f"filename*=utf-8''{quote(stored)}")


def test_newlines_in_a_name_reach_no_header(editor: Caller, path: str) -> None:
    name = "filename*=utf-8''..%2Fa%0D%0ASet-Cookie%3A%20b.html"
    body = form(part(HTML).replace(b'filename="report.html"', name.encode()))
    file = editor.post(path, body, content_type=MULTIPART).json()
    assert file["name"] == "aSet-Cookie: b.html"
    found = editor.get(f"{path}/{file['id']}")
    assert found.headers["Content-Disposition"] == 'attachment; filename="aSet-Cookie: b.html"'
    assert "Set-Cookie" not in found.headers


FIELD = part(b"value", None)
REFUSED: dict[str, tuple[int, str, bytes]] = {
    "no part": (422, "Send one file", form()),
    "another field": (422, "Send one file", form(part(HTML, field="report"))),
    "two files": (422, "Send one file", form(part(HTML), part(HTML, "second.html"))),
    "a field besides": (422, "Send one file", form(part(b"1", None, "note"), part(HTML))),
    "a field after it": (422, "Send one file", form(part(HTML), part(b"1", None, "note"))),
    "no name": (422, "Send one file", form(FIELD)),
    "an empty name": (422, "Send one file", form(part(HTML, ""))),
    "a blank name": (422, "Send one file", form(part(HTML, "  "))),
    "many files without a name": (422, "Send one file", form(*[part(b"", "/")] * 101)),
    "only dots": (422, "Send one file", form(part(HTML, "a/.."))),
    "a long name": (422, "at most 255 characters", form(part(HTML, "x" * 256))),
    "an empty file": (422, "The file is empty", form(part(b""))),
    "many fields": (422, "Send one file", form(*[part(b"", None, "x")] * 2_000)),
    "a long field": (422, "Send one file", form(part(b"x" * 100_000, None, "x"))),
    "many fields after the file": (422, "Send one file", form(part(HTML), *[part(b"", None, "x")] * 2_000)),
    "no end": (400, "malformed or incomplete", part(HTML)[:-2]),
    "no form": (422, "Send one file", b"nothing"),
    "a name whole and in parts": (
        400,
        "malformed or incomplete",
        form(part(HTML, "a").replace(b'filename="a"', b"filename*=utf-8''a; filename*0=a")),
    ),
    "an unknown charset": (422, "Send one file", form(part(HTML, "a").replace(b'name="a"', b"name*=x''%41"))),
    "wrong base64": (
        400,
        "malformed or incomplete",
        form(part(b"!!!!!", media_type="text/html\r\nContent-Transfer-Encoding: base64")),
    ),
}


@pytest.mark.parametrize(("status", "sentence", "body"), REFUSED.values(), ids=REFUSED)
def test_a_form_with_anything_but_one_file_is_refused(
    editor: Caller, path: str, status: int, sentence: str, body: bytes
) -> None:
    refused = editor.post(path, body, content_type=MULTIPART)
    assert refused.status_code == status
    assert sentence in refused.json()["message"]
    assert is_empty()
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("text/html", 415),
        ("multipart/mixed; boundary=b", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "b" * 300, 400),
    ],
)
def test_a_body_that_is_no_form_is_refused(editor: Caller, path: str, content_type: str, status: int) -> None:
    refused = editor.post(path, form(part(HTML)), content_type=content_type)
    assert refused.status_code == status
    assert "file" in refused.json()["message"]


def test_a_compressed_form_is_refused(editor: Caller, path: str) -> None:
    assert upload(editor, path, headers={"Content-Encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_form_is_taken_by_post_alone(editor: Caller, path: str, method: str) -> None:
    refused = editor.request(method, path, form(part(HTML)), content_type=MULTIPART)
    assert refused.status_code == 415


# Limits.


def test_a_file_over_the_limit_is_refused_unread(editor: Caller, path: str) -> None:
    # The payload fails the test if it is read: there is less of it than its length says.
    length = {"CONTENT_LENGTH": "2000000000", "wsgi.input": FakePayload(b"")}
    refused = editor.post(path, b"x", content_type=MULTIPART, **length)
    assert refused.status_code == 413
    assert refused.json()["message"] == "A file may have at most 25,000,000 bytes. Send a smaller one, or split it."


def test_the_limit_is_that_of_the_file_without_its_form(editor: Caller, path: str, settings: Settings) -> None:
    settings.MAX_FILE_BYTES = 1_000
    assert upload(editor, path, b"x" * 1_000).status_code == 201
    refused = upload(editor, path, b"x" * 1_001)
    assert (refused.status_code, "at most 1,000 bytes" in refused.json()["message"]) == (413, True)
    assert files().count_documents({}) == 1


def test_nobody_without_edit_access_has_a_body_read(
    reader: Caller, editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Any, size: int) -> bytes:
        raise AssertionError

    monkeypatch.setattr(uploads.Body, "read", read)
    assert upload(reader, path).status_code == 403
    assert upload(editor, path[:-40] + "0" * 35 + "/file").status_code == 404


def test_a_run_takes_so_many_files(editor: Caller, path: str, settings: Settings) -> None:
    settings.MAX_FILES = 2
    added = [upload(editor, path, HTML, f"{number}.html") for number in range(3)]
    assert [response.status_code for response in added] == [201, 201, 409]
    assert added[2].json()["message"] == "A run may have at most 2 files. Delete one first."
    assert files().count_documents({}) == 2
    # A client that did not get the response to the last upload repeats it.
    assert upload(editor, path, HTML, "1.html").json() == added[1].json()


def test_an_experiment_takes_so_many_bytes(
    editor: Caller, path: str, drift: Drift, experiment: Experiment, settings: Settings
) -> None:
    settings.MAX_FILES_BYTES = 1_000
    other = Drift.objects.create_in(experiment, job_status="Failed", model="forest")
    assert upload(editor, path, b"x" * 600).status_code == 201
    elsewhere = path.replace(str(drift.pk), str(other.pk))
    refused = upload(editor, elsewhere, b"x" * 401)
    assert refused.status_code == 409
    assert "at most 1,000 bytes together" in refused.json()["message"]
    assert upload(editor, elsewhere, b"x" * 400).status_code == 201
    assert files().count_documents({}) == 2


def test_uploads_at_once_exceed_no_limit(
    editor: Caller, path: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_FILES = 3
    link = RunFile.link

    def link_late(file: RunFile, identity: Any) -> None:
        # All requests have looked before the first one links.
        together.wait()
        link(file, identity)

    together = threading.Barrier(4, timeout=30)
    monkeypatch.setattr(RunFile, "link", link_late)

    def send(number: int) -> int:
        return int(upload(editor, path, HTML, f"{number}.html").status_code)

    with ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(send, range(4)))
    stored = RunFile.objects.count()
    assert stored <= 3
    assert found == [201] * stored + [409] * (4 - stored)
    assert files().count_documents({}) == stored


def test_a_service_with_too_many_uploads_asks_to_wait(editor: Caller, path: str) -> None:
    for _ in range(uploads.AT_ONCE):
        uploads.free.acquire()
    try:
        refused = upload(editor, path)
    finally:
        for _ in range(uploads.AT_ONCE):
            uploads.free.release()
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert upload(editor, path).status_code == 201


def test_an_upload_that_takes_too_long_is_refused(editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LONGEST_SECONDS", -1)
    refused = upload(editor, path)
    assert (refused.status_code, "did not arrive" in refused.json()["message"]) == (400, True)


# Repeated uploads.


def test_an_equal_file_is_not_added_twice(editor: Caller, path: str) -> None:
    first, again = (upload(editor, path, HTML) for _ in range(2))
    assert (again.status_code, again.json()) == (201, first.json())
    assert (RunFile.objects.count(), files().count_documents({}), chunks().count_documents({})) == (1, 1, 1)
    assert Event.objects.filter(action=Action.FILE_ADDED).count() == 1


def test_equal_uploads_at_once_add_one_file(editor: Caller, path: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: upload(editor, path, HTML).json(), range(4)))
    assert {file["id"] for file in found} == {str(RunFile.objects.get().pk)}
    assert (files().count_documents({}), chunks().count_documents({})) == (1, 1)


def test_another_content_or_name_is_another_file(editor: Caller, path: str) -> None:
    sent = [(HTML, "a.html"), (HTML + b" ", "a.html"), (HTML, "b.html")]
    added = [upload(editor, path, *each).json() for each in sent]
    assert [file["id"] for file in editor.get(path).json()] == [file["id"] for file in added]
    assert len({file["id"] for file in added}) == 3


# The run, its experiment, the audit trail and the metrics.


def test_the_files_of_a_deleted_run_or_experiment_are_gone_at_once(
    editor: Caller, manager: Caller, path: str, drift: Drift
) -> None:
    file = upload(editor, path).json()
    other = Drift.objects.create_in(drift.experiment, job_status="Failed", model="forest")
    elsewhere = path.replace(str(drift.pk), str(other.pk))
    assert editor.get(f"{elsewhere}/{file['id']}").status_code == 404
    kept = upload(editor, elsewhere).json()
    assert editor.delete(path.removesuffix("/file")).status_code == 204
    for gone in (editor.get(path), editor.get(f"{path}/{file['id']}"), editor.delete(f"{path}/{file['id']}")):
        assert gone.status_code == 404
    assert upload(editor, path).status_code == 404
    assert manager.delete(f"/experiment/{drift.experiment_id}").status_code == 204
    assert editor.get(f"{elsewhere}/{kept['id']}").status_code == 404


def test_a_run_that_is_deleted_during_an_upload_gets_no_file(
    editor: Caller, path: str, drift: Drift, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = ContentWriter.close

    def close_late(content: Any, name: str) -> None:
        close(content, name)
        drift.delete()

    monkeypatch.setattr(ContentWriter, "close", close_late)
    assert upload(editor, path).status_code == 404
    assert is_empty()


def test_the_audit_trail_has_who_added_and_deleted_which_file(editor: Caller, path: str, drift: Drift) -> None:
    file = upload(editor, path, HTML).json()
    editor.delete(f"{path}/{file['id']}")
    deleted, added = Event.objects.all()
    assert [added.action, deleted.action] == [Action.FILE_ADDED, Action.FILE_DELETED]
    facts = {name: file[name] for name in ("name", "size", "sha256", "content_type", "drift_id")}
    assert (added.after, deleted.before) == (facts, facts)
    for event in (added, deleted):
        assert (str(event.target), event.actor.email) == ("file report.html", "editor@example.org")
        assert (event.target.object_id, event.experiment_id) == (file["id"], drift.experiment_id)


def test_a_failure_of_the_database_during_an_upload_leaves_no_file(
    editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, size: int) -> bytes:
        raise PyMongoError("the disk is full")

    monkeypatch.setattr(ContentWriter, "_store", fail)
    assert upload(editor, path).status_code == 500
    monkeypatch.undo()
    assert is_empty()


def test_a_content_stays_if_the_response_to_its_link_was_lost(
    editor: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = RunFile.link

    def link_and_lose_the_response(file: RunFile, identity: Any) -> None:
        link(file, identity)
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(RunFile, "link", link_and_lose_the_response)
    assert upload(editor, path, HTML).status_code == 503
    monkeypatch.undo()
    [file] = editor.get(path).json()
    assert editor.get(f"{path}/{file['id']}").getvalue() == HTML
    assert upload(editor, path, HTML).json() == file


def test_files_and_their_bytes_are_counted(editor: Caller, path: str) -> None:
    def counted() -> list[float]:
        labels: list[tuple[str, dict[str, str]]] = [("driftwatch_files_total", {})]
        labels += [("driftwatch_file_bytes_total", {"direction": name}) for name in ("uploaded", "downloaded")]
        return [REGISTRY.get_sample_value(*each) or 0 for each in labels]

    before = counted()
    file = upload(editor, path, b"x" * 1_000).json()
    upload(editor, path, b"x" * 1_000)
    editor.get(f"{path}/{file['id']}", headers={"Range": "bytes=0-9"}).getvalue()
    assert [after - start for after, start in zip(counted(), before, strict=True)] == [1, 1_000, 10]
