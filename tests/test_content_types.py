"""The charset in a `Content-Type`: requests are read as UTF-8, whatever it names."""

from urllib.parse import urlencode

import pytest
import requests

from tests.live import LiveServer

CHARSETS = ["hex", "idna", "rot13", "utf-7", "undefined", "latin-1", "none"]
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_query_is_read_whatever_charset_is_named(live: LiveServer, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    response = requests.get(f"{live.api}/token?page=%2B1", headers=headers, timeout=30)
    assert response.status_code == 401
    assert response.json()["code"] == 401


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_form_in_another_charset_is_refused(live: LiveServer, charset: str) -> None:
    response = login(live, f"{FORM}; charset={charset}")
    assert response.status_code == 400
    assert "This form is not valid. Open its page again, and send it in UTF-8." in response.text


@pytest.mark.parametrize("parameter", ["", "; charset=UTF-8", "; charset=utf8"])
def test_a_form_in_utf_8_is_read(live: LiveServer, parameter: str) -> None:
    response = login(live, f"{FORM}{parameter}")
    assert response.status_code == 200
    assert 'value="café+2AA-"' in response.text


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset*=utf-9''x",
        "multipart/form-data; boundary*=utf-9''x",
        "application/json; charset*=utf-8''x; charset*0=y",
    ],
)
@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/experiment/search", 415), ("/livez", 405), ("/login", 403), ("/nothing", 404)]
)
def test_a_malformed_header_counts_as_none(live: LiveServer, content_type: str, path: str, status: int) -> None:
    response = requests.post(f"{live.url}{path}", "{}", headers={"Content-Type": content_type}, timeout=30)
    assert response.status_code == status


def login(live: LiveServer, content_type: str) -> requests.Response:
    """Send the login form with a user name, as a browser does after it has opened the page."""
    browser = requests.Session()
    browser.get(f"{live.url}/login", timeout=30)
    fields = {"csrfmiddlewaretoken": browser.cookies["csrftoken"], "username": "café+2AA-", "password": "x"}
    headers = {"Content-Type": content_type, "Accept": "text/html"}
    return browser.post(f"{live.url}/login", urlencode(fields), headers=headers, timeout=30)
