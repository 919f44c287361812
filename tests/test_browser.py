"""The pages in a real browser, against the service as it runs in production and a real OpenID provider.

Needs Debian's `chromium`; where there is none, pytest's header says that these tests are left out.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.browser import CHROMIUM, FLAGS
from tests.live import LiveServer
from tests.test_published_client import OpenIDProvider

CLIENT_ID = "driftwatch-pages"


@pytest.fixture
def database() -> None:
    """The service has one of its own, and Django takes Playwright's loop for an asynchronous program."""


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenIDProvider]:
    provider = OpenIDProvider()
    try:
        provider.wait_until_ready()
        yield provider
    finally:
        provider.stop()


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, service: LiveServer) -> Iterator[BrowserContext]:
    """A browser without cookies. Whatever it complains of, such as the content security policy, fails the test."""
    context = chromium.new_context(base_url=service.url)
    complaints: list[str] = []

    def hear(said: ConsoleMessage) -> None:
        is_ours = said.location["url"].startswith(service.url)
        # The browser reports that a page was refused, which is what some tests are about.
        is_refusal = "status of 403" in said.text
        if said.type in ("error", "warning") and is_ours and not is_refusal:
            complaints.append(f"{said.location}: {said.text}")

    context.on("console", hear)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    context.close()
    assert not complaints


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def log_in(page: Page, openid: OpenIDProvider, person: str, *groups: str) -> None:
    """From the login page through the provider, and back."""
    openid.set_claims(person, email=f"{person}@example.org", email_verified=True, groups=list(groups))
    page.get_by_role("link", name="Log in with").click()
    page.locator("input[name=sub]").fill(person)
    page.locator("input[name=sub]").press("Enter")


def test_an_administrator_logs_in_and_uses_the_portal(page: Page, openid: OpenIDProvider) -> None:
    page.goto("/admin/")
    log_in(page, openid, "ada", "admins")
    expect(page).to_have_url(re.compile("/admin/$"))
    expect(page.locator("#user-tools")).to_contain_text("ada@example.org")
    page.goto("/admin/experiments/experiment/add/")
    page.get_by_label("Name").fill("wine quality")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")
    for address in ("accounts/user", "drifts/drift", "drifts/drift/add", "admin/logentry"):
        page.goto(f"/admin/{address}/")
        expect(page.locator("#user-tools")).to_be_visible()


def test_a_plain_user_is_turned_away_from_the_portal_and_logs_out(
    page: Page, openid: OpenIDProvider, service: LiveServer
) -> None:
    page.goto("/login")
    log_in(page, openid, "eve", "users")
    expect(page).to_have_url(f"{service.url}/")
    expect(page.get_by_text("Logged in as")).to_contain_text("eve@example.org")
    answer = page.goto("/admin/")
    assert answer
    assert answer.status == 403
    expect(page.get_by_role("alert")).to_contain_text("eve@example.org is not one")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(f"^{re.escape(openid.issuer)}/oauth2/end_session"))
    page.goto("/")
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


def test_who_is_not_admitted_reads_why(page: Page, openid: OpenIDProvider, service: LiveServer) -> None:
    page.goto("/login")
    log_in(page, openid, "guest", "guests")
    expect(page.get_by_role("heading")).to_have_text("You are not admitted")


def test_the_documentation_works_and_tries_calls_with_the_session(page: Page, openid: OpenIDProvider) -> None:
    page.goto("/login?next=/api/v1/docs")
    log_in(page, openid, "ada", "admins")
    operation = page.locator("#operations-user-user_search")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea").fill("{}")
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response .response-col_status")).to_contain_text("200")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_for_everybody_load_without_a_complaint(chromium: Browser, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for address in ("/", "/login", "/api/v1/docs", "/admin/"):
        page.goto(address)
        page.wait_for_load_state("networkidle")
