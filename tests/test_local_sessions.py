"""Sessions of local accounts: their end, the command that lists and ends them, and the wait after failed logins."""

import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts import lockout, session_lifetime
from accounts.lockout import LockedOut, count_failure
from accounts.models import FailedLogins, User
from audit.models import Event
from core import timestamps
from tests.caller import Caller, Client
from tests.profiler import commands
from tests.session import through_session

PASSWORD, WRONG = "correct horse battery", "a guess"
HERE, THERE = "192.0.2.1", "192.0.2.2"
HOUR = 3600


@pytest.fixture(autouse=True)
def root() -> User:
    return User.objects.create_superuser("root", "root@example.org", PASSWORD)


def log_in(password: str = PASSWORD, address: str = HERE, name: str = "root") -> tuple[Client, Any]:
    browser = Client(REMOTE_ADDR=address)
    return browser, browser.post("/login", {"username": name, "password": password})


def logged_in() -> Client:
    browser, response = log_in()
    assert response.status_code == 302
    return browser


def is_logged_in(browser: Client) -> bool:
    return browser.get("/admin/").status_code == 200


def seconds_left(session: Session) -> float:
    return (session.expire_date - timestamps.now()).total_seconds()


def aged(browser: Client, **ages: float) -> None:
    """Set the times of a session to seconds ago; -1 removes one."""
    session = browser.session
    for name, age in ages.items():
        session[name] = time.time() - age
        if age < 0:
            del session[name]
    session.save()


# The end of a session.


def test_a_session_ends_after_an_hour_without_a_request() -> None:
    browser = logged_in()
    (session,) = Session.objects.all()
    assert HOUR - 5 < seconds_left(session) <= HOUR
    assert browser.cookies["sessionid"]["max-age"] == HOUR
    Session.objects.update(expire_date=timestamps.now() - timedelta(seconds=1))
    assert not is_logged_in(browser)


def test_a_request_puts_off_the_end_but_at_most_once_a_minute() -> None:
    browser = logged_in()
    Session.objects.update(expire_date=timestamps.now() + timedelta(seconds=100))
    with commands() as entries:
        assert is_logged_in(browser)
    assert not [entry for entry in entries if entry.get("op") == "update"]
    aged(browser, seen_at=61)
    Session.objects.update(expire_date=timestamps.now() + timedelta(seconds=100))
    assert is_logged_in(browser)
    assert seconds_left(Session.objects.get()) > HOUR - 5


def test_no_request_puts_off_the_end_beyond_twelve_hours() -> None:
    browser = logged_in()
    aged(browser, started_at=11.5 * HOUR, seen_at=61)
    assert is_logged_in(browser)
    assert HOUR / 2 - 5 < seconds_left(Session.objects.get()) <= HOUR / 2
    aged(browser, started_at=12 * HOUR)
    assert not is_logged_in(browser)


def test_a_session_of_an_earlier_release_goes_on_and_its_twelve_hours_begin() -> None:
    browser = logged_in()
    aged(browser, started_at=-1, seen_at=-1)
    Session.objects.update(expire_date=timestamps.now() + timedelta(days=14))
    assert is_logged_in(browser)
    assert time.time() - browser.session[session_lifetime.STARTED] < 5
    assert seconds_left(Session.objects.get()) <= HOUR


def test_another_login_begins_the_twelve_hours_again() -> None:
    browser = logged_in()
    aged(browser, started_at=11.9 * HOUR)
    assert browser.post("/login", {"username": "root", "password": PASSWORD}).status_code == 302
    assert time.time() - browser.session[session_lifetime.STARTED] < 5


def test_a_new_password_ends_the_sessions(root: User) -> None:
    browser = logged_in()
    root.set_password("another horse battery")
    root.save()
    assert not is_logged_in(browser)


# The command.


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("sessions", *arguments, stdout=out)
    return out.getvalue()


def test_operators_list_sessions_without_their_keys(reader: Caller, settings: Settings, root: User) -> None:
    keys = [str(browser.session.session_key) for browser in (logged_in(), through_session(reader, settings).client)]
    header, *rows = run().splitlines()
    assert header.split() == ["id", "login", "started", "ends", "user"]
    assert [re.split(r"  +", row)[1:3] for row in rows] == [
        ["password", f"{timestamps.now():%Y-%m-%d %H:%M UTC}"],
        ["provider", "-"],
    ]
    assert [row.rpartition("  ")[2] for row in rows] == [
        f"root@example.org ({root.pk})",
        f"reader@example.org ({reader.id})",
    ]
    assert not [key for key in keys if key in run()]
    assert run("--user", "root").splitlines() == [header, rows[0]]


def test_a_session_is_one_line_whatever_the_name_of_its_user(root: User) -> None:
    """Earlier releases stored emails with line breaks. Subjects of providers may have them."""
    logged_in()
    for changed in ({"email": "a\n\x1b[31mforged@example.org"}, {"email": "", "subject": "a\u2028\x1b[31mforged"}):
        User.objects.filter(pk=root.pk).update(**changed)
        _, row = run("--user", str(root.pk)).splitlines()
        assert row.isprintable()
        assert "\\x1b[31mforged" in row


def test_operators_end_a_session_by_its_id() -> None:
    browsers = [logged_in(), logged_in()]
    first = run().splitlines()[1].split()[0]
    assert run("end", first) == "1 session ended.\n"
    assert sorted(map(is_logged_in, browsers)) == [False, True]
    event = Event.objects.first()
    assert event
    assert (event.action, event.way, event.target.name) == ("logout", "command", "root@example.org")
    with pytest.raises(CommandError, match="No session has the id"):
        run("end", first)


