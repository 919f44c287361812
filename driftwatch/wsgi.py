"""The WSGI entry point: `gunicorn -c deploy/gunicorn.conf.py driftwatch.wsgi`."""

import os

from django.core.management.base import BaseCommand
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "driftwatch.settings")
application = get_wsgi_application()
# Workers run the system checks too, as management commands do.
BaseCommand().check()
