"""The admin portal as staff use it."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import People


def test_an_administrator_follows_the_dashboard_to_a_run_and_exports_runs(people: People) -> None:
    ada = people("ada", "admins")
    experiment = ada.new_experiment()
    ada.new_run(experiment, model="forest", drift_detected=True, parameters={"test": {"p_value": 0.003}})
    ada.new_run(experiment, model="lstm")
    page = ada.page
    page.goto("/admin/")
    panel = page.get_by_role("region", name="Latest drift")
    panel.get_by_role("link", name="forest").first.click()
    expect(page.get_by_text("p_value")).to_be_visible()
    page.locator(".field-experiment_link").get_by_role("link").click()
    page.get_by_role("link", name="Show drift runs").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    page.get_by_label("Model", exact=True).fill("lstm")
    page.get_by_label("Model", exact=True).press("Enter")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.get_by_role("checkbox", name=re.compile("Select this object")).check()
    page.get_by_role("combobox", name="Action:").select_option(label="Export the selected runs as CSV")
    with page.expect_download() as download:
        page.get_by_role("button", name="Go", exact=True).click()
    assert "lstm" in download.value.path().read_text()


def test_an_administrator_reviews_the_changes_before_giving_a_colleague_a_level(people: People) -> None:
    people("grace")
    ada = people("ada", "admins")
    experiment = ada.new_experiment()
    page = ada.page
    page.goto(f"/admin/experiments/experiment/{experiment}/change/")
    page.get_by_label("Person or group 2").fill("grace@example.org")
    page.get_by_label("Level 2").select_option("Edit")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="More access")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="grace@example.org")).to_contain_text("No access → Edit")
    page.get_by_role("button", name="Keep editing").click()
    page.get_by_label("Level 2").select_option("Read")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("listitem").filter(has_text="grace@example.org")).to_contain_text("No access → Read")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was changed successfully")
    stored = ada.call("GET", f"/experiment/{experiment}")["permissions"]
    assert [entry["level"] for entry in stored] == ["Manage", "Read"]


def test_staff_choose_light_or_dark_and_find_only_their_own_experiments(people: People) -> None:
    ada, stan = people("ada", "admins"), people("stan")
    hidden = ada.new_experiment()
    shown = stan.new_experiment()
    [user] = ada.call("POST", "/user/search", {"email": stan.email})
    ada.page.goto(f"/admin/accounts/user/{user['id']}/change/")
    ada.page.get_by_label("Staff").check()
    ada.page.get_by_role("button", name="Save", exact=True).click()
    expect(ada.page.locator(".messagelist")).to_contain_text("was changed successfully")
    page = stan.page
    page.goto("/experiments")
    page.get_by_role("link", name="Admin").click()
    # The button works once the page is loaded.
    page.wait_for_url("**/admin/")
    page.get_by_role("button", name=re.compile("Toggle theme")).first.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    navigation = page.locator("#nav-sidebar")
    expect(navigation.get_by_role("link", name="Users")).to_have_count(0)
    navigation.get_by_role("link", name="Experiments", exact=True).last.click()
    expect(page.locator(f"#result_list a[href*='{shown}/change']")).to_be_visible()
    expect(page.locator(f"#result_list a[href*='{hidden}']")).to_have_count(0)
