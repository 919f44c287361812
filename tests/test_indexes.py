"""Query plans: frequent queries read an index, and no documents beyond those that they need."""

import datetime
import json
import uuid
from typing import Any, TypeAlias

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db.models import Model
from django.utils import timezone

from accounts.models import User
from audit.models import Action, Actor, Event, Target
from core.identity import Level
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.conftest import GROUP, registered
from tests.profiler import Read, reads_of
from tests.provider import Provider

MANY = 1_200
PAGE_SIZE = 10
OTHER_GROUP = "urn:example:group:auditors"


def minute(number: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(minutes=number)


@pytest.fixture
def member(provider: Provider) -> Caller:
    """A user who reads public experiments, their own, and those of two groups."""
    return registered(provider, "member", "users", GROUP, OTHER_GROUP)


# Large collections, and the paths of their searches.

Collection: TypeAlias = tuple[type[Model], str]


@pytest.fixture
def many_experiments() -> Collection:
    """One third are public. One fifth each are shared with one group, another, both, a third one, and none."""
    shared = [[GROUP], [OTHER_GROUP], [GROUP, OTHER_GROUP], ["urn:example:group:others"], []]
    Experiment.objects.bulk_create(
        Experiment(
            name=f"experiment {number}",
            public=number % 3 == 0,
            permissions=[Permission(entity=entity, level=Level.READ) for entity in shared[number % 5]],
            created_at=minute(number),
        )
        for number in range(MANY)
    )
    return Experiment, "/experiment/search"


@pytest.fixture
def many_runs(experiment: Experiment) -> Collection:
    """The runs of another experiment lie between those of this one, in equal number."""
    other = Experiment.objects.create(name="another")
    Drift.objects.bulk_create(
        Drift(
            experiment=owner,
            job_status=("Running", "Completed")[number % 2],
            model=f"model {number % 3}",
            created_at=minute(number),
        )
        for number in range(MANY)
        for owner in (experiment, other)
    )
    return Drift, f"/experiment/{experiment.id}/drift/search"


@pytest.fixture
def many_users() -> Collection:
    User.objects.bulk_create(
        User(issuer=f"https://{number % 3}.example.org", subject=f"user {number}", created_at=minute(number))
        for number in range(MANY)
    )
    return User, "/user/search"


@pytest.fixture
def many_events(experiment: Experiment) -> Collection:
    """A third are about one experiment, and half are by the first of two actors."""
    Event.objects.bulk_create(
        Event(
            action=Action.EXPERIMENT_UPDATED,
            actor=Actor(
                kind="user", user_id=actor_id(number), issuer="", subject="", email=f"{number % 2}@example.org"
            ),
            target=Target(type="experiment", object_id="", name=""),
            experiment_id=experiment.id if number % 3 % 2 else uuid.uuid4(),
            way="bearer",
            created_at=minute(number),
        )
        for number in range(MANY)
    )
    return Event, "/audit/search"


@pytest.fixture
def many_events_of_experiment(many_events: Collection, experiment: Experiment) -> Collection:
    return Event, f"/experiment/{experiment.id}/audit/search"


def actor_id(number: int) -> uuid.UUID:
    return uuid.UUID(int=number % 2)


@pytest.fixture
def many_sessions() -> None:
    data = SessionStore().encode({"theme": "dark"})
    tomorrow = timezone.now() + datetime.timedelta(days=1)
    Session.objects.bulk_create(
        Session(session_key=f"session {number}", session_data=data, expire_date=tomorrow) for number in range(MANY)
    )


# Searches.


def search(
    request: pytest.FixtureRequest, caller: str, collection: str, query: str, document: Any
) -> tuple[Read, list[Read]]:
    """The queries of a search on the collection: the page, and the counts of the total."""
    asking: Caller = request.getfixturevalue(caller)
    model, path = request.getfixturevalue(collection)
    with reads_of(model) as reads:
        response = asking.post(f"{path}{query}", document)
    assert response.status_code == 200, response.content
    (page,) = (read for read in reads if "$sort" in read.stages)
    return page, [read for read in reads if "$count" in read.stages]


def assert_read_in_order(page: Read, number: int) -> None:
    """Require that an index led to the page's documents and one more, after at most those of earlier pages."""
    assert page.returned == PAGE_SIZE + 1
    assert page.documents <= number * PAGE_SIZE + 1
    assert not page.sorts_in_memory
    assert page.plan.startswith("IXSCAN")


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("number", [1, 31])
@pytest.mark.parametrize(
    ("caller", "collection"),
    [
        ("anonymous", "many_experiments"),
        ("member", "many_experiments"),
        ("admin", "many_experiments"),
        ("reader", "many_runs"),
        ("admin", "many_users"),
        ("admin", "many_events"),
        ("manager", "many_events_of_experiment"),
    ],
)
def test_a_list_is_read_in_index_order(
    request: pytest.FixtureRequest, caller: str, collection: str, number: int, order: str
) -> None:
    page, _ = search(request, caller, collection, f"?page={number}&order_by={order}", {})
    assert_read_in_order(page, number)


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize(
    ("caller", "collection", "sort_by"),
    [
        ("anonymous", "many_experiments", "created_at"),
        ("member", "many_experiments", "created_at"),
        ("admin", "many_experiments", "name"),
        ("admin", "many_experiments", "public"),
        ("admin", "many_users", "created_at"),
        ("admin", "many_users", "email"),
        ("admin", "many_users", "subject"),
        ("admin", "many_users", "issuer"),
        ("admin", "many_events", "created_at"),
        ("admin", "many_events", "action"),
        ("manager", "many_events_of_experiment", "created_at"),
        ("manager", "many_events_of_experiment", "action"),
    ],
)
def test_a_page_of_any_sort_reads_about_as_many_documents_as_it_shows(
    request: pytest.FixtureRequest, caller: str, collection: str, sort_by: str, order: str
) -> None:
    query = f"?sort_by={sort_by}&order_by={order}"
    first, _ = search(request, caller, collection, query, {})
    assert_read_in_order(first, 1)
    asking: Caller = request.getfixturevalue(caller)
    _, path = request.getfixturevalue(collection)
    before = asking.post(f"{path}{query}&page=31", {})
    cursor = json.loads(before.headers["X-Pagination"])["next_cursor"]
    after, _ = search(request, caller, collection, f"{query}&cursor={cursor}", {})
    assert after.returned == PAGE_SIZE + 1
    assert after.documents <= 3 * PAGE_SIZE


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("document", [{"model": "model 1"}, {"job_status": "Completed"}], ids=json.dumps)
def test_the_runs_of_a_model_or_status_are_read_in_index_order(
    request: pytest.FixtureRequest, document: dict[str, str], number: int, order: str
) -> None:
    page, _ = search(request, "reader", "many_runs", f"?page={number}&order_by={order}", document)
    assert_read_in_order(page, number)


@pytest.mark.parametrize("document", [{"actor.email": "1@example.org"}, {"actor.user_id": str(uuid.UUID(int=1))}])
@pytest.mark.parametrize("order", ["desc", "asc"])
def test_the_events_of_an_actor_are_read_in_index_order(
    request: pytest.FixtureRequest, document: dict[str, str], order: str
) -> None:
    page, _ = search(request, "admin", "many_events", f"?page=5&order_by={order}", document)
    assert_read_in_order(page, 5)


@pytest.mark.parametrize("query", ["", "?since=2026-01-01T10:00:00Z", "?actor=1@example.org"])
@pytest.mark.usefixtures("many_events")
def test_an_export_is_not_sorted_in_memory(admin: Caller, query: str) -> None:
    with reads_of(Event) as reads:
        assert b"".join(admin.get(f"/audit/export{query}").streaming_content)
    assert reads
    for read in reads:
        assert read.plan.startswith("IXSCAN")
        assert not read.sorts_in_memory


@pytest.mark.parametrize(
    ("caller", "collection"),
    [
        ("anonymous", "many_experiments"),
        ("member", "many_experiments"),
        ("reader", "many_runs"),
        ("manager", "many_events_of_experiment"),
    ],
)
def test_a_total_is_counted_without_reading_documents(
    request: pytest.FixtureRequest, caller: str, collection: str
) -> None:
    _, counts = search(request, caller, collection, "", {})
    assert counts
    assert {count.documents for count in counts} == {0}


@pytest.mark.parametrize("sort_by", ["created_at", "model", "schema_version"])
def test_the_sort_directly_follows_the_match_so_that_it_can_use_an_index(
    request: pytest.FixtureRequest, sort_by: str
) -> None:
    page, _ = search(request, "reader", "many_runs", f"?page=2&sort_by={sort_by}", {"drift_detected": False})
    assert page.stages == ["$match", "$sort", "$skip", "$limit"]


# Lookups.


def assert_looked_up(reads: list[Read]) -> None:
    assert reads
    for read in reads:
        assert (read.documents, read.returned) == (1, 1), read
        assert read.plan != "COLLSCAN"


@pytest.mark.usefixtures("many_experiments")
def test_an_experiment_is_looked_up_by_its_name() -> None:
    with reads_of(Experiment) as reads:
        Experiment.objects.get(name="experiment 700")
    assert_looked_up(reads)


@pytest.mark.usefixtures("many_experiments")
def test_an_experiment_is_looked_up_by_its_id(reader: Caller, experiment: Experiment) -> None:
    with reads_of(Experiment) as reads:
        response = reader.get(f"/experiment/{experiment.id}")
    assert response.status_code == 200, response.content
    assert_looked_up(reads)


@pytest.mark.usefixtures("many_runs")
def test_a_run_is_looked_up_by_its_id(reader: Caller, drift: Drift) -> None:
    with reads_of(Experiment) as reads:
        response = reader.get(f"/experiment/{drift.experiment_id}/drift/{drift.id}")
    assert response.status_code == 200, response.content
    (read,) = reads
    assert (read.documents, read.returned) == (2, 1)
    assert read.plan == "IDHACK"


@pytest.mark.usefixtures("many_users")
def test_the_owner_of_a_token_is_looked_up_by_issuer_and_subject(reader: Caller) -> None:
    with reads_of(User) as reads:
        response = reader.get("/user/self")
    assert response.status_code == 200, response.content
    assert_looked_up(reads)


@pytest.mark.usefixtures("many_sessions")
def test_a_session_is_looked_up_by_its_key() -> None:
    with reads_of(Session) as reads:
        assert SessionStore("session 700").load() == {"theme": "dark"}
    assert_looked_up(reads)
