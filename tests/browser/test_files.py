"""Files in a real browser: added by the form, and hostile reports that reach nothing."""

import os
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Page, expect

from tests.browser.conftest import People, Person
from tests.live import LiveServer
from tests.uploads import PNG

# Each attempt writes what it got into the page of the report.
HOSTILE = """<!doctype html><meta charset="utf-8"><body><pre id="said"></pre><script>
const said = {};
const tell = (name, text) => { said[name] = text; document.getElementById("said").textContent = JSON.stringify(said); };
const attempt = async (name, what) => {
  try { tell(name, "got " + await what()); } catch (error) { tell(name, "refused"); }
};
(async () => {
  tell("origin", String(self.origin));
  await attempt("script", () => 1 + 1);
  await attempt("api", async () => (await fetch("SERVICE/api/v1/user/self", {credentials: "include"})).status);
  await attempt("request", () => new Promise((yes, no) => {
    const request = new XMLHttpRequest(); request.onload = () => yes(request.status); request.onerror = no;
    request.open("GET", "SERVICE/account"); request.withCredentials = true; request.send(); }));
  await attempt("outside", async () => (await fetch("OUTSIDE/?fetch", {mode: "no-cors"})).type);
  await attempt("cookie", () => document.cookie);
  await attempt("storage", () => localStorage.length);
  await attempt("parent", () => parent.document.title);
  await attempt("top", () => { top.location = "OUTSIDE/?top"; return "away"; });
  await attempt("window", () => { if (!open("OUTSIDE/?window")) throw 0; return "opened"; });
  await attempt("image", () => new Promise((yes, no) => {
    const image = new Image(); image.onload = yes; image.onerror = no; image.src = "OUTSIDE/?image"; }));
  await attempt("frame", () => new Promise((yes, no) => {
    addEventListener("securitypolicyviolation", no);
    const frame = document.createElement("iframe"); frame.onload = yes; frame.src = "SERVICE/account";
    document.body.append(frame); setTimeout(no, 1000); }));
  const form = document.createElement("form");
  form.method = "post"; form.action = "SERVICE/logout"; document.body.append(form);
  form.submit();
  tell("end", "reached");
})();
</script>"""


@pytest.fixture
def outside() -> Iterator[tuple[str, list[str]]]:
    """Another site, and the paths that it was asked for."""
    asked: list[str] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def opened(chromium: Browser, service: LiveServer) -> Iterator[Callable[[Person], Page]]:
    """Open a page with the session of a person. Errors on its console are refusals by the browser."""
    contexts: list[BrowserContext] = []

    def open_page(person: Person) -> Page:
        context = chromium.new_context(base_url=service.url, storage_state=person.page.context.storage_state())
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(
    people: People, opened: Callable[[Person], Page], tmp_path: Path
) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    page = opened(ada)
    page.goto(f"/experiments/{experiment}/runs/{ada.new_run(experiment)}")
    (large := tmp_path / "large.bin").touch()
    os.truncate(large, 25_000_001)
    (small := tmp_path / "small.txt").write_text("small")
    chosen = page.get_by_label("New file")
    chosen.set_input_files(large)
    page.get_by_role("button", name="Add file").click()
    assert "at most 25 MB" in str(chosen.evaluate("input => input.validationMessage"))
    chosen.set_input_files(small)
    page.get_by_role("button", name="Add file").click()
    expect(page.locator("ul.files")).to_contain_text("small.txt")


def with_report(ada: Person, content: bytes, name: str) -> str:
    """Add a file to a new run, and return the address of its page."""
    experiment = ada.new_experiment()
    run = ada.new_run(experiment)
    return f"/experiments/{experiment}/runs/{run}/files/{ada.add_file(experiment, run, name, content)}"


