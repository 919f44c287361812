"""Login and logout in a real browser, and the pages that need no login."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import log_in
from tests.live import LiveServer
from tests.test_published_client import OpenIDProvider


def test_an_administrator_logs_in_and_uses_the_portal(page: Page, openid: OpenIDProvider) -> None:
    page.goto("/admin/")
    log_in(page, openid, "ada", "admins")
    expect(page).to_have_url(re.compile("/admin/$"))
    expect(page.locator("#user-tools")).to_contain_text("ada@example.org")
    page.goto("/admin/experiments/experiment/add/")
    page.get_by_label("Name:").fill("wine quality")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")
    for address in ("accounts/user", "drifts/drift", "drifts/drift/add", "admin/logentry"):
        page.goto(f"/admin/{address}/")
        expect(page.locator("#user-tools")).to_be_visible()


def test_the_portal_refuses_an_ordinary_user_who_then_logs_out(
    page: Page, openid: OpenIDProvider, service: LiveServer
) -> None:
    page.goto("/login")
    log_in(page, openid, "eve", "users")
    expect(page).to_have_url(f"{service.url}/")
    expect(page.locator(".session")).to_contain_text("Logged in as eve@example.org")
    response = page.goto("/admin/")
    assert response
    assert response.status == 403
    expect(page.get_by_role("alert")).to_contain_text("eve@example.org is not staff")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(f"^{re.escape(openid.issuer)}/oauth2/end_session"))
    page.goto("/")
    expect(page.get_by_role("banner").get_by_role("link", name="Log in")).to_be_visible()


def test_a_user_who_is_not_admitted_reads_the_reason(page: Page, openid: OpenIDProvider, service: LiveServer) -> None:
    page.goto("/login")
    log_in(page, openid, "guest", "guests")
    expect(page.get_by_role("heading")).to_have_text("You do not have access yet")


def test_the_documentation_sends_requests_with_the_session(page: Page, openid: OpenIDProvider) -> None:
    page.goto("/login?next=/api/v1/docs")
    log_in(page, openid, "ada", "admins")
    operation = page.locator("#operations-user-user_search")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea").fill("{}")
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response .response-col_status")).to_contain_text("200")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_public_pages_load_without_an_error_in_the_browser(chromium: Browser, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for address in ("/", "/login", "/api/v1/docs", "/admin/"):
        page.goto(address)
        page.wait_for_load_state("networkidle")