@pytest.mark.parametrize(("arguments", "left"), [(["--user", "root"], 1), (["--all"], 0)], ids=["a user", "all"])
def test_operators_end_the_sessions_of_a_user_or_of_all(
    arguments: list[str], left: int, reader: Caller, settings: Settings
) -> None:
    browser = logged_in()
    through_session(reader, settings)
    assert run("end", *arguments) == f"{2 - left} session{'s' * (1 - left)} ended.\n"
    assert not is_logged_in(browser)
    assert len(run().splitlines()) == 1 + left


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["end"], "Give the id of a session, --user or --all"), (["--user", "nobody"], "No user has the local name")],
)
def test_the_command_explains_what_it_needs(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)


# The wait after failed logins.


def end_wait() -> None:
    FailedLogins.objects.update(locked_until=timestamps.now())


def test_the_fifth_failure_in_a_row_locks_the_account_at_this_address_for_a_minute() -> None:
    assert [log_in(WRONG)[1].status_code for _ in range(5)] == [200] * 5
    for password in (WRONG, PASSWORD):
        response = log_in(password)[1]
        assert response.status_code == 429
        assert 55 < int(response.headers["Retry-After"]) <= 61
        assert "Too many logins to this account have failed from your address." in response.json()["message"]
    assert log_in(PASSWORD, THERE)[1].status_code == 302
    assert log_in(PASSWORD, HERE)[1].status_code == 429
    end_wait()
    assert log_in(PASSWORD, HERE)[1].status_code == 302
    assert not FailedLogins.objects.exists()


def test_the_page_of_a_refused_login_leads_back_to_the_login() -> None:
    browser = Client(REMOTE_ADDR=HERE)
    form = {"username": "root", "password": WRONG}
    html = {"Accept": "text/html"}
    pages = [browser.post("/login?next=/admin/%3Fa%3D1%26b", form, headers=html) for _ in range(6)]
    assert pages[-1].status_code == 429
    assert '<a href="/login?next=%2Fadmin%2F%3Fa%3D1%26b">Log in</a>' in pages[-1].content.decode()
    assert '<a href="/login">Log in</a> <a href="/experiments">' in (
        browser.post("/login", form, headers=html).content.decode()
    )


@pytest.mark.parametrize(("failures", "seconds"), [(4, 60), (5, 120), (6, 240), (9, 1920), (10, 3600), (2000, 3600)])
def test_each_further_failure_doubles_the_wait_up_to_an_hour(failures: int, seconds: int) -> None:
    log_in(WRONG)
    FailedLogins.objects.update(count=failures)
    log_in(WRONG)
    wait = int(log_in(PASSWORD)[1].headers["Retry-After"])
    assert seconds - 5 < wait <= seconds + 1
    if wait >= 120:
        assert f"Try again in {math.ceil(wait / 60)} minutes." in log_in(PASSWORD)[1].json()["message"]


def test_a_login_ends_the_count() -> None:
    passwords = [WRONG] * 4 + [PASSWORD]
    for _ in range(2):
        assert [log_in(password)[1].status_code for password in passwords] == [200] * 4 + [302]


def test_locked_logins_do_not_use_up_the_limit_of_the_account(settings: Settings) -> None:
    settings.RATE_LIMIT_LOGIN = "6/day"
    assert [log_in(WRONG)[1].status_code for _ in range(9)] == [200] * 5 + [429] * 4
    assert log_in(PASSWORD, THERE)[1].status_code == 302


def test_a_right_password_is_no_failure_while_others_use_up_the_limit_of_the_account(settings: Settings) -> None:
    settings.RATE_LIMIT_LOGIN = "6/day"
    for number in range(6):
        log_in(WRONG, f"198.51.100.{number + 50}")
    refusals = [log_in(PASSWORD)[1] for _ in range(6)]
    assert {response.status_code for response in refusals} == {429}
    assert not any("have failed" in response.json()["message"] for response in refusals)


def test_a_slow_check_of_a_right_password_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    check = User.check_password

    def slow(user: User, password: str) -> bool:
        time.sleep(0.6)
        return check(user, password)

    monkeypatch.setattr(lockout, "COUNT_SECONDS", 0.5)
    monkeypatch.setattr(User, "check_password", slow)
    assert log_in(PASSWORD)[1].status_code == 302
    assert not FailedLogins.objects.exists()


def test_a_failure_at_the_same_moment_locks_no_login() -> None:
    """The clock of a login that waits for another one's count stands where it began."""
    log_in(WRONG)
    stored = FailedLogins.objects.get()
    assert (stored.count, stored.is_locked, stored.locked_until) == (1, False, None)


def test_an_account_that_does_not_exist_is_locked_too() -> None:
    assert [log_in(WRONG, name="nobody")[1].status_code for _ in range(6)] == [200] * 5 + [429]
    assert log_in()[1].status_code == 302
    (stored,) = FailedLogins.objects.all()
    assert re.fullmatch("[0-9a-f]{64}", stored.pk)
    assert timedelta(hours=23) < stored.expires_at - timestamps.now() <= timedelta(hours=24)


def test_no_number_of_logins_at_once_gets_past_the_lock() -> None:
    def is_admitted(_: int) -> bool:
        try:
            count_failure("root", HERE)
        except LockedOut:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(is_admitted, range(30))) == 5
