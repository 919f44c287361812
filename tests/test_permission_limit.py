"""The most entries of a permission list, in the API, the pages and the portal."""

from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from pytest_django import Settings

from experiments.models import MAX_PERMISSIONS, Experiment, Permission
from tests.caller import Caller
from tests.session import through_session
from tests.test_bad_input import refusal

LIMIT = "At most 1,000 entries are allowed. Remove some."


def entries(number: int, *, start: int = 0) -> list[dict[str, str]]:
    return [{"entity": f"urn:group:{each}", "level": "Read"} for each in range(start, start + number)]


def size(experiment: Experiment) -> int:
    experiment.refresh_from_db()
    return len(experiment.permissions)


@pytest.fixture
def long_list(experiment: Experiment) -> Experiment:
    """An experiment whose list is from before the limit: 1,200 groups and the manager."""
    experiment.permissions += [Permission(**entry) for entry in entries(1_200 - len(experiment.permissions))]
    experiment.save()
    return experiment


@pytest.fixture
def browser(manager: Caller, settings: Settings) -> Client:
    return through_session(manager, settings).client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/experiment"),
        ("PUT", "/experiment/{}"),
        ("PATCH", "/experiment/{}"),
        ("POST", "/experiment/{}/access/preview"),
    ],
)
def test_a_longer_list_is_refused_before_its_entries(
    manager: Caller, experiment: Experiment, method: str, path: str
) -> None:
    """The entries are not validated: each is wrong, and no error names one."""
    body: dict[str, Any] = {"permissions": [{}] * (MAX_PERMISSIONS + 1)}
    if not path.endswith("preview"):
        body["name"] = "another"
    problem = refusal(422, manager.request(method, path.format(experiment.pk), body), method)
    assert problem["errors"]["json"] == {"permissions": [LIMIT]}


def test_the_largest_list_is_stored_and_can_be_sent_back(manager: Caller) -> None:
    """The entry that makes the caller a manager comes on top."""
    sent = {"name": "another", "permissions": entries(MAX_PERMISSIONS)}
    created = manager.post("/experiment", sent).json()
    assert len(created["permissions"]) == MAX_PERMISSIONS + 1
    assert manager.put(f"/experiment/{created['id']}", created).status_code == 200


def test_a_stored_list_from_before_the_limit_is_kept_and_shortened(manager: Caller, long_list: Experiment) -> None:
    path = f"/experiment/{long_list.pk}"
    read = manager.get(path).json()
    assert len(read["permissions"]) == 1_200
    assert manager.put(path, read).status_code == 200
    assert manager.patch(path, {"permissions": read["permissions"][:1_100]}).status_code == 200
    assert size(long_list) == 1_100
    problem = refusal(422, manager.patch(path, {"permissions": read["permissions"]}), "longer again")
    assert problem["errors"]["json"] == {"permissions": ["At most 1,100 entries are allowed. Remove some."]}


def test_the_page_of_members_has_the_limit(browser: Client, experiment: Experiment) -> None:
    address = f"/experiments/{experiment.pk}/permissions"
    version = experiment.version("permissions", "public")
    rows = entries(MAX_PERMISSIONS + 1)
    form = {"entity": [row["entity"] for row in rows], "level": [row["level"] for row in rows], "version": version}
    page = browser.post(address, urlencode(form, doseq=True), content_type="application/x-www-form-urlencoded")
    assert page.status_code == 422
    assert LIMIT in page.content.decode()
    assert "urn:group:7" not in page.content.decode()


def test_a_list_from_before_the_limit_can_be_shortened_in_the_portal(
    admin: Caller, settings: Settings, long_list: Experiment
) -> None:
    browser = through_session(admin, settings).client
    address = f"/admin/experiments/experiment/{long_list.pk}/change/"
    shown = browser.get(address).context["adminform"].form
    rows = shown["permissions"].formset
    assert rows.initial_form_count() == 1_200
    form = {row.add_prefix(name): row[name].value() for row in rows for name in ("entity", "level")}
    form |= {field.html_name: field.value() for field in rows.management_form}
    form |= {f"{row.prefix}-DELETE": "on" for row in rows.forms[100:1_200]}
    form |= {"name": long_list.name, "config": "{}", "_version": shown.version}
    form = {name: value for name, value in form.items() if value is not None}
    preview = browser.post(address, form)
    assert len(preview.context["preview"].losses) == 1_100
