"""Files on the page of a run: the form, the page of a file, its content within a page, and its deletion."""

from typing import Any

import pytest
from django.test.client import FakePayload
from pytest_django import Settings

from drifts.models import Drift
from files.contents import files
from files.models import RunFile
from tests.caller import Caller, Client
from tests.session import through_session
from tests.test_runs_page import Shown
from tests.uploads import MULTIPART, PNG, form, part, stored_file, upload

HTML = b"<script>document.title = 'drift'</script>"


@pytest.fixture
def address(drift: Drift) -> str:
    return f"/experiments/{drift.experiment_id}/runs/{drift.pk}"


@pytest.fixture
def browser(editor: Caller, settings: Settings) -> Client:
    """The editor's browser, which checks tokens of forms as in production."""
    client = through_session(editor, settings).client
    client.handler.enforce_csrf_checks = True
    return client


def send(browser: Client, address: str, *parts: bytes, token: str | None = None, **options: Any) -> Any:
    """Send the form of the run's page with these parts, and with its token."""
    if token is None:
        shown = Shown(browser.get(address))
        (token,) = shown.all(f'form[action="{address}/files"] input[name=csrfmiddlewaretoken]', "value")
    body = form(part(token.encode(), None, "csrfmiddlewaretoken"), *parts)
    return browser.post(f"{address}/files", body, MULTIPART, follow=True, **options)


def test_an_editor_adds_a_file_by_the_form(browser: Client, address: str, drift: Drift) -> None:
    shown = Shown(send(browser, address, part(HTML, "report.html")))
    assert (shown.status, shown.texts(".notice")) == (200, ["“report.html” was added."])
    file = RunFile.objects.get()
    assert (file.name, file.drift_id, file.size) == ("report.html", drift.pk, len(HTML))
    assert shown.all("ul.files a", "href") == [f"{address}/files/{file.pk}", f"{address}/files/{file.pk}/delete"]
    assert "41 bytes" in shown.texts("ul.files")[0]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ((), "Send one file, with its name"),
        ((part(b""),), "The file is empty."),
        ((part(b"x" * 1_000_000),), "A file may have at most 1,000 bytes."),
        ((part(b"x" * 1_001),), "A file may have at most 1,000 bytes."),
        ((part(HTML), part(HTML, "b.html")), "Send one file, with its name"),
    ],
)
def test_a_refused_file_leads_back_to_the_run_with_the_reason(
    browser: Client, address: str, settings: Settings, parts: tuple[bytes, ...], sentence: str
) -> None:
    settings.MAX_FILE_BYTES = 1_000
    shown = Shown(send(browser, address, *parts))
    assert shown.status == 200
    assert shown.texts(".notice.error")[0].startswith(sentence)
    assert not files().count_documents({})


def test_a_run_without_room_says_so(browser: Client, address: str, settings: Settings) -> None:
    settings.MAX_FILES = 1
    send(browser, address, part(HTML))
    shown = Shown(send(browser, address, part(HTML, "b.html")))
    assert shown.texts(".notice.error") == ["A run may have at most 1 files. Delete one first."]


@pytest.mark.parametrize("token", ["", "x" * 64])
def test_a_form_without_its_token_adds_nothing(browser: Client, address: str, token: str) -> None:
    browser.get(address)
    shown = Shown(send(browser, address, part(HTML), token=token))
    assert (shown.status, shown.texts("h1")) == (403, ["This form has expired"])
    assert not RunFile.objects.exists()
    assert not files().count_documents({})


