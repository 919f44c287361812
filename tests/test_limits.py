"""Rate limits of a caller, counted over all workers."""

import datetime
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from django.conf import settings as service_settings
from django.test import RequestFactory
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern
from pytest_django import Settings

from accounts.models import User
from core.api import rate_limits, throttling
from core.api.exceptions import ServiceUnavailable
from core.api.rate_limits import Count, Limiter, Rate, TooManyRequests, rate_of
from core.api.throttling import address_of
from core.models import RequestCount
from core.mongodb.documents import mongodb
from experiments.models import Experiment
from tests.caller import Caller, Client
from tests.live import START_SECONDS, LiveServer
from tests.ports import free_port
from tests.profiler import commands
from tests.provider import Provider
from tests.session import through_session

HERE, THERE = {"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": "192.0.2.2"}
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def fresh_counters(database: None) -> Iterator[None]:
    """Begin without counts, and without cached identities in this process."""
    rate_limits.limiter.cache_clear()
    yield
    rate_limits.limiter.cache_clear()
    mongodb().database[RequestCount._meta.db_table].delete_many({})


def assert_refused(response: Any) -> None:
    assert response.status_code == 429, response.content
    assert response.headers["Content-Type"] == "application/json"
    assert int(response.headers["Retry-After"]) > 0
    refusal = response.json()
    assert (refusal["code"], refusal["status"]) == (429, "Too Many Requests")
    assert "at most" in refusal["message"]


def search(caller: Caller, **options: Any) -> Any:
    return caller.post("/experiment/search", {}, **options)


# Callers that are counted separately.


def test_an_identity_has_its_own_limit_at_any_address(
    settings: Settings, reader: Caller, stranger: Caller, provider: Provider
) -> None:
    settings.RATE_LIMIT = "3/day"
    again = Caller(provider.token("reader", "users"))
    assert [search(caller, **place).status_code for caller, place in ((reader, HERE), (again, THERE))] == [200, 200]
    assert reader.get("/user/self").status_code == 200
    assert_refused(search(again, **HERE))
    assert_refused(reader.get("/user/self"))
    assert search(stranger, **HERE).status_code == 200


def test_an_address_has_a_limit_for_requests_without_a_token(
    settings: Settings, anonymous: Caller, reader: Caller
) -> None:
    settings.RATE_LIMIT_ANONYMOUS = "2/day"
    assert [search(anonymous, **HERE).status_code for _ in range(2)] == [200, 200]
    assert_refused(search(anonymous, **HERE))
    assert anonymous.get("/openapi.json", **HERE).status_code == 429
    assert search(anonymous, **THERE).status_code == 200
    assert search(reader, **HERE).status_code == 200


def test_refused_requests_are_counted(settings: Settings, anonymous: Caller, experiment: Experiment) -> None:
    settings.RATE_LIMIT_ANONYMOUS = "3/day"
    forger = Caller("a.b.c")
    assert forger.get("/user/self").status_code == 401
    assert anonymous.delete(f"/experiment/{experiment.id}").status_code == 401
    assert anonymous.get(f"/experiment/{experiment.id}").status_code == 403
    for caller in (forger, anonymous):
        assert_refused(caller.get("/user/self"))


def test_methods_that_a_path_lacks_are_counted(settings: Settings, anonymous: Caller) -> None:
    settings.RATE_LIMIT_ANONYMOUS = "2/day"
    assert [anonymous.put("/experiment/search").status_code for _ in range(2)] == [405, 405]
    assert_refused(anonymous.put("/experiment/search"))


def test_a_bad_token_does_not_hide_that_a_path_lacks_the_method() -> None:
    assert Caller("a.b.c").put("/experiment/search").status_code == 405


def test_an_empty_setting_is_no_limit(settings: Settings, anonymous: Caller) -> None:
    settings.RATE_LIMIT_ANONYMOUS = ""
    search(anonymous)
    assert not rate_limits.counters().count_documents({})


def test_token_requests_have_low_limits_by_address_and_by_identity(
    settings: Settings, reader: Caller, editor: Caller, stranger: Caller, manager: Caller
) -> None:
    settings.RATE_LIMIT_LOGIN = "2/day"
    nightly = {"name": "nightly"}
    assert [caller.post("/token", nightly, **HERE).status_code for caller in (reader, editor)] == [201, 201]
    assert_refused(stranger.post("/token", nightly, **HERE))
    assert stranger.post("/token", nightly, **THERE).status_code == 201
    elsewhere = [manager.post("/token", nightly, REMOTE_ADDR=f"192.0.2.{n}").status_code for n in (11, 12, 13)]
    assert elsewhere == [201, 409, 429]
    assert reader.get("/user/self", **HERE).status_code == 200


