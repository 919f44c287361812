"""The life of an experiment in a browser."""

import re

from playwright.sync_api import expect

from tests.browser.accessibility import excess_width
from tests.browser.conftest import People
from tests.browser.test_accessibility import violations_in_light_and_dark
from tests.crowd import unique


def test_a_user_creates_finds_edits_archives_and_deletes_an_experiment(people: People) -> None:
    page = people("nora").page
    name = unique("rye")
    page.get_by_role("link", name="New experiment").first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Description").fill("Drift of the harvest")
    page.get_by_label("Tags").fill("nightly, eu")
    page.get_by_role("button", name="Create experiment").click()
    expect(page.get_by_text(f"“{name}” was created.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)

    # The search takes a part of the name in any case, and the address contains it.
    page.get_by_role("link", name="Experiments", exact=True).click()
    page.get_by_label("Filter by").fill(name.upper())
    page.get_by_label("Filter by").press("Enter")
    heights = [
        control.evaluate("control => control.offsetHeight") for control in page.locator("#q, #show, #sort").all()
    ]
    assert len(set(heights)) == 1, heights
    row = page.get_by_role("row", name=name)
    expect(row).to_contain_text("Drift of the harvest")
    expect(row).to_contain_text("No verdict yet")
    row.get_by_role("link", name="nightly").click()
    expect(page).to_have_url(re.compile(f"q={name.upper()}.*tag=nightly"))
    row.get_by_role("link", name=name).click()

    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Configuration").fill('{"window": 7}')
    page.get_by_label("Public").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(f"“{name}” was saved.")).to_be_visible()

    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_label("Public")).to_be_checked()
    page.get_by_role("button", name="Archive").click()
    expect(page.get_by_text(f"“{name}” was archived.")).to_be_visible()
    edit = page.url
    page.goto("/experiments?show=mine")
    expect(page.get_by_role("link", name=name)).to_have_count(0)
    page.get_by_label("Show").select_option(label="Archived")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("row", name=name)).to_contain_text("Archived")

    page.goto(edit)
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text(f"“{name}” was restored")).to_be_visible()
    page.get_by_role("link", name="Delete experiment").click()
    page.get_by_label("Type").fill(name)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text(f"“{name}” was deleted.")).to_be_visible()

    page.get_by_role("status").get_by_role("link", name="Trash").click()
    page.get_by_role("button", name=f"Restore {name}").click()
    expect(page.get_by_text(f"“{name}” was restored")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.get_by_role("link", name=name)).to_have_count(0)


def test_a_manager_sees_how_many_runs_a_shorter_retention_removes(people: People) -> None:
    nora = people("nora")
    page, experiment = nora.page, nora.new_experiment()
    for _ in range(2):
        nora.new_run(experiment, observed_at="2020-01-01")
    page.goto(f"/experiments/{experiment}/edit")
    page.get_by_text("Runs: series, fields, time-out, how long they are kept").click()
    page.get_by_label("Keep runs for (days)").fill("365")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Removes 2 runs from before")).to_be_visible()
    found = violations_in_light_and_dark(page)
    assert not found, "\n".join(found)
    assert excess_width(page) <= 0
    page.get_by_role("button", name="Keep editing").click()
    page.get_by_text("Runs: series, fields, time-out, how long they are kept").click()
    expect(page.get_by_label("Keep runs for (days)")).to_have_value("365")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_text("runs that are older than 365 days are removed, beginning in a day")).to_be_visible()
