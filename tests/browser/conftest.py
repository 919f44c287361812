"""The pages in a real browser, against the service as in production and a real OpenID provider.

Debian's `chromium` is needed. Without it, pytest's header says that these tests are left out.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.browser import CHROMIUM, FLAGS
from tests.crowd import unique
from tests.live import LiveServer
from tests.test_published_client import OpenIDProvider

CLIENT_ID = "driftwatch-pages"


@pytest.fixture
def database() -> None:
    """Replace the database fixture: the service has its own database, and Django takes Playwright's event loop for
    asynchronous code.
    """


@pytest.fixture(scope="session")
def openid() -> Iterator[OpenIDProvider]:
    provider = OpenIDProvider()
    try:
        provider.wait_until_ready()
        yield provider
    finally:
        provider.stop()


@pytest.fixture(scope="session")
def service(openid: OpenIDProvider, testrun_uid: str, worker_id: str) -> Iterator[LiveServer]:
    server = LiveServer(
        MONGODB_NAME=f"browser_{testrun_uid[:8]}_{worker_id}",
        OIDC_RP_ISSUER=openid.issuer,
        OIDC_RP_CLIENT_ID=CLIENT_ID,
        OIDC_RP_CLIENT_SECRET="any",
        OIDC_RP_ENTITLEMENTS="groups",
        OIDC_USER_ENTITLEMENTS='["users"]',
        OIDC_ADMIN_ENTITLEMENTS='["admins"]',
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_context(chromium: Browser, service: LiveServer) -> Iterator[Callable[[], BrowserContext]]:
    """Make browser contexts without cookies. Any error that a browser reports, such as one of the content security
    policy, fails the test.
    """
    errors: list[str] = []

    def collect_error(said: ConsoleMessage) -> None:
        is_ours = said.location["url"].startswith(service.url)
        # The browser reports each refused page as an error. Some tests cause such refusals on purpose.
        is_refusal = "status of 403" in said.text
        # A page that is left while it asks for the state of running runs gives up the request. A service that does not
        # respond has other errors, such as ERR_CONNECTION_REFUSED.
        follows = any(part in said.location["url"] for part in ("/running?", "/state?"))
        is_given_up = follows and "net::ERR_FAILED" in said.text
        if said.type in ("error", "warning") and is_ours and not (is_refusal or is_given_up):
            errors.append(f"{said.location}: {said.text}")

    contexts: list[BrowserContext] = []

    def new() -> BrowserContext:
        context = chromium.new_context(base_url=service.url)
        context.on("console", collect_error)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def context(new_context: Callable[[], BrowserContext]) -> BrowserContext:
    return new_context()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def log_in(page: Page, openid: OpenIDProvider, person: str, *groups: str) -> None:
    """Log in through the provider, starting at the login page."""
    openid.set_claims(person, email=f"{person}@example.org", email_verified=True, groups=list(groups))
    page.get_by_role("link", name="Continue with").click()
    page.locator("input[name=sub]").fill(person)
    page.locator("input[name=sub]").press("Enter")


class Person:
    """A logged-in user with their own browser. Preparations of a test go through the API."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.email = f"{name}@example.org"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the API with the browser's session and return the body of the response."""
        cookies = {cookie["name"]: cookie["value"] for cookie in self.page.context.cookies()}
        headers = {"X-CSRFToken": cookies["csrftoken"]}
        response = self.page.request.fetch(f"/api/v1{path}", method=method, data=body, headers=headers)
        assert response.ok, response.text()
        return response.json() if response.body() else None

    def new_experiment(self, **fields: Any) -> str:
        """Create an experiment and return its id."""
        return str(self.call("POST", "/experiment", {"name": unique("wine"), **fields})["id"])

    def new_run(self, experiment: str, **fields: Any) -> str:
        """Create a run and return its id."""
        run = {"job_status": "Completed", "model": "forest", "drift_detected": False, **fields}
        return str(self.call("POST", f"/experiment/{experiment}/drift", run)["id"])

    def add_file(self, experiment: str, run: str, name: str, content: bytes) -> str:
        """Add a file to a run and return its id."""
        path = f"/api/v1/experiment/{experiment}/drift/{run}/file"
        cookies = {cookie["name"]: cookie["value"] for cookie in self.page.context.cookies()}
        form: Any = {"file": {"name": name, "mimeType": "text/plain", "buffer": content}}
        response = self.page.request.post(path, multipart=form, headers={"X-CSRFToken": cookies["csrftoken"]})
        assert response.ok, response.text()
        return str(response.json()["id"])


People = Callable[..., Person]


@pytest.fixture
def people(new_context: Callable[[], BrowserContext], openid: OpenIDProvider) -> People:
    """Log users in, each in their own browser: `people("ada", "admins")`; without groups, an ordinary user."""

    def logged_in(name: str, *groups: str) -> Person:
        page = new_context().new_page()
        page.goto("/login?next=/experiments")
        log_in(page, openid, name, *(groups or ("users",)))
        page.wait_for_url("**/experiments")
        return Person(page, name)

    return logged_in