def test_lookups_of_users_have_the_low_limit_by_identity(settings: Settings, reader: Caller, stranger: Caller) -> None:
    settings.RATE_LIMIT_LOGIN = "2/day"
    wanted = [{"email": "reader@example.org"}, {"email": "nobody@example.org"}, {"id": reader.id}]
    responses = [stranger.post("/user/lookup", body, REMOTE_ADDR=f"192.0.2.{n}") for n, body in enumerate(wanted)]
    assert [response.status_code for response in responses] == [200, 404, 429]
    assert_refused(responses[-1])
    assert reader.post("/user/lookup", wanted[0]).status_code == 200
    assert stranger.get("/user/self").status_code == 200


def guesses(number: int) -> list[dict[str, str]]:
    return [{"entity": f"guess-{n}@example.org", "level": "Read"} for n in range(number)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/experiment", lambda: {"name": "new", "permissions": guesses(3)}),
        ("PATCH", "/experiment/{id}", lambda: {"permissions": guesses(3)}),
        ("POST", "/experiment/{id}/access/preview", lambda: {"permissions": guesses(3)}),
        ("POST", "/experiment/{id}/access/handover", lambda: {"entity": "guess@example.org"}),
        ("GET", "/experiment/{id}/access?entity=guess@example.org", lambda: None),
    ],
)
def test_emails_of_nobody_count_as_lookups(
    settings: Settings, manager: Caller, reader: Caller, experiment: Experiment, method: str, path: str, body: Any
) -> None:
    settings.RATE_LIMIT_LOGIN = "2/day"
    known = [{"entity": f"{name}@example.org", "level": "Manage"} for name in ("manager", "reader")]
    for _ in range(3):
        assert manager.patch(f"/experiment/{experiment.pk}", {"permissions": known}).status_code == 200
    responses = [manager.request(method, path.format(id=experiment.pk), body()) for _ in range(3)]
    assert_refused(responses[-1])
    assert "guess" not in responses[-1].content.decode()


def test_emails_of_nobody_in_pages_and_the_portal_count_as_lookups(
    settings: Settings, admin: Caller, experiment: Experiment
) -> None:
    settings.RATE_LIMIT_LOGIN = "2/day"
    browser, page = through_session(admin, settings).client, {"Accept": "text/html"}
    search = f"/experiments/{experiment.pk}/permissions?entity=guess@example.org"
    assert [browser.get(search, headers=page).status_code for _ in range(3)] == [422, 422, 429]
    entries = {"TOTAL_FORMS": "1", "INITIAL_FORMS": "0", "0-entity": "guess@example.org", "0-level": "Read"}
    form = {"name": "new", "config": "{}", **{f"permissions-{name}": value for name, value in entries.items()}}
    assert browser.post("/admin/experiments/experiment/add/", form, headers=page).status_code == 429


def log_in(name: str, **place: str) -> Any:
    return Client(raise_request_exception=False).post("/login", {"username": name, "password": PASSWORD}, **place)


def test_logins_are_limited_by_address(settings: Settings) -> None:
    settings.RATE_LIMIT_LOGIN = "3/day"
    assert [log_in(f"name {n}", **HERE).status_code for n in range(3)] == [200] * 3
    assert_refused(log_in("another name", **HERE))
    assert Client().get("/login", **HERE).status_code == 200  # type: ignore[arg-type]
    assert log_in("another name", **THERE).status_code == 200


