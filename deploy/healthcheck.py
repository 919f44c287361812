"""Ask the service of this container for a health check: `healthcheck.py /livez`. Exits 0 for 200, otherwise 1."""

import os
import sys
import urllib.error
import urllib.request

TIMEOUT = 3


def main(path: str) -> str | None:
    """Return the problem, or None."""
    url = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}{path}"
    # The container may have the address of a proxy for other requests, in HTTP_PROXY.
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with directly.open(url, timeout=TIMEOUT):
            return None
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode()}"
    except OSError as error:
        return f"No response: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
