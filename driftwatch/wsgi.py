"""The WSGI entry point: `gunicorn -c deploy/gunicorn.conf.py driftwatch.wsgi`."""

import os

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.core.wsgi import get_wsgi_application
from gunicorn.errors import AppImportError  # type: ignore[import-untyped]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "driftwatch.settings")
try:
    application = get_wsgi_application()
    # Workers run the system checks too, as management commands do.
    BaseCommand().check()
except (CommandError, ImproperlyConfigured) as error:
    # gunicorn prints the message of this exception without a traceback, and ends.
    raise AppImportError(str(error)) from error
