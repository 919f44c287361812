"""The service's own settings, on a MongoDB that lasts as long as the test run."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from core.mongodb.embedded import EmbeddedServer

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, in which mkdtemp makes a directory of this run's own
ROOM = 2 * 1024**3


def fastest_place() -> Path | None:
    """In memory where there is room for what the tests store: they empty the database thousands of times."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else None


var = Path(os.environ.setdefault("VAR_DIR", "") or tempfile.mkdtemp(prefix="driftwatch-", dir=fastest_place()))
if not os.environ["VAR_DIR"]:
    # This is the first process of the run; those that it starts inherit what it sets here.
    os.environ["VAR_DIR"] = str(var)
    atexit.register(shutil.rmtree, var, ignore_errors=True)
if "MONGODB_URI" not in os.environ:
    server = EmbeddedServer(var / "mongodb")
    server.start()
    atexit.register(server.stop)
    os.environ["MONGODB_URI"] = server.uri

os.environ["OIDC_USER_ENTITLEMENTS"] = '["users"]'
os.environ["OIDC_ADMIN_ENTITLEMENTS"] = '["admins"]'
# Tests send a lot from one address; those of the limits set their own.
os.environ |= dict.fromkeys(("RATE_LIMIT", "RATE_LIMIT_ANONYMOUS", "RATE_LIMIT_LOGIN"), "1000000/minute")

from driftwatch.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Files are looked up when they are asked for: a test client need not list them all first.
WHITENOISE_AUTOREFRESH = True
