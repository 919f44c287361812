"""A manager gives a colleague Read and removes it again, and makes a token for a pipeline."""

import re

import requests
from playwright.sync_api import Page, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import People
from tests.crowd import unique
from tests.live import LiveServer


def test_a_manager_gives_a_colleague_read_and_removes_it(people: People) -> None:
    eve, ada = people("eve"), people("ada")
    experiment = ada.new_experiment()
    address = f"/experiments/{experiment}"
    eve.page.goto(address)
    expect(eve.page.get_by_role("alert")).to_contain_text("You have no access to this experiment.")

    ada.page.goto(address)
    ada.page.get_by_role("link", name="Members").click()
    ada.page.get_by_label("Add a person or group").fill(eve.email)
    review_changes(ada.page)
    expect(ada.page.get_by_role("listitem")).to_contain_text(f"{eve.email}")
    expect(ada.page.get_by_role("listitem")).to_contain_text("No access → Read")
    eve.page.reload()
    expect(eve.page.get_by_role("alert")).to_be_visible()
    assert not violations(ada.page)
    ada.page.get_by_role("button", name="Save changes").click()
    expect(ada.page.get_by_role("status")).to_have_text("The members were saved.")

    eve.page.reload()
    expect(eve.page.get_by_role("heading", level=1)).to_contain_text("wine")
    expect(eve.page.get_by_role("link", name="Members")).to_have_count(0)
    expect(eve.page.get_by_role("link", name="Settings")).to_have_count(0)

    ada.page.get_by_label(f"Level of {eve.email}").select_option("Remove")
    review_changes(ada.page)
    expect(ada.page.get_by_role("heading", name="Less access")).to_be_visible()
    ada.page.get_by_role("button", name="Save changes").click()
    expect(ada.page.get_by_label(f"Level of {eve.email}")).to_have_count(0)

    eve.page.reload()
    expect(eve.page.get_by_role("alert")).to_contain_text("You have no access to this experiment.")


def review_changes(page: Page) -> None:
    page.get_by_role("form", name="Members").get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Review changes")


def test_a_user_makes_copies_uses_and_revokes_a_token(people: People, service: LiveServer) -> None:
    ada = people("ada")
    ada.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ada.page.get_by_role("link", name=ada.email).click()
    expect(ada.page.get_by_role("main")).to_contain_text(ada.email)
    ada.page.get_by_role("link", name="Access tokens").click()
    name = unique("nightly")
    ada.page.get_by_label("Name").fill(name)
    ada.page.get_by_role("button", name="Create access token").click()
    ada.page.get_by_role("button", name="Copy").last.click()
    expect(ada.page.get_by_role("button", name="Copied")).to_be_visible()
    assert not violations(ada.page)
    command = ada.page.evaluate("navigator.clipboard.readText()")
    sent = re.fullmatch(r'curl -s (\S+) \\\n  -H "Authorization: (Bearer \S+)"', command)
    assert sent
    assert sent[1] == f"{service.url}/api/v1/user/self"

    def status() -> int:
        return requests.get(sent[1], headers={"Authorization": sent[2]}, timeout=30).status_code

    assert status() == 200
    ada.page.get_by_role("link", name="Access tokens").click()
    expect(ada.page.get_by_role("main")).not_to_contain_text(sent[2].removeprefix("Bearer "))
    ada.page.get_by_role("row", name=name).locator("summary").click()
    ada.page.get_by_role("button", name=f"Revoke {name}").click()
    expect(ada.page.get_by_role("status")).to_contain_text("revoked")
    assert status() == 401
