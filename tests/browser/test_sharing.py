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
    expect(eve.page.get_by_role("alert")).to_contain_text("This needs the level Read")

    ada.page.goto(address)
    ada.page.get_by_role("link", name="Permissions").click()
    ada.page.get_by_label("Add somebody").fill(eve.email)
    review_changes(ada.page)
    expect(ada.page.get_by_role("listitem")).to_contain_text(f"{eve.email}")
    expect(ada.page.get_by_role("listitem")).to_contain_text("no entry → Read")
    eve.page.reload()
    expect(eve.page.get_by_role("alert")).to_be_visible()
    assert not violations(ada.page)
    ada.page.get_by_role("button", name="Confirm").click()
    expect(ada.page.get_by_role("status")).to_have_text("The permissions are saved.")

    eve.page.reload()
    expect(eve.page.get_by_role("heading", level=1)).to_contain_text("wine")
    expect(eve.page.get_by_role("link", name="Permissions")).to_have_count(0)
    expect(eve.page.get_by_role("link", name="Edit")).to_have_count(0)

    ada.page.get_by_label(f"Level of {eve.email}").select_option("Remove")
    review_changes(ada.page)
    expect(ada.page.get_by_role("heading", name="Losses")).to_be_visible()
    ada.page.get_by_role("button", name="Confirm").click()
    expect(ada.page.get_by_label(f"Level of {eve.email}")).to_have_count(0)

    eve.page.reload()
    expect(eve.page.get_by_role("alert")).to_contain_text("This needs the level Read")


def review_changes(page: Page) -> None:
    page.get_by_role("form", name="Who has access").get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("What would change")


def test_a_user_makes_copies_uses_and_revokes_a_token(people: People, service: LiveServer) -> None:
    ada = people("ada")
    ada.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ada.page.get_by_role("link", name=ada.email).click()
    expect(ada.page.get_by_role("main")).to_contain_text(ada.email)
    ada.page.get_by_role("link", name="Tokens").click()
    name = unique("nightly")
    ada.page.get_by_label("What it is for").fill(name)
    ada.page.get_by_role("button", name="Make the token").click()
    ada.page.get_by_role("button", name="Copy the command").click()
    expect(ada.page.get_by_role("button", name="Copied")).to_be_visible()
    assert not violations(ada.page)
    command = ada.page.evaluate("navigator.clipboard.readText()")
    sent = re.fullmatch(r'curl -s (\S+) \\\n  -H "Authorization: (Bearer \S+)"', command)
    assert sent
    assert sent[1] == f"{service.url}/api/v1/user/self"

    def status() -> int:
        return requests.get(sent[1], headers={"Authorization": sent[2]}, timeout=30).status_code

    assert status() == 200
    ada.page.get_by_role("link", name="My tokens").click()
    expect(ada.page.get_by_role("main")).not_to_contain_text(sent[2].removeprefix("Bearer "))
    ada.page.get_by_role("row", name=name).locator("summary").click()
    ada.page.get_by_role("button", name=f"Revoke {name}").click()
    expect(ada.page.get_by_role("status")).to_contain_text("is revoked")
    assert status() == 401