def test_a_hostile_report_runs_and_reaches_nothing(
    people: People, opened: Callable[[Person], Page], service: LiveServer, outside: tuple[str, list[str]]
) -> None:
    ada = people("ada")
    elsewhere, asked = outside
    report = HOSTILE.replace("SERVICE", service.url).replace("OUTSIDE", elsewhere)
    address = with_report(ada, report.encode(), "hostile.html")
    page = opened(ada)
    answered: list[str] = []
    page.on("response", lambda response: answered.append(response.url.removeprefix(service.url)))
    page.goto(address)
    said = page.frame_locator("iframe").locator("#said")
    expect(said).to_contain_text('"end":"reached"')
    assert said.inner_text() == (
        '{"origin":"null","script":"got 2","api":"refused","request":"refused","outside":"refused","cookie":"refused",'
        '"storage":"refused","parent":"refused","top":"refused","window":"refused","image":"refused",'
        '"frame":"refused","end":"reached"}'
    )
    assert page.url.endswith(address)
    assert not asked
    assert not [url for url in answered if url.startswith(("/api", "/account", "/logout"))]
    assert ada.call("GET", "/user/self")["email"] == "ada@example.org"


def test_a_report_leads_its_frame_nowhere(
    people: People, opened: Callable[[Person], Page], service: LiveServer, outside: tuple[str, list[str]]
) -> None:
    ada = people("ada")
    elsewhere, asked = outside
    for target in (elsewhere, f"{service.url}/account"):
        page = opened(ada)
        page.goto(with_report(ada, f"<p>x</p><script>location = '{target}'</script>".encode(), "away.html"))
        frame = frame_of(page)
        expect(page.locator("iframe")).to_be_visible()
        page.wait_for_timeout(300)
        assert "ada@example.org" not in frame.content()
    assert not asked


def test_a_report_opened_by_itself_is_shown_in_its_frame(people: People, opened: Callable[[Person], Page]) -> None:
    ada = people("ada")
    address = with_report(ada, b"<p id=own>Drift</p><script>own.textContent += ' ' + self.origin</script>", "r.html")
    page = opened(ada)
    page.goto(f"{address}/content")
    expect(page).to_have_url(re.compile(f"{address}$"))
    expect(page.frame_locator("iframe").locator("#own")).to_have_text("Drift null")


def test_a_picture_with_a_page_behind_it_runs_nothing(people: People, opened: Callable[[Person], Page]) -> None:
    ada = people("ada")
    address = with_report(ada, PNG + b"<script>document.title = 'ran'</script>", "plot.html")
    page = opened(ada)
    opened_alone = page.goto(f"{address}/content")
    assert opened_alone
    assert opened_alone.headers["content-type"] == "image/png"
    assert "ran" not in page.title()
    assert page.evaluate("document.contentType") == "image/png"


def test_an_editor_adds_looks_at_and_deletes_a_file(people: People, tmp_path: Path) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    run = ada.new_run(experiment)
    page = ada.page
    page.goto(f"/experiments/{experiment}/runs/{run}")
    (tmp_path / "Bericht für März.html").write_text("<h1>Drift in March</h1>")
    page.get_by_label("New file").set_input_files(tmp_path / "Bericht für März.html")
    page.get_by_role("button", name="Add file").click()
    expect(page.get_by_role("status").first).to_have_text("“Bericht für März.html” was added.")
    page.get_by_role("link", name="Bericht für März.html", exact=True).click()
    expect(page.frame_locator("iframe").get_by_role("heading")).to_have_text("Drift in March")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "Bericht für März.html"
    page.get_by_role("link", name="Delete file").click()
    page.get_by_role("button", name="Delete file").click()
    expect(page.get_by_role("status").first).to_have_text("“Bericht für März.html” was deleted.")


def test_the_form_works_without_javascript(
    people: People, chromium: Browser, service: LiveServer, tmp_path: Path
) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    run = ada.new_run(experiment)
    state = ada.page.context.storage_state()
    context = chromium.new_context(base_url=service.url, storage_state=state, java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"/experiments/{experiment}/runs/{run}")
        (tmp_path / "a.csv").write_text("a,b")
        page.get_by_label("New file").set_input_files(tmp_path / "a.csv")
        page.get_by_role("button", name="Add file").click()
        expect(page.get_by_text("“a.csv” was added.")).to_be_visible()
    finally:
        context.close()


def frame_of(page: Page) -> Frame:
    [frame] = page.main_frame.child_frames
    return frame
