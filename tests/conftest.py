"""The callers that send requests, and the experiment and run that they work with."""

import gc
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from pymongo import MongoClient
from pymongo.database import Database
from pytest_django import DjangoDbBlocker, Settings

from accounts.authentication import recent_identities, trusted_issuers
from accounts.models import User
from core.identity import Level
from core.mongodb.documents import mongodb
from core.totals import clear_totals
from drifts.models import Drift
from drifts.upgrades import places
from experiments.models import DeletedExperiment, Experiment, Permission
from tests.browser import CHROMIUM
from tests.caller import Caller
from tests.crowd import RemoteUser, unique
from tests.documents import filled_of
from tests.live import LiveServer
from tests.nginx import NGINX
from tests.node import NODE
from tests.prometheus import PROMETHEUS
from tests.provider import Provider
from tests.redis_server import REDIS
from tests.template_variables import watched

GROUP = "urn:example:group:watchers"


BROWSER_TESTS = "browser"
# The last files, the longest first: no process then has a long one left when the others have ended.
BROWSER_FILES = "accessibility runs login keyboard admin members charts experiments".split()

WRITTEN_BY_MIGRATIONS = {"django_migrations", "django_content_type", "auth_permission"}


# faketime sets the clock of one process.
LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

# The check for pipelines needs curl, and is also run in a shell as in the smallest images.
CURL, BUSYBOX = shutil.which("curl"), shutil.which("busybox")


def pytest_report_header() -> list[str]:
    left_out = {
        f"tests/{BROWSER_TESTS} is LEFT OUT: there is no chromium here (apt-get install chromium)": not CHROMIUM,
        "Setting the clock is LEFT OUT: there is no libfaketime here (apt-get install faketime)": not LIBFAKETIME,
        "The TypeScript client and the second OpenID provider are LEFT OUT: there is no Node.js with its tools here "
        "(apt-get install nodejs npm, then make test)": not NODE,
        "nginx in front of the service is LEFT OUT: there is no nginx here (apt-get install nginx-light)": not NGINX,
        "The check for pipelines is LEFT OUT, or run in fewer shells: there is no curl or no busybox here "
        "(apt-get install curl busybox)": not (CURL and BUSYBOX),
        "The alerts and the dashboard are LEFT OUT: there is no Prometheus with Alertmanager here "
        "(apt-get install prometheus prometheus-alertmanager)": not PROMETHEUS,
        "The cache in Redis is LEFT OUT: there is no Redis here (apt-get install redis-server)": not REDIS,
    }
    return [sentence for sentence, is_left_out in left_out.items() if is_left_out]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the browser tests last, and leave them out where there is no browser: `make test` installs none."""
    left_out = [] if CHROMIUM else [item for item in items if item.path.parent.name == BROWSER_TESTS]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    # Playwright's event loop keeps running in its process, and Django then takes later tests for asynchronous code.
    items.sort(key=place)


def place(item: pytest.Item) -> tuple[bool, bool, int]:
    """The place of a test in the order of all: those of a browser last, and among them by `BROWSER_FILES`."""
    name = item.path.stem.removeprefix("test_")
    is_of_browser = item.path.parent.name == BROWSER_TESTS
    is_ranked = is_of_browser and name in BROWSER_FILES
    return is_of_browser, not is_ranked, BROWSER_FILES.index(name) if is_ranked else 0


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores: tests wait for servers a quarter of their time."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish() -> None:
    """Collect garbage rarely: collections scan thousands of tests, and take a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(scope="session")
def migrated_database(django_db_blocker: DjangoDbBlocker, testrun_uid: str, worker_id: str) -> Iterator[list[str]]:
    """A database for this process alone, with every index, and the collections that each test finds empty.

    A collection that only a test creates stays as the test leaves it.
    """
    connection = mongodb()
    connection.settings_dict["TEST"]["NAME"] = f"test_{testrun_uid[:8]}_{worker_id}"
    with django_db_blocker.unblock():
        connection.creation.create_test_db(verbosity=0)
        names = {*connection.database.list_collection_names(), places().name}
    yield sorted(names - WRITTEN_BY_MIGRATIONS)
    with django_db_blocker.unblock():
        connection.creation.destroy_test_db("driftwatch", verbosity=0)


