"""The WSGI entry point: `gunicorn -c deploy/gunicorn.conf.py driftwatch.wsgi`."""

import os
from typing import Any

from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest
from django.core.management.base import BaseCommand, CommandError
from django.core.wsgi import get_wsgi_application
from django.utils.http import parse_header_parameters
from gunicorn.errors import AppImportError  # type: ignore[import-untyped]


class StartError(AppImportError, RuntimeError):
    """A setting with which the service cannot start.

    gunicorn prints the message without a traceback, and ends: of a `RuntimeError` in its main process, which loads
    the application in `deploy/gunicorn.conf.py`, and of an `AppImportError` in a worker.
    """


class Request(WSGIRequest):
    """A request whose text is UTF-8. A form in another charset is refused.

    Django decodes the query and forms by the charset in the `Content-Type`. Some charsets of Python, such as `hex` and
    `idna`, fail then, before any handler of errors.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except (TypeError, ValueError):
            # A malformed header counts as none, also where it is parsed again. Python raises a `TypeError` for a
            # parameter that has both a whole value and a part (RFC 2231).
            meta["CONTENT_TYPE"] = self.content_type = ""
            self.content_params = {}

    def _load_post_and_files(self) -> None:
        charset = (self.content_params or {}).get("charset", "utf-8")
        if self.content_type == "application/x-www-form-urlencoded" and charset.lower() not in ("utf-8", "utf8"):
            self._mark_post_parse_error()  # type: ignore[attr-defined]
            raise BadRequest
        super()._load_post_and_files()


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "driftwatch.settings")
try:
    application = get_wsgi_application()
    application.request_class = Request
    # Workers run the system checks too, as management commands do.
    BaseCommand().check()
except (CommandError, ImproperlyConfigured) as error:
    raise StartError(str(error)) from error