def test_a_form_of_another_site_adds_nothing(browser: Client, address: str) -> None:
    refused = send(browser, address, part(HTML), headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert not files().count_documents({})


def test_a_reader_is_refused_before_the_body_is_read(
    reader: Caller, anonymous: Caller, settings: Settings, address: str
) -> None:
    unreadable = {"CONTENT_LENGTH": "1000", "wsgi.input": FakePayload(b"")}
    client = through_session(reader, settings).client
    assert client.post(f"{address}/files", b"x", MULTIPART, **unreadable).status_code == 403
    refused = anonymous.client.post(f"{address}/files", b"x", MULTIPART, **unreadable)
    assert refused.headers["Location"].startswith("/login")
    assert not Shown(client.get(address)).tree.select('input[type="file"]')


def test_a_session_adds_no_file_by_the_api_without_its_header(browser: Client, address: str) -> None:
    (token,) = Shown(browser.get(address)).all(f'form[action="{address}/files"] [type=hidden]', "value")
    body = form(part(token.encode(), None, "csrfmiddlewaretoken"), part(HTML))
    path = "/api/v1" + address.replace("experiments", "experiment").replace("runs", "drift") + "/file"
    assert browser.post(path, body, MULTIPART).status_code == 403
    assert browser.post(path, form(part(HTML)), MULTIPART, headers={"X-CSRFToken": token}).status_code == 201


@pytest.fixture
def added(editor: Caller, drift: Drift, address: str) -> dict[str, str]:
    """The addresses of the pages of some files, by their names."""
    path = f"/experiment/{drift.experiment_id}/drift/{drift.pk}/file"
    sent = {"report.html": HTML, "plot.png": PNG + HTML, "plot.svg": b"<svg/>", "data.csv": b"a,b"}
    return {
        name: f"{address}/files/{upload(editor, path, content, name).json()['id']}" for name, content in sent.items()
    }


def test_a_report_is_framed_in_a_sandbox_without_the_origin(browser: Client, added: dict[str, str]) -> None:
    page = browser.get(added["report.html"])
    (frame,) = Shown(page).tree.select("iframe")
    assert (frame["sandbox"], frame["src"]) == (["allow-scripts"], f"{added['report.html']}/content")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    content = browser.get(str(frame["src"]))
    assert content.getvalue() == HTML
    policy = content.headers["Content-Security-Policy"]
    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    assert directives["sandbox"] == "allow-scripts"
    assert directives["default-src"] == "'none'"
    assert directives["frame-ancestors"] == "'self'"
    # No directive lets it reach an address.
    assert not {"connect-src", "frame-src", "child-src", "worker-src", "object-src"} & directives.keys()
    assert "'self'" not in policy.replace("frame-ancestors 'self'", "")
    assert "http" not in policy
    assert content.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert content.headers["Content-Disposition"].startswith("inline")
    assert content.headers["X-Content-Type-Options"] == "nosniff"


def test_a_report_that_is_opened_by_itself_is_shown_in_its_page(browser: Client, added: dict[str, str]) -> None:
    opened = browser.get(f"{added['report.html']}/content", headers={"Sec-Fetch-Dest": "document"})
    assert (opened.status_code, opened.headers["Location"]) == (302, added["report.html"])


def test_a_picture_is_shown_but_no_page_in_it(browser: Client, added: dict[str, str], address: str) -> None:
    shown = Shown(browser.get(added["plot.png"]))
    assert shown.all("img.content", "src") == [f"{added['plot.png']}/content"]
    content = browser.get(f"{added['plot.png']}/content").headers
    assert content["Content-Type"] == "image/png"
    assert content["Content-Disposition"] == 'inline; filename="plot.png"'
    assert content["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert content["X-Content-Type-Options"] == "nosniff"
    assert Shown(browser.get(address)).all("ul.files img", "src") == [f"{added['plot.png']}/content"]


@pytest.mark.parametrize("name", ["plot.svg", "data.csv"])
def test_other_files_are_only_downloaded(browser: Client, added: dict[str, str], name: str) -> None:
    shown = Shown(browser.get(added[name]))
    assert not shown.tree.select("iframe, img.content")
    assert "No preview for this type." in shown.text
    assert browser.get(f"{added[name]}/content").headers["Content-Disposition"].startswith("attachment")
    download = shown.link("Download")
    assert browser.get(download).headers["Content-Disposition"] == f'attachment; filename="{name}"'


def test_a_large_picture_is_no_preview(browser: Client, added: dict[str, str], address: str) -> None:
    RunFile.objects.filter(name="plot.png").update(size=5_000_001)
    assert not Shown(browser.get(address)).tree.select("ul.files img")
    assert Shown(browser.get(added["plot.png"])).tree.select("img.content")


def test_an_editor_deletes_a_file_after_confirmation(
    browser: Client, reader: Caller, settings: Settings, added: dict[str, str], address: str
) -> None:
    other = through_session(reader, settings).client
    assert "Delete" not in Shown(other.get(added["plot.png"])).text
    assert other.post(f"{added['plot.png']}/delete").status_code == 403
    confirmation = Shown(browser.get(Shown(browser.get(added["plot.png"])).link("Delete file")))
    assert confirmation.texts("h1") == ["Delete this file?"]
    (token,) = confirmation.all("main input[name=csrfmiddlewaretoken]", "value")
    shown = Shown(browser.post(f"{added['plot.png']}/delete", {"csrfmiddlewaretoken": token}, follow=True))
    assert shown.texts(".notice") == ["“plot.png” was deleted."]
    missing = Shown(browser.get(added["plot.png"]))
    assert (missing.status, missing.alert) == (404, "This file does not exist. It may have been deleted.")
    assert RunFile.objects.count() == 3


def test_who_deletes_a_run_is_told_of_its_files(browser: Client, address: str, drift: Drift) -> None:
    assert "This cannot be undone. The audit trail keeps a copy." in browser.get(f"{address}/delete").text
    stored_file(drift)
    shown = browser.get(f"{address}/delete").text
    assert "Deletes 1 file too." in shown
    assert "The audit trail keeps a copy of the run, but not of its files." in shown
