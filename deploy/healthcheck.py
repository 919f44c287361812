"""Ask the service of this container for a health check: `healthcheck.py /livez`. Exits 0 for 200, otherwise 1."""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT = 3


def allowed_host() -> str:
    """Return a host that the service answers to: the first of `ALLOWED_HOSTS`."""
    file = os.environ.get("ALLOWED_HOSTS_FILE")
    hosts = Path(file).read_text() if file else os.environ["ALLOWED_HOSTS"]
    # A leading dot stands for a domain and its subdomains.
    return hosts.split(",")[0].strip().lstrip(".")


def main(path: str) -> str | None:
    """Return the problem, or None."""
    url = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}{path}"
    request = urllib.request.Request(url, headers={"Host": allowed_host()})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310 - the scheme is fixed
            return None
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode()}"
    except OSError as error:
        return f"No response: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
