"""Access to pages: every role gets and changes only what the page's `required_levels` allow."""

import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern
from pytest_django import Settings

from accounts.models import ServiceToken, User
from core.identity import Level, Requirement
from drifts.models import Drift
from experiments.models import Experiment, Permission
from pages.page import Page
from pages.urls import urlpatterns
from tests.caller import FORM, Caller
from tests.documents import Documents
from tests.session import through_session
from tests.uploads import stored_file

# The newcomer has no session, because the first login registers.
ROLES = "anonymous outsider stranger reader watcher editor manager admin".split()
# The roles that each requirement admits, for a private experiment and for a public one.
ADMITTED: dict[Requirement | Level, tuple[str, str]] = {
    Requirement.ANYONE: (" ".join(ROLES), " ".join(ROLES)),
    Requirement.REGISTERED: ("stranger reader watcher editor manager admin",) * 2,
    Requirement.NO_SERVICE_TOKEN: ("stranger reader watcher editor manager admin",) * 2,
    Requirement.MAY_CREATE: ("stranger reader watcher editor manager admin",) * 2,
    Requirement.ADMIN: ("admin",) * 2,
    Level.READ: ("reader watcher editor manager admin", " ".join(ROLES)),
    Level.EDIT: ("editor manager admin",) * 2,
    Level.MANAGE: ("manager admin",) * 2,
}


def pages() -> Iterator[tuple[str, str, Requirement | Level]]:
    """Every method of every page: its method, its path, and what it requires."""
    for pattern in urlpatterns:
        assert isinstance(pattern, URLPattern)
        view = vars(pattern.callback)["cls"]
        assert issubclass(view, Page)
        for method, action in vars(pattern.callback)["actions"].items():
            yield method.upper(), str(pattern.pattern), view.required_levels[action]


PAGES = list(pages())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("visibility", ["private", "public"])
def test_a_page_admits_the_roles_that_its_requirement_admits(
    request: pytest.FixtureRequest,
    settings: Settings,
    drift: Drift,
    migrated_database: list[str],
    visibility: str,
    role: str,
) -> None:
    Experiment.objects.update(public=visibility == "public")
    caller: Caller = request.getfixturevalue(role)
    browser = caller.client if role == "anonymous" else through_session(caller, settings).client
    ids = {
        "experiment_id": drift.experiment_id,
        "drift_id": drift.pk,
        "token_id": token_of(caller),
        "file_id": stored_file(drift).pk,
        "deleted_id": deleted_by(request.getfixturevalue("manager")),
    }
    documents = Documents(migrated_database)
    expected, found = {}, {}
    for method, path, requirement in PAGES:
        admitted = role in ADMITTED[requirement][visibility == "public"].split()
        expected[method, path] = "admitted" if admitted else "sent to login" if role == "anonymous" else "refused"
        if expected[method, path] == "refused" and "deleted_id" in path and requirement is Level.MANAGE:
            # A deleted experiment exists only for its managers. Users who are not admitted learn that first.
            expected[method, path] = "refused" if role == "outsider" else "404 "
        address = path
        for name, pk in ids.items():
            address = address.replace(f"<str:{name}>", str(pk))
        response = browser.generic(method, f"/{address}", content_type=FORM)
        found[method, path] = outcome(response)
        documents.put_back()
    assert found == expected


def outcome(response: Any) -> str:
    """Return what became of a request for a page: `admitted`, `sent to login`, `refused`, or its odd status."""
    assert "no-store" in response.headers["Cache-Control"]
    location = response.headers.get("Location", "")
    if response.status_code == 302 and location.startswith("/login?next="):
        return "sent to login"
    if response.status_code == 403 and 'role="alert"' in response.content.decode():
        return "refused"
    is_odd = response.status_code in (403, 404, 405, 500) or "/login" in location
    return f"{response.status_code} {location}" if is_odd else "admitted"


def deleted_by(manager: Caller) -> uuid.UUID:
    """An experiment in the trash that was public, and that only the manager managed."""
    deleted = Experiment.objects.create(
        name="deleted", public=True, permissions=[Permission(entity=manager.id, level=Level.MANAGE)]
    )
    deleted.delete_by(None)
    return deleted.pk


def token_of(caller: Caller) -> uuid.UUID:
    """A service token that the caller made."""
    user = caller.user or User.objects.create(subject="somebody else")
    return ServiceToken.objects.issue(user, "nightly", datetime.timedelta(days=1)).pk
