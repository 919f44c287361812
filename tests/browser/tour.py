"""The address of every page, each with enough data to fill it."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern
from playwright.sync_api import Page

from pages.urls import urlpatterns
from tests.browser.conftest import Person
from tests.crowd import unique
from tests.uploads import PNG

# The query of each page's address. A page without an example fails the test: choose what fills most of the page.
EXAMPLES = {
    "experiments": "?q=wine&tag=wine&sort=name",
    "experiment-new": "",
    "trash": "",
    "trash-delete": "",
    "experiment": "?where=p_value+lt+0.5&column=p_value&column=note&column=parameters.p_value&selected={drift_id}",
    "compare": "?selected={drift_id}&selected={other_id}&all=1",
    "run": "",
    "run-delete": "",
    "run-file": "",
    "run-file-delete": "",
    "experiment-edit": "",
    "experiment-delete": "",
    "permissions": "?entity=urn:group:watchers",
    "audit": "?since=2026-01-01",
    "chart": "?x=parameters.p_value&y=parameters.statistic&fit=1",
    "timeline": "?verdict=drift",
    "account": "",
    "tokens": "",
}
# Addresses that scripts fetch or that download a file. They are not pages.
OTHERS = {
    "running",
    "run-state",
    "run-file-content",
    "chart-svg",
    "chart-csv",
    "timeline-svg",
    "timeline-csv",
    "audit-csv",
}
LONG = "urn:example:group:" + "a-name-without-a-place-to-break-it" * 3


def routes() -> Iterator[tuple[str, str]]:
    """The name and the path of each page."""
    for pattern in urlpatterns:
        assert isinstance(pattern, URLPattern)
        if "get" in vars(pattern.callback)["actions"] and pattern.name not in OTHERS:
            yield str(pattern.name), "/" + str(pattern.pattern).replace("<str:", "{").replace(">", "}")


def addresses_for(ada: Person) -> list[str]:
    """The addresses of all pages, for an experiment of ada's that has some of everything."""
    permissions = [{"entity": LONG, "level": "Read"}, {"entity": "urn:group:watchers", "level": "Edit"}]
    experiment = ada.new_experiment(
        description="Of Portugal. " * 30,
        tags=["wine", "x" * 20],
        config={"a": {"b": [1]}},
        permissions=permissions,
        series_by=["model", "feature", "parameters.site"],
        field_map={"statistic": "parameters.statistic"},
    )
    runs = [run_of(number) for number in range(30)]
    ids = ada.call("POST", f"/experiment/{experiment}/drift/bulk", runs)["ids"]
    unsupported = ada.new_run(experiment)
    ada.call("POST", "/token", {"name": unique(LONG), "experiments": [experiment]})
    file = ada.add_file(experiment, ids[0], f"{LONG}.html", b"<h1>Drift</h1>")
    ada.add_file(experiment, ids[0], "plot.png", PNG)
    deleted = ada.new_experiment(name=unique(LONG))
    ada.call("DELETE", f"/experiment/{deleted}")
    known = {
        "experiment_id": experiment,
        "drift_id": ids[0],
        "other_id": ids[1],
        "file_id": file,
        "deleted_id": deleted,
    }
    pages = [(path + EXAMPLES[name]).format(**known) for name, path in routes()]
    return ["/", "/login", *pages, f"/experiments/{experiment}", f"/experiments/{experiment}/runs/{unsupported}"]


def run_of(number: int) -> dict[str, Any]:
    return {
        "job_status": ("Completed", "Completed", "Completed", "Failed", "Running")[number % 5],
        "model": f"forest-{number % 3}" if number else LONG,
        "model_version": "1.4",
        "detector": "Kolmogorov-Smirnov",
        "environment": "production",
        "drift_detected": number % 2 == 0,
        "observed_at": f"2026-01-{number + 1:02}T06:00:00Z",
        "window_start": "2025-12-01",
        "feature": LONG,
        "p_value": 0.01 * number,
        "sample_size": 1_000,
        "note": f"{LONG}\nand a second line",
        "parameters": {
            "p_value": 0.01 * number,
            "statistic": 0.4 - 0.01 * number,
            "note": LONG,
            "site": number % 2,
            "nested": {"list": [1, "two", None, {"x": True}]},
        },
        "tags": ["nightly", "x" * 20],
    }


def open_page(page: Page, address: str) -> None:
    response = page.goto(address)
    assert response
    assert response.ok, address
