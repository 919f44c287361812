"""The service's own settings, on a MongoDB that runs as long as the tests."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from core.mongodb.embedded import EmbeddedServer

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, in which mkdtemp makes a directory of this run's own
ROOM = 2 * 1024**3


def fastest_directory() -> Path | None:
    """Return a directory in memory if it has room for the tests, which empty the database thousands of times."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else None


var = Path(os.environ.setdefault("VAR_DIR", "") or tempfile.mkdtemp(prefix="driftwatch-", dir=fastest_directory()))
if not os.environ["VAR_DIR"]:
    # In the first process of the run. The processes that it starts inherit these variables.
    os.environ["VAR_DIR"] = str(var)
    atexit.register(shutil.rmtree, var, ignore_errors=True)
if "MONGODB_URI" not in os.environ:
    server = EmbeddedServer(var / "mongodb")
    server.start()
    atexit.register(server.stop)
    os.environ["MONGODB_URI"] = server.uri

os.environ["OIDC_USER_ENTITLEMENTS"] = '["users"]'
os.environ["OIDC_ADMIN_ENTITLEMENTS"] = '["admins"]'
# Tests send many requests from one address. The tests of the limits set their own.
os.environ |= dict.fromkeys(("RATE_LIMIT", "RATE_LIMIT_ANONYMOUS"), "1000000/minute")
os.environ["RATE_LIMIT_LOGIN"] = ""
# The CORS middleware is there only if this is set. Tests set other origins.
os.environ["CORS_ALLOWED_ORIGINS"] = "https://dashboard.example.org"

from driftwatch.settings import *  # noqa: E402, F403
from tests.template_variables import INVALID  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Look files up on request, because a test client need not list them all first.
WHITENOISE_AUTOREFRESH = True
# On a machine that is busy with tests, an operation may take longer than in production.
DATABASES["default"]["OPTIONS"]["timeoutMS"] = 30_000  # noqa: F405
TEMPLATES[0]["OPTIONS"]["string_if_invalid"] = INVALID  # noqa: F405