def test_logins_are_limited_by_account_in_every_spelling_of_its_name(settings: Settings) -> None:
    settings.RATE_LIMIT_LOGIN = "3/day"
    for n, spelling in enumerate(("Root", " Root ", "\N{FULLWIDTH LATIN CAPITAL LETTER R}oot")):
        assert log_in(spelling, REMOTE_ADDR=f"192.0.2.{n}").status_code == 200
    User.objects.create_superuser("Root", "root@example.org", PASSWORD)
    assert_refused(log_in("Root", REMOTE_ADDR="192.0.2.9"))
    assert log_in("another", REMOTE_ADDR="192.0.2.9").status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, "192.0.2.1"),
        (0, "203.0.113.9", "192.0.2.1"),
        (1, None, "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        (2, "10.0.0.1, 203.0.113.9,198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9:4711", "203.0.113.9"),
        (1, "[2001:db8::1]:443", "2001:db8::/64"),
        (1, "2001:db8:0:0:ffff::2", "2001:db8::/64"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "unknown", "192.0.2.1"),
        (1, "[", "192.0.2.1"),
    ],
)
def test_the_address_comes_from_the_trusted_proxies(
    settings: Settings, proxies: int, forwarded: str | None, address: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    assert address_of(RequestFactory().get("/", headers=headers, **HERE)) == address  # type: ignore[arg-type]


# Counts.


def passes(limiter: Limiter, rate: Rate) -> bool:
    try:
        limiter.count("test", "someone", rate)
    except TooManyRequests:
        return False
    return True


def test_processes_that_count_exactly_admit_exactly_the_limit() -> None:
    processes = [Limiter() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(lambda n: passes(processes[n % 4], Rate(20, "day")), range(60)))
    assert sum(passed) == 20


def test_processes_that_count_in_batches_exceed_the_limit_by_at_most_a_batch_each() -> None:
    processes, rate = [Limiter() for _ in range(4)], Rate(1000, "day")
    passed = sum(passes(processes[n % 4], rate) for n in range(2000))
    assert rate.limit <= passed <= rate.limit + len(processes) * 9
    alone = Limiter()
    assert sum(passes(alone, Rate(300, "hour")) for _ in range(500)) == 300


def test_a_batch_costs_one_query() -> None:
    limiter, rate = Limiter(), Rate(1000, "day")
    with commands() as entries:
        for _ in range(25):
            assert passes(limiter, rate)
    assert 1 <= len(entries) <= 2


def test_a_refused_caller_is_admitted_after_the_stated_time() -> None:
    limiter, rate = Limiter(), Rate(2, "second")
    while passes(limiter, rate):
        pass
    with pytest.raises(TooManyRequests) as refusal:
        limiter.count("test", "someone", rate)
    time.sleep(refusal.value.wait + 0.05)
    assert passes(limiter, rate)


def test_refusals_by_other_processes_do_not_put_off_the_stated_time() -> None:
    rate = Rate(2, "second")
    one, *others = [Limiter() for _ in range(20)]
    while passes(one, rate):
        pass
    with pytest.raises(TooManyRequests) as refusal:
        one.count("test", "someone", rate)
    assert not any(passes(other, rate) for other in others)
    time.sleep(refusal.value.wait + 0.05)
    assert passes(one, rate)


@pytest.mark.parametrize(
    ("current", "previous", "elapsed", "total", "wait"),
    [
        (11, 0, 0.5, 11, 60 * (0.5 + 2 / 11)),
        (5, 10, 0.25, 12.5, 60 * (0.6 - 0.25)),
        (10, 10, 0.9, 11, 60 * (0.1 + 0.1)),
        (1, 0, 0.5, 1, 0),
    ],
)
def test_the_window_slides(current: int, previous: int, elapsed: float, total: float, wait: float) -> None:
    count = Count(current, previous, elapsed)
    assert count.total == pytest.approx(total)
    assert count.wait(Rate(10, "minute")) == pytest.approx(wait)


def test_counters_do_not_identify_callers_and_expire(settings: Settings, anonymous: Caller) -> None:
    settings.RATE_LIMIT_ANONYMOUS = "5/minute"
    search(anonymous, **HERE)
    # Counts are not acknowledged by the majority.
    (stored,) = rate_limits.counters().with_options(read_concern=ReadConcern("local")).find()
    assert HERE["REMOTE_ADDR"] not in str(stored)
    expires_at = stored["expires_at"].replace(tzinfo=datetime.UTC)
    assert expires_at.timestamp() == pytest.approx(time.time() + 120, abs=10)
    indexes = mongodb().database[RequestCount._meta.db_table].index_information()
    assert [index["expireAfterSeconds"] for index in indexes.values() if "expireAfterSeconds" in index] == [0]


@pytest.mark.parametrize("setting", ["600", "600/", "/minute", "-1/minute", "1.5/minute", "0/minute", "6/fortnight"])
def test_an_invalid_rate_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        rate_of(setting)


# Time.


def took(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have every request charged as if it took so much longer."""
    monkeypatch.setattr(throttling, "FREE_SECONDS", -seconds)


@pytest.mark.parametrize(
    ("role", "seconds", "refused"),
    [("anonymous", 110, False), ("anonymous", 121, True), ("reader", 470, False), ("reader", 481, True)],
)
def test_the_time_of_a_minute_uses_up_a_limit_by_itself(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, role: str, seconds: float, refused: bool
) -> None:
    """Two requests without a token, or eight with one, that run for all of a minute."""
    caller: Caller = request.getfixturevalue(role)
    took(monkeypatch, seconds)
    assert search(caller).status_code == 200, "only later requests are refused"
    response = search(caller)
    assert response.status_code == (429 if refused else 200)
    if refused:
        assert "A slow request counts as several." in response.json()["message"]


def test_a_request_within_the_free_time_counts_as_one(
    anonymous: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RATE_LIMIT_ANONYMOUS = "1000000/second"
    took(monkeypatch, -10)
    for _ in range(3):
        assert search(anonymous).status_code == 200
    assert [tally.pending for tally in rate_limits.limiter()._tallies.values()] == [3]


def test_low_limits_count_requests_only(anonymous: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.RATE_LIMIT_ANONYMOUS = "10/minute"
    took(monkeypatch, 5)
    assert [search(anonymous).status_code for _ in range(11)] == [200] * 10 + [429]


def test_the_time_of_a_request_that_the_service_could_not_serve_is_not_charged(
    anonymous: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    took(monkeypatch, 1_000)

    def unavailable(*arguments: Any) -> None:
        raise ServiceUnavailable

    with monkeypatch.context() as patch:
        patch.setattr("experiments.views.ExperimentView.get_queryset", unavailable)
        assert search(anonymous).status_code == 503
    assert search(anonymous).status_code == 200
    assert search(anonymous).status_code == 429


@pytest.mark.parametrize(("scope", "is_charged"), [("identity", True), ("address", True), ("login from", False)])
def test_a_refusal_says_whether_slow_requests_count_as_several(scope: str, is_charged: bool) -> None:
    limiter, rate = Limiter(), Rate(1, "day")
    limiter.count(scope, "someone", rate)
    with pytest.raises(TooManyRequests) as refused:
        limiter.count(scope, "someone", rate)
    assert ("A slow request counts as several." in str(refused.value.detail)) is is_charged


def test_a_charge_costs_no_query_and_counts_in_all_processes() -> None:
    one, other, rate = Limiter(), Limiter(), Rate(1000, "day")
    with commands() as entries:
        one.charge("test", "someone", rate, 2_000)
    assert not entries
    assert passes(other, rate)
    assert not passes(one, rate)
    assert [passes(other, rate) for _ in range(10)][-1] is False


# Counts without the database.


@pytest.fixture
def unavailable_counters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The counters are on a database server that does not respond."""
    uri = f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=100"
    with MongoClient[dict[str, Any]](uri) as client:
        monkeypatch.setattr(rate_limits, "counters", lambda: client["unavailable"]["counters"])
        yield


@pytest.mark.usefixtures("unavailable_counters")
def test_without_the_database_only_logins_are_refused(settings: Settings, stranger: Caller) -> None:
    settings.RATE_LIMIT = settings.RATE_LIMIT_ANONYMOUS = "200/day"
    settings.RATE_LIMIT_LOGIN = "1/day"
    for refused in (log_in("root"), stranger.post("/token", {"name": "nightly"})):
        assert refused.status_code == 503
        assert refused.json()["code"] == 503
        assert int(refused.headers["Retry-After"]) > 0
    assert {search(stranger).status_code for _ in range(10)} == {200}


# On the real server.


@pytest.fixture(scope="module")
def limited(testrun_uid: str, worker_id: str) -> Iterator[LiveServer]:
    """Two workers with a low limit; each adds its process id to every response."""
    server = LiveServer(
        MONGODB_NAME=f"limits_{testrun_uid[:8]}_{worker_id}",
        RATE_LIMIT_ANONYMOUS="40/day",
        RATE_LIMIT_LOGIN="5/day",
        GUNICORN_CMD_ARGS="--access-logfile - --access-logformat 'worker %(p)s %(s)s'",
    )
    server.start()
    deadline = time.monotonic() + START_SECONDS
    with ThreadPoolExecutor(8) as pool:
        while len(set(re.findall(r"worker <(\d+)>", server.log.read_text()))) < 2:
            assert time.monotonic() < deadline, "the second worker does not serve"
            list(pool.map(lambda _: server.responds(), range(16)))
    yield server
    server.stop()


def test_the_limits_hold_over_the_workers_together(limited: LiveServer) -> None:
    def ask(_: int) -> requests.Response:
        return requests.post(f"{limited.api}/experiment/search", json={}, timeout=30)

    def guess(_: int) -> requests.Response:
        with requests.Session() as browser:
            page = browser.get(f"{limited.url}/admin/login/", timeout=30).text
            token = re.findall('name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
            form = {"username": "root", "password": "a guess", "csrfmiddlewaretoken": token}
            return browser.post(f"{limited.url}/login", form, timeout=30)

    with ThreadPoolExecutor(8) as pool:
        searches, logins = list(pool.map(ask, range(100))), list(pool.map(guess, range(20)))
    assert Counter(response.status_code for response in searches) == {200: 40, 429: 60}
    assert Counter(response.status_code for response in logins) == {200: 5, 429: 15}
    assert all(int(response.headers["Retry-After"]) > 0 for response in searches if response.status_code == 429)
    counted = re.findall(r"worker <(\d+)> (?:200|429)", limited.log.read_text())
    assert len(set(counted)) == 2, "both workers counted"


def test_every_operation_documents_its_limit(limited: LiveServer) -> None:
    document = json.loads(limited.manage("spectacular", "--format", "openapi-json"))
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert operations
    for operation in operations:
        assert "Retry-After" in operation["responses"]["429"]["headers"]
    assert "Retry-After" in service_settings.CORS_EXPOSE_HEADERS
