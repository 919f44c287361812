"""Permissions: every role at every endpoint, for private and for public experiments."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.contrib.admin import site as admin_site
from django.urls import URLPattern, reverse
from pytest_django import Settings

from accounts.models import ServiceToken
from accounts.models.service_token import delegable
from accounts.tokens import access_token
from core.api.resource import Resource
from core.identity import Level, Requirement
from drifts.models import Drift
from driftwatch.api_urls import urlpatterns
from experiments.models import Experiment
from experiments.views import ExperimentView
from tests.caller import Caller
from tests.conftest import RUN
from tests.documents import Documents
from tests.provider import Provider
from tests.session import through_session
from tests.uploads import MULTIPART, form, part, stored_file

# The status that each role gets. `public` differs from `private` where a public experiment is open to more roles.
# The run is Completed, so a heartbeat that a role may send is a 409.
ROLES = "         anonymous newcomer outsider stranger reader watcher editor manager admin".split()
TABLE = """
experiment create           private 401 403 403 201 201 201 201 201 201
experiment search           private 200 200 200 200 200 200 200 200 200
experiment retrieve         private 403 403 403 403 200 200 200 200 200
experiment retrieve         public  200 200 200 200 200 200 200 200 200
experiment update           private 401 403 403 403 403 403 403 200 200
experiment update           public  401 403 403 403 403 403 403 200 200
experiment partial_update   private 401 403 403 403 403 403 403 200 200
experiment partial_update   public  401 403 403 403 403 403 403 200 200
experiment destroy          private 401 403 403 403 403 403 403 204 204
experiment destroy          public  401 403 403 403 403 403 403 204 204
experiment archive          private 401 403 403 403 403 403 403 200 200
experiment archive          public  401 403 403 403 403 403 403 200 200
experiment restore          private 401 403 403 403 403 403 403 200 200
experiment restore          public  401 403 403 403 403 403 403 200 200
trash      search           private 401 403 403 200 200 200 200 200 200
drift      create           private 401 403 403 403 403 403 201 201 201
drift      create           public  401 403 403 403 403 403 201 201 201
drift      bulk             private 401 403 403 403 403 403 201 201 201
drift      bulk             public  401 403 403 403 403 403 201 201 201
drift      search           private 403 403 403 403 200 200 200 200 200
drift      search           public  200 200 200 200 200 200 200 200 200
drift      retrieve         private 403 403 403 403 200 200 200 200 200
drift      retrieve         public  200 200 200 200 200 200 200 200 200
drift      update           private 401 403 403 403 403 403 200 200 200
drift      update           public  401 403 403 403 403 403 200 200 200
drift      partial_update   private 401 403 403 403 403 403 200 200 200
drift      partial_update   public  401 403 403 403 403 403 200 200 200
drift      destroy          private 401 403 403 403 403 403 204 204 204
drift      destroy          public  401 403 403 403 403 403 204 204 204
drift      stats            private 403 403 403 403 200 200 200 200 200
drift      stats            public  200 200 200 200 200 200 200 200 200
drift      export           private 403 403 403 403 200 200 200 200 200
drift      export           public  200 200 200 200 200 200 200 200 200
drift      heartbeat        private 401 403 403 403 403 403 409 409 409
drift      heartbeat        public  401 403 403 403 403 403 409 409 409
file       create           private 401 403 403 403 403 403 201 201 201
file       create           public  401 403 403 403 403 403 201 201 201
file       list             private 403 403 403 403 200 200 200 200 200
file       list             public  200 200 200 200 200 200 200 200 200
file       retrieve         private 403 403 403 403 200 200 200 200 200
file       retrieve         public  200 200 200 200 200 200 200 200 200
file       destroy          private 401 403 403 403 403 403 204 204 204
file       destroy          public  401 403 403 403 403 403 204 204 204
series     search           private 403 403 403 403 200 200 200 200 200
series     search           public  200 200 200 200 200 200 200 200 200
visible_drift search        private 200 200 200 200 200 200 200 200 200
visible_drift stats         private 200 200 200 200 200 200 200 200 200
retention  retrieve         private 401 403 403 403 403 403 403 200 200
retention  retrieve         public  401 403 403 403 403 403 403 200 200
access     retrieve         private 403 403 403 403 200 200 200 200 200
access     retrieve         public  200 200 200 200 200 200 200 200 200
access     preview          private 401 403 403 403 403 403 403 200 200
access     preview          public  401 403 403 403 403 403 403 200 200
access     handover         private 401 403 403 403 403 403 403 200 200
access     handover         public  401 403 403 403 403 403 403 200 200
audit      search           private 401 403 403 403 403 403 403 403 200
audit      search           public  401 403 403 403 403 403 403 403 200
audit      export           private 401 403 403 403 403 403 403 403 200
audit      export           public  401 403 403 403 403 403 403 403 200
experiment_audit search     private 401 403 403 403 403 403 403 200 200
experiment_audit search     public  401 403 403 403 403 403 403 200 200
user       register         private 401 201 403 409 409 409 409 409 409
user       search           private 401 403 403 403 403 403 403 403 200
user       lookup           private 401 403 403 200 200 200 200 200 200
user       retrieve_self    private 401 403 403 200 200 200 200 200 200
user       update_self      private 401 403 403 200 200 200 200 200 200
entitlement retrieve        private 401 403 403 200 200 200 200 200 200
token      create           private 401 403 403 201 201 201 201 201 201
token      list             private 401 403 403 200 200 200 200 200 200
token      retrieve         private 401 403 403 404 404 404 404 200 404
token      destroy          private 401 403 403 404 404 404 404 204 404
token      refresh          private 401 401 401 401 401 401 401 401 401
"""
BODIES: dict[str, Any] = {
    "experiment create": {"name": "a name of its own"},
    "experiment search": {},
    "experiment update": {"name": "renamed"},
    "experiment partial_update": {"description": "changed"},
    "trash search": {},
    "drift create": RUN,
    "drift bulk": [RUN],
    "drift search": {},
    "drift update": RUN,
    "drift partial_update": {"tags": ["changed"]},
    "drift stats": {"group_by": "model"},
    "file create": form(part(b"<p>drift</p>")),
    "series search": {},
    "visible_drift search": {},
    "visible_drift stats": {"group_by": "model"},
    "access preview": {"public": True},
    "access handover": {"entity": "reader@example.org"},
    "audit search": {},
    "experiment_audit search": {},
    "user search": {},
    "user lookup": {"email": "reader@example.org"},
    "token create": {"name": "nightly"},
    "token refresh": {"refresh": "none"},
}


def endpoints() -> Iterator[tuple[str, str, str, type[Resource]]]:
    """Every method of every resource in the URLs: its method, path, action and view."""
    for pattern in urlpatterns:
        assert isinstance(pattern, URLPattern)
        view = getattr(pattern.callback, "cls", None)
        if view and issubclass(view, Resource):
            actions: dict[str, str] = vars(pattern.callback)["actions"]
            for method, action in actions.items():
                yield method.upper(), str(pattern.pattern), action, view


@pytest.fixture
def nightly(manager: Caller) -> ServiceToken:
    """A service token of the manager's."""
    assert manager.user
    return ServiceToken.objects.issue(manager.user, "of the manager", timedelta(days=1))