@pytest.fixture(autouse=True)
def database(migrated_database: list[str], django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A real MongoDB, empty at the start of each test."""
    recent_identities.clear()
    clear_totals()
    with django_db_blocker.unblock():
        yield
        for name in filled_of(migrated_database):
            mongodb().database[name].delete_many({})


@pytest.fixture(autouse=True)
def undefined_variables() -> Iterator[list[str]]:
    """The variables that templates of this repository used without a value. A test with one fails."""
    found: list[str] = []
    with watched(found):
        yield found
    assert not found, "Undefined template variables:\n" + "\n".join(sorted(set(found)))


@pytest.fixture(scope="session")
def provider_server() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture(autouse=True)
def provider(provider_server: Provider, settings: Settings) -> Iterator[Provider]:
    """The trusted OpenID provider. The service has cached nothing of it from the previous test."""
    settings.OIDC_ISSUERS = [
        {"issuer": provider_server.issuer, "audience": ["driftwatch"], "entitlements": "realm_access/roles"}
    ]
    trusted_issuers.cache_clear()
    provider_server.userinfo = {}
    provider_server.requests.clear()
    yield provider_server
    trusted_issuers.cache_clear()


@pytest.fixture(scope="session")
def live(provider_server: Provider, testrun_uid: str, worker_id: str) -> Iterator[LiveServer]:
    """The service behind gunicorn, on its own database. Every user of the provider is admitted."""
    server = LiveServer(
        MONGODB_NAME=f"live_{testrun_uid[:8]}_{worker_id}",
        OIDC_ISSUERS=json.dumps([{"issuer": provider_server.issuer, "audience": ["driftwatch"]}]),
        OIDC_USER_ENTITLEMENTS="[]",
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def remote_user(live: LiveServer, provider: Provider) -> RemoteUser:
    """A registered user of the service behind gunicorn."""
    remote_user = RemoteUser(live.api, provider.token(unique("someone")))
    assert remote_user.call("POST", "/user").status_code == 201
    return remote_user


@pytest.fixture
def stored(live: LiveServer) -> Iterator[Database[dict[str, Any]]]:
    """The database of the service behind gunicorn."""
    with MongoClient[dict[str, Any]](live.environment["MONGODB_URI"]) as client:
        yield client[live.environment["MONGODB_NAME"]]


def registered(provider: Provider, subject: str, *entitlements: str) -> Caller:
    user = User.objects.create(issuer=provider.issuer, subject=subject, email=f"{subject}@example.org")
    return Caller(provider.token(subject, *entitlements), user)


# The callers. All but `anonymous` hold a token of the provider; those from `stranger` to `admin` are registered.


@pytest.fixture
def anonymous() -> Caller:
    """A caller without a token."""
    return Caller()


@pytest.fixture
def newcomer(provider: Provider) -> Caller:
    """A caller who may register and has not done so yet."""
    return Caller(provider.token("newcomer", "users"))


@pytest.fixture
def outsider(provider: Provider) -> Caller:
    """A registered user whose token has lost the entitlement that admits users."""
    return registered(provider, "outsider", "guests")


@pytest.fixture
def stranger(provider: Provider) -> Caller:
    """A registered user without any permission."""
    return registered(provider, "stranger", "users")


@pytest.fixture
def reader(provider: Provider) -> Caller:
    return registered(provider, "reader", "users")


@pytest.fixture
def watcher(provider: Provider) -> Caller:
    """A user who reads through a group."""
    return registered(provider, "watcher", "users", GROUP)


@pytest.fixture
def editor(provider: Provider) -> Caller:
    return registered(provider, "editor", "users")


@pytest.fixture
def manager(provider: Provider) -> Caller:
    return registered(provider, "manager", "users")


@pytest.fixture
def admin(provider: Provider) -> Caller:
    return registered(provider, "admin", "admins")


@pytest.fixture
def everybody(request: pytest.FixtureRequest) -> dict[str, Caller]:
    names = "anonymous newcomer outsider stranger reader watcher editor manager admin".split()
    return {name: request.getfixturevalue(name) for name in names}


# The objects.


@pytest.fixture
def experiment(manager: Caller, editor: Caller, reader: Caller) -> Experiment:
    """A private experiment with a permission for the manager, the editor, the reader and the watchers' group."""
    return Experiment.objects.create(name="wine quality", permissions=permissions_of(manager, editor, reader))


@pytest.fixture
def public(experiment: Experiment) -> Experiment:
    """The same experiment, readable by everyone."""
    Experiment.objects.filter(pk=experiment.pk).update(public=True)
    return experiment


@pytest.fixture
def drift(experiment: Experiment) -> Drift:
    """A completed run of the experiment that found drift."""
    return Drift.objects.create(
        experiment=experiment,
        job_status="Completed",
        model="forest",
        drift_detected=True,
        parameters={"p_value": 0.003, "features": {"alcohol": {"statistic": 0.4}}},
        tags=["nightly"],
    )


def purge_in_background() -> None:
    """Remove the runs of deleted experiments, as `manage.py work` does once their time in the trash is over."""
    with override_settings(TRASH_DAYS=0):
        DeletedExperiment.objects.purge(lambda: False)


def permissions_of(manager: Caller, editor: Caller, reader: Caller) -> list[Permission]:
    return [
        Permission(entity=manager.id, level=Level.MANAGE),
        Permission(entity=editor.id, level=Level.EDIT),
        Permission(entity=reader.id, level=Level.READ),
        Permission(entity=GROUP, level=Level.READ),
    ]


RUN: dict[str, Any] = {"job_status": "Completed", "model": "forest", "drift_detected": True}
