"""Links and forms of every page: each user sees exactly those that they may use."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup
from django.urls import Resolver404, resolve
from pytest_django import Settings

from drifts.models import Drift
from experiments.models import Experiment
from pages.page import Page
from pages.urls import urlpatterns
from tests.caller import Caller, Client
from tests.conftest import RUN
from tests.session import through_session
from tests.test_page_access import ADMITTED, deleted_by, token_of
from tests.uploads import stored_file

# The method, and the name of the address.
Control = tuple[str, str]
# Only an archived experiment can be restored, and only another one archived.
AT_ANOTHER_TIME = {("post", "experiment-restore")}
BROWSER = {"Accept": "text/html"}
FORM = "application/x-www-form-urlencoded"


class Visitor:
    """A user who follows every link of the pages, and then sends every form found."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.met: set[Control] = set()
        self.refused: list[str] = []
        self.forms: set[str] = set()
        self.visited: set[str] = set()

    def visit(self, address: str) -> None:
        path = urlsplit(address).path
        if path in self.visited:
            return
        self.visited.add(path)
        response = self.client.get(address, headers=BROWSER)
        response.close()
        self.note("get", path, response)
        is_page = "text/html" in response.headers["Content-Type"] and not response.streaming
        if not is_page or not name_of(path):
            return
        page = BeautifulSoup(response.content, "html.parser")
        self.forms |= {target for method, target in forms_of(page, path) if method == "post"}
        for target in [*links_of(page), *(target for method, target in forms_of(page, path) if method == "get")]:
            self.visit(target)

    def send_forms(self) -> None:
        """Send destructive forms last, and the logout form never."""
        for path in sorted(self.forms - {"/logout"}, key=lambda path: (path.endswith("delete"), -len(path), path)):
            self.note("post", path, self.client.post(path, content_type=FORM))

    def note(self, method: str, path: str, response: Any) -> None:
        self.met.add((method, name_of(path)))
        to_login = response.headers.get("Location", "").startswith("/login")
        if response.status_code in (401, 403, 404, 405, 500) or to_login:
            self.refused.append(f"{method} {path}: {response.status_code}")


def links_of(page: BeautifulSoup) -> Iterator[str]:
    """Addresses of this site, including those of pictures and frames, and those that scripts fetch."""
    for element in page.find_all(True):
        for attribute, value in element.attrs.items():
            is_address = attribute in ("href", "src") or attribute.startswith("data-")
            if is_address and str(value).startswith("/"):
                yield str(value)


def forms_of(page: BeautifulSoup, path: str) -> Iterator[tuple[str, str]]:
    for form in page.find_all("form"):
        yield str(form.get("method", "get")).lower(), str(form.get("action") or path)
    for button in page.find_all("button", formaction=True):
        yield str(button.get("formmethod", "get")).lower(), str(button["formaction"])


def name_of(path: str) -> str:
    """The name of a page's address; "" for an address that is not a page."""
    try:
        return str(resolve(path).url_name) if resolve(path).func in {each.callback for each in urlpatterns} else ""
    except Resolver404:
        return ""


def controls_of(role: str, is_public: bool) -> set[Control]:
    """The controls that the pages declare for the role, if it may read the experiment."""
    allowed = set()
    for pattern in urlpatterns:
        callback = vars(pattern.callback)
        view: type[Page] = callback["cls"]
        for method, action in callback["actions"].items():
            if method != "head" and role in ADMITTED[view.required_levels[action]][is_public].split():
                allowed.add((method, str(pattern.name)))
    return allowed - AT_ANOTHER_TIME


@pytest.mark.parametrize("visibility", ["private", "public"])
@pytest.mark.parametrize("role", "anonymous stranger reader watcher editor manager admin".split())
def test_pages_offer_exactly_the_controls_that_the_user_may_use(
    request: pytest.FixtureRequest, settings: Settings, drift: Drift, role: str, visibility: str
) -> None:
    Experiment.objects.update(public=visibility == "public")
    Drift.objects.create(experiment_id=drift.experiment_id, **{**RUN, "job_status": "Running"})
    stored_file(drift)
    manager = request.getfixturevalue("manager")
    restored, removed = deleted_by(manager), deleted_by(manager)
    caller: Caller = request.getfixturevalue(role)
    token_of(caller)
    visitor = Visitor(caller.client if role == "anonymous" else through_session(caller, settings).client)
    visitor.visit("/experiments")
    # One experiment in the trash is restored, and the other one removed for good.
    visitor.forms -= {f"/experiments/trash/{restored}/delete", f"/experiments/trash/{removed}/restore"}
    visitor.send_forms()
    assert visitor.refused == []
    assert sorted(controls_of(role, visibility == "public") - visitor.met) == []