ENDPOINTS = list(endpoints())


class Row(NamedTuple):
    """An endpoint, for a private or a public experiment, and the status that each role gets."""

    resource: str
    action: str
    visibility: str
    method: str
    path: str
    statuses: dict[str, int]

    def __str__(self) -> str:
        return f"{self.method} {self.path}, {self.visibility}"


def rows() -> Iterator[Row]:
    """The table's rows. An action with two addresses has one for each."""
    for row in TABLE.strip().splitlines():
        resource, action, visibility, *statuses = row.split()
        for method, path, its_action, view in ENDPOINTS:
            if (view.resource, its_action) == (resource, action):
                by_role = dict(zip(ROLES, map(int, statuses), strict=True))
                yield Row(resource, action, visibility, method, path, by_role)


ROWS = list(rows())


def through_service_token(caller: Caller) -> Caller:
    """The same registered user, with a service token that is not narrowed."""
    assert caller.user
    caller.get("/user/self")
    caller.user.refresh_from_db()
    # Made as by `POST /token`, which would refuse the outsider.
    carried = sorted(delegable(caller.user.entitlements))
    token = ServiceToken.objects.issue(caller.user, "pipeline", timedelta(days=1), entitlements=carried)
    return Caller(access_token(token), caller.user)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_the_status_in_the_table(
    request: pytest.FixtureRequest, drift: Drift, nightly: ServiceToken, migrated_database: list[str], role: str
) -> None:
    caller = request.getfixturevalue(role)
    assert statuses(caller, drift, nightly, migrated_database) == {str(row): row.statuses[role] for row in ROWS}


