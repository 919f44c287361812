"""Runs in a real browser: followed while they are Running, found, compared, and shared by their address."""

import re
import subprocess
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import People, Person
from tests.live import LiveServer

# A page asks for updates after three seconds, and the machine may be busy.
FOLLOWED = 20_000
NEVER_LOADED_AGAIN = "window.isTheSameDocument"


def runs(person: Person, experiment: str, count: int) -> list[str]:
    """Create runs and return their ids, oldest first. Every third run found drift; the p-value of run n is n
    hundredths.
    """
    return [
        person.new_run(
            experiment,
            model=["forest", "boosting"][number % 2],
            drift_detected=number % 3 == 0,
            parameters={"p_value": number / 100, "window": {"size": number}},
        )
        for number in range(count)
    ]


def complete(person: Person, experiment: str, run: str, **changes: Any) -> None:
    person.call("PATCH", f"/experiment/{experiment}/drift/{run}", {"job_status": "Completed", **changes})


def remember_the_document(page: Page) -> None:
    page.evaluate(f"{NEVER_LOADED_AGAIN} = true")


def row(page: Page, run: str) -> Locator:
    return page.locator(f"#run-{run}")


def test_a_user_watches_a_run_complete_in_the_table_and_on_its_page(people: People) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    run, other = (ada.new_run(experiment, job_status="Running", model=model) for model in ("forest", "boosting"))
    requests: list[str] = []
    table, page = ada.page, ada.page.context.new_page()
    table.on("request", lambda request: requests.append(request.url))
    table.goto(f"/experiments/{experiment}")
    page.goto(f"/experiments/{experiment}/runs/{run}")
    for each in (table, page):
        remember_the_document(each)
        expect(row(each, run)).to_contain_text("Running")
    table.bring_to_front()
    row(table, run).get_by_role("checkbox").check()
    at = "2026-01-31T06:00:00Z"
    complete(ada, experiment, run, drift_detected=True, parameters={"p_value": 0.003}, observed_at=at)

    expect(row(table, run)).to_contain_text("Completed", timeout=FOLLOWED)
    expect(row(table, run)).to_contain_text("2026-01-31 06:00:00")
    expect(row(table, run)).to_contain_text("▲ Drift")
    expect(row(table, run).get_by_role("checkbox")).to_be_checked()
    expect(row(table, other)).to_contain_text("Running")
    expect(table.locator("#live")).to_have_text("forest: Completed.")

    page.bring_to_front()
    expect(row(page, run)).to_contain_text("Completed", timeout=FOLLOWED)
    expect(row(page, run)).to_contain_text("0.003")
    expect(page.get_by_role("heading", level=1)).to_have_text("Run of forest, 2026-01-31 06:00:00 UTC")
    expect(page.locator("#live")).to_have_text("forest: Completed.")
    for each in (table, page):
        assert each.evaluate(NEVER_LOADED_AGAIN)

    # One request asks for all runs that are Running, and for no others.
    polls = [url for url in requests if "/running?" in url]
    assert all(url.count("id=") == 2 for url in polls[:1])
    complete(ada, experiment, other, drift_detected=False)
    table.bring_to_front()
    expect(row(table, other)).to_contain_text("● No drift", timeout=FOLLOWED)
    expect(table.locator("[data-running]")).to_have_count(0)


def test_a_page_polls_less_often_without_changes_and_stops_once_no_run_is_running(
    people: People,
) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    run = ada.new_run(experiment, job_status="Running")
    page = ada.page
    page.clock.install(time="2026-01-01T00:00:00Z")
    responses: list[int] = []
    page.on("response", lambda response: responses.append(response.status) if "/running?" in response.url else None)
    page.goto(f"/experiments/{experiment}")
    # The test controls the clock from here on. The first request was due before.
    page.clock.pause_at("2026-01-01T01:00:00Z")
    seconds = 0
    while len(responses) < 5 and seconds < 1_000:
        page.clock.run_for(1_000)
        seconds += 1
    assert responses == [200, 304, 304, 304, 304]
    assert seconds >= 4.5 + 6.75 + 10 + 15
    complete(ada, experiment, run, drift_detected=False)
    while "Completed" not in row(page, run).inner_text() and seconds < 1_000:
        page.clock.run_for(1_000)
        seconds += 1
    count = len(responses)
    page.clock.run_for(120_000)
    expect(row(page, run)).to_contain_text("Completed")
    assert len(responses) == count


