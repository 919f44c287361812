#!/usr/bin/env python
"""Django's command line: `./manage.py help` lists the commands."""

import os
import sys

import pymongo
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError
from pymongo.errors import PyMongoError


def main() -> None:
    """Run the command. A failure that its operator can mend ends it with a sentence, not with a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "driftwatch.settings")
    try:
        # A command may take longer than a request: it builds indexes, for example.
        with pymongo.timeout(0):
            execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    except (DatabaseError, PyMongoError) as error:
        from driftwatch.failures import sentence  # noqa: PLC0415 - it needs the settings

        if message := sentence(error):
            sys.exit(message)
        raise


if __name__ == "__main__":
    main()