@pytest.mark.parametrize("role", ROLES[2:])
def test_each_role_gets_the_same_status_with_a_service_token(
    request: pytest.FixtureRequest, drift: Drift, nightly: ServiceToken, migrated_database: list[str], role: str
) -> None:
    """But no administration, and no management of tokens."""
    caller = through_service_token(request.getfixturevalue(role))
    as_role = "stranger" if role == "admin" else role
    assert statuses(caller, drift, nightly, migrated_database) == {
        str(row): 403 if row.resource == "token" and row.action != "refresh" else row.statuses[as_role] for row in ROWS
    }


@pytest.mark.parametrize("role", ROLES[2:])
def test_each_role_gets_the_same_status_with_a_session(
    request: pytest.FixtureRequest,
    settings: Settings,
    drift: Drift,
    nightly: ServiceToken,
    migrated_database: list[str],
    role: str,
) -> None:
    caller = through_session(request.getfixturevalue(role), settings)
    assert statuses(caller, drift, nightly, migrated_database) == {str(row): row.statuses[role] for row in ROWS}


@pytest.mark.parametrize("role", ROLES[2:])
def test_only_administrators_enter_the_portal(
    request: pytest.FixtureRequest, settings: Settings, drift: Drift, role: str
) -> None:
    browser = through_session(request.getfixturevalue(role), settings).client
    for model in admin_site._registry:
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert browser.get(path).status_code == (200 if role == "admin" else 403)


@pytest.mark.parametrize("path", ["/", "/login", "/api/v1/docs", "/api/v1/openapi.json", "/livez", "/readyz"])
def test_pages_without_private_data_are_open_to_everybody(
    anonymous: Caller, outsider: Caller, settings: Settings, path: str
) -> None:
    for browser in (anonymous.client, through_session(outsider, settings).client):
        assert browser.get(path, headers={"Accept": "text/html,*/*;q=0.8"}).status_code == 200


def test_the_portal_redirects_a_visitor_to_the_login(anonymous: Caller) -> None:
    for model in admin_site._registry:
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        page = anonymous.client.get(path, follow=True)
        assert page.redirect_chain[-1] == (f"/login?next={path}", 302)
        assert page.status_code == 200


def statuses(caller: Caller, drift: Drift, token: ServiceToken, collections: list[str]) -> dict[str, int]:
    """Return the status that the caller gets at each row. Each request finds the same data."""
    ids = {
        "<str:experiment_id>": str(drift.experiment_id),
        "<str:drift_id>": str(drift.id),
        "<str:token_id>": str(token.id),
        "<str:file_id>": str(stored_file(drift).pk),
    }
    found = {}
    documents = Documents(collections)
    for row in ROWS:
        Experiment.objects.update(public=row.visibility == "public")
        path = row.path
        for name, value in ids.items():
            path = path.replace(name, value)
        body = BODIES.get(f"{row.resource} {row.action}")
        options = {"content_type": MULTIPART} if isinstance(body, bytes) else {}
        response = caller.request(row.method, f"/{path}", body, **options)
        # An export holds its slot until it is read or closed.
        response.close()
        documents.put_back()
        found[str(row)] = response.status_code
        assert (response.status_code == 401) == ("WWW-Authenticate" in response.headers), str(row)
    return found


def test_the_table_has_a_row_for_every_endpoint() -> None:
    table = {tuple(row.split()[:2]) for row in TABLE.strip().splitlines()}
    assert table == {(view.resource, action) for _, _, action, view in ENDPOINTS}