def test_a_user_finds_runs_selects_across_pages_and_shares_the_address(people: People) -> None:
    ada = people("ada")
    experiment = ada.new_experiment(public=True)
    made = runs(ada, experiment, 32)
    page = ada.page
    page.goto(f"/experiments/{experiment}")
    expect(page.locator("tbody tr")).to_have_count(25)

    # Filter by a parameter, and show its column.
    page.get_by_text("Filter", exact=True).click()
    added = page.get_by_role("group", name="Add filter")
    added.get_by_label("Field").fill("parameters.p_value")
    added.get_by_label("Comparison").select_option("less than")
    added.get_by_label("Value").fill("0.28")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("parameters.p_value").check()
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("heading", name="28 runs match")).to_be_visible()
    first = page.locator("fieldset").filter(has_text="Filter 1")
    expect(first.get_by_label("Field")).to_have_value("parameters.p_value")
    expect(first.get_by_label("Comparison")).to_have_value("lt")
    expect(first.get_by_label("Value")).to_have_value("0.28")
    expect(page).to_have_url(re.compile(r"\?path=parameters.p_value&op=lt&value=0.28&column=parameters.p_value&"))
    expect(row(page, made[27])).to_contain_text("0.27")

    # A condition without a value keeps its place before the others.
    shared = page.url
    page.goto(f"/experiments/{experiment}?where=parameters.p_value+exists&where=parameters.p_value+lt+0.05")
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("heading", name="5 runs match")).to_be_visible()
    expect(page.get_by_text("parameters.p_value is set")).to_be_visible()
    page.goto(shared)

    # Sort, select one run, open the next page, and select another.
    page.get_by_role("link", name="Model").click()
    expect(page.get_by_role("columnheader", name="Model")).to_have_attribute("aria-sort", "descending")
    expect(page.locator("tbody tr").first).to_contain_text("forest")
    row(page, made[26]).get_by_role("checkbox").check()
    expect(page.locator("#selection")).to_contain_text("1 selected")
    page.get_by_role("link", name=re.compile("^(Older|Next)$")).click()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("#selection")).to_contain_text("1 selected")
    row(page, made[1]).get_by_role("checkbox").check()
    page.get_by_role("link", name=re.compile("^(Newer|Previous)$")).click()
    expect(row(page, made[26]).get_by_role("checkbox")).to_be_checked()
    expect(page.locator("#selection")).to_contain_text("2 selected")

    # A second user opens the address and sees the same.
    guest = people("bob").page
    guest.goto(page.url)
    for selector in ("tbody", "#selection", "h2"):
        expect(guest.locator(selector)).to_have_text(page.locator(selector).inner_text(), use_inner_text=True)
    expect(row(guest, made[26]).get_by_role("checkbox")).to_be_checked()


def test_a_user_compares_runs_and_returns_to_the_table(people: People) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    made = runs(ada, experiment, 3)
    page = ada.page
    page.goto(f"/experiments/{experiment}?where=parameters.p_value+exists")
    for run in made[1:]:
        row(page, run).get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 runs")
    line = page.get_by_role("row", name="parameters.p_value")
    expect(line).to_contain_text("-0.01, -50.0 %")
    expect(page.get_by_role("rowheader", name="Status")).to_have_count(0)
    page.get_by_role("link", name="Show equal values").click()
    expect(page.get_by_role("row", name="Status")).to_contain_text("Completed")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert download.value.suggested_filename == "comparison.csv"
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.locator("#selection")).to_contain_text("2 selected")
    page.get_by_role("link", name="Clear selection").click()
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.get_by_role("heading", name="3 runs match")).to_be_visible()


def test_the_curl_command_of_a_private_run_is_copied_and_works_with_a_token(
    people: People, service: LiveServer
) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    run = ada.new_run(experiment)
    ada.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ada.page.goto(f"/experiments/{experiment}/runs/{run}")
    ada.page.get_by_role("button", name="Copy").first.click()
    command = ada.page.evaluate("navigator.clipboard.readText()")
    token = ada.call("POST", "/token", {"name": run})["token"]
    shell = ["bash", "-c", f"{command} --silent --fail"]
    response = subprocess.run(shell, env={"TOKEN": token, "PATH": "/usr/bin:/bin"}, check=True, capture_output=True)
    assert run in response.stdout.decode()


def test_an_editor_deletes_a_run(people: People) -> None:
    ada = people("ada")
    experiment = ada.new_experiment()
    run = ada.new_run(experiment, model="forest")
    page = ada.page
    page.goto(f"/experiments/{experiment}")
    row(page, run).get_by_role("link").click()
    page.get_by_role("link", name="Delete run").click()
    page.get_by_role("button", name="Delete run").click()
    expect(page.get_by_text("The run of “forest” was deleted.")).to_be_visible()
    expect(page.get_by_text("No runs yet")).to_be_visible()


def test_runs_are_found_selected_and_compared_without_scripts(people: People) -> None:
    ada = people("ada")
    experiment = ada.new_experiment(public=True)
    made = runs(ada, experiment, 30)
    context = ada.page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]
    page = context.new_page()
    page.goto(f"{ada.page.url.partition('/experiments')[0]}/experiments/{experiment}")
    page.get_by_role("link", name=re.compile("^(Older|Next)$")).click()
    row(page, made[4]).get_by_role("checkbox").check()
    page.get_by_role("button", name="Keep the selection").click()
    expect(page.locator("tbody tr")).to_have_count(5)
    expect(row(page, made[4]).get_by_role("checkbox")).to_be_checked()
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Model", exact=True).fill("boosting")
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("heading", name="15 runs match")).to_be_visible()
    expect(page.locator("#selection")).to_contain_text("1 selected")
    row(page, made[1]).get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 runs")
    context.close()


def test_texts_keep_their_line_breaks(people: People) -> None:
    ada = people("ada", "admins")
    text = "KeyError: 'alcohol'\n  line 3\n\nend"
    experiment = ada.new_experiment(description=text)
    first, second = (ada.new_run(experiment, parameters={"note": note}) for note in (text, "none"))
    pages = {
        "/experiments": ".description",
        f"/experiments/{experiment}": ".description",
        f"/experiments/{experiment}?column=parameters.note": f"#run-{first} td.text:has-text('KeyError')",
        f"/experiments/{experiment}/runs/{first}": "dl.tree dd",
        f"/experiments/{experiment}/compare?selected={first}&selected={second}": "td.text:has-text('KeyError')",
        f"/admin/drifts/drift/{first}/change/": "dl.tree dd",
    }
    for address, place in pages.items():
        ada.page.goto(address)
        assert ada.page.locator(place).first.inner_text() == text, address
