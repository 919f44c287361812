"""The charset in a `Content-Type`: requests are read as UTF-8, whatever it names."""

import pytest
import requests

from tests.live import LiveServer

CHARSETS = ["hex", "idna", "rot13", "utf-7", "undefined", "latin-1", "none"]


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_query_is_read_whatever_charset_is_named(live: LiveServer, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    response = requests.get(f"{live.api}/token?page=%2B1", headers=headers, timeout=30)
    assert response.status_code == 401
    assert response.json()["code"] == 401


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_form_is_read_whatever_charset_is_named(live: LiveServer, charset: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}", "Accept": "text/html"}
    body = '--b\r\nContent-Disposition: form-data; name="username"\r\n\r\n+2AA-\r\n--b--\r\n'
    response = requests.post(f"{live.url}/login", body, headers=headers, timeout=30)
    assert response.status_code == 403
    assert "This form has expired" in response.text