@pytest.mark.parametrize(
    ("action", "view"), [pytest.param(action, view, id=f"{view.resource}-{action}") for *_, action, view in ENDPOINTS]
)
def test_every_endpoint_declares_its_required_level(action: str, view: type[Resource]) -> None:
    assert isinstance(view.required_levels[action], Requirement | Level)


def test_an_action_without_a_required_level_is_refused(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExperimentView, "required_levels", {})
    response = admin.post("/experiment/search", {})
    assert response.status_code == 403
    assert response.json()["message"] == "This service does not allow this action."


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("anonymous", {"public"}),
        ("newcomer", {"public"}),
        ("outsider", {"public"}),
        ("stranger", {"public"}),
        ("reader", {"public", "wine quality"}),
        ("watcher", {"public", "wine quality"}),
        ("editor", {"public", "wine quality"}),
        ("manager", {"public", "wine quality"}),
        ("admin", {"public", "wine quality", "nobody's"}),
    ],
)
def test_a_search_finds_only_what_the_caller_may_read(
    request: pytest.FixtureRequest, experiment: Experiment, role: str, names: set[str]
) -> None:
    Experiment.objects.create(name="public", public=True)
    Experiment.objects.create(name="nobody's")
    response = request.getfixturevalue(role).post("/experiment/search", {})
    assert {found["name"] for found in response.json()} == names
    assert json.loads(response.headers["X-Pagination"])["total"] == len(names)


@pytest.mark.parametrize(
    ("role", "sees"),
    [
        ("anonymous", False),
        ("newcomer", False),
        ("outsider", False),
        ("stranger", False),
        ("reader", True),
        ("watcher", True),
        ("manager", True),
        ("admin", True),
    ],
)
def test_permissions_are_shown_only_to_callers_who_hold_a_level_through_them(
    request: pytest.FixtureRequest, experiment: Experiment, role: str, sees: bool
) -> None:
    Experiment.objects.update(public=True)
    caller: Caller = request.getfixturevalue(role)
    one = caller.get(f"/experiment/{experiment.id}").json()
    (found,) = caller.post("/experiment/search", {}).json()
    assert bool(one["permissions"]) is bool(found["permissions"]) is sees


def test_an_entitlement_that_looks_like_a_user_id_gives_nothing(
    experiment: Experiment, manager: Caller, stranger: Caller, provider: Provider
) -> None:
    forged = Caller(provider.token("stranger", "users", manager.id))
    assert forged.get(f"/experiment/{experiment.id}").status_code == 403


def test_access_through_an_entitlement_ends_with_the_token_that_carried_it(
    experiment: Experiment, admin: Caller, provider: Provider
) -> None:
    demoted = Caller(provider.token("admin", "users"))
    assert admin.get(f"/experiment/{experiment.id}").status_code == 200
    assert demoted.get(f"/experiment/{experiment.id}").status_code == 403


def test_a_deactivated_user_is_refused(experiment: Experiment, manager: Caller) -> None:
    assert manager.user
    manager.user.is_active = False
    manager.user.save()
    response = manager.get(f"/experiment/{experiment.id}")
    assert response.status_code == 403
    assert "disabled" in response.json()["message"]


def test_a_refusal_says_what_the_caller_can_do(anonymous: Caller, stranger: Caller) -> None:
    refusals = [caller.post("/user/search", {}).json()["message"] for caller in (anonymous, stranger)]
    assert refusals == [
        "Only administrators can do this. Send your token: Authorization: Bearer <token>.",
        "Only administrators can do this. Ask an administrator.",
    ]


def test_an_unknown_experiment_is_not_found_by_an_authenticated_caller(anonymous: Caller, stranger: Caller) -> None:
    path = "/experiment/00000000-0000-4000-8000-000000000000"
    assert anonymous.get(path).status_code == 404
    assert anonymous.delete(path).status_code == 401
    assert stranger.delete(path).status_code == 404


def test_a_run_is_found_only_below_its_own_experiment(drift: Drift, manager: Caller) -> None:
    other = manager.post("/experiment", {"name": "another"}).json()
    assert manager.get(f"/experiment/{drift.experiment_id}/drift/{drift.id}").status_code == 200
    assert manager.get(f"/experiment/{other['id']}/drift/{drift.id}").status_code == 404
