"""The metrics that the processes of the service count. `driftwatch/metrics.py` shows them at `/metrics`.

With `PROMETHEUS_MULTIPROC_DIR`, which `deploy/gunicorn.conf.py` sets, each process counts in files of its own there, so
that any of them can show the sums of all, and nothing is lost with a process that is killed.
"""

import threading
from itertools import product

from prometheus_client import Counter, Histogram

from core.metric_files import use_count_files

use_count_files()

# The experiments that have their own label in each process. All others share `other`, because each label costs memory
# here and in Prometheus.
MAX_EXPERIMENTS = 100
OTHER = "other"

REQUESTS = Histogram(
    "driftwatch_http_request_duration_seconds",
    "Seconds from the start of a request to its response; of a streamed response, to its end.",
    ("route", "method", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
COMMANDS = Histogram(
    "driftwatch_database_command_duration_seconds",
    "Seconds of a command to MongoDB, with those that fail.",
    ("command",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
FAILED_COMMANDS = Counter(
    "driftwatch_database_command_failures", "Commands to MongoDB that failed, by time limits too.", ("command",)
)
RUNS = Counter(
    "driftwatch_runs",
    "Runs that were stored with a known verdict or as Failed (verdict unknown), or first became so.",
    ("experiment", "verdict"),
)
FAILED_RUNS = Counter(
    "driftwatch_failed_runs", "Runs that their client reported as Failed, or whose time-out was over.", ("reason",)
)
REMOVED_RUNS = Counter("driftwatch_removed_runs", "Runs that were removed because of their age.")
FAILED_AUTHENTICATIONS = Counter(
    "driftwatch_authentication_failures", "Tokens that were refused, and logins that failed.", ("way",)
)
REFUSED_REQUESTS = Counter(
    "driftwatch_refused_requests",
    "Requests refused because of a rate limit, too many searches, a locked account, or a busy process.",
    ("reason",),
)
FILES = Counter("driftwatch_files", "Files that were added to runs.")
FILE_BYTES = Counter("driftwatch_file_bytes", "Bytes of files that were uploaded or downloaded.", ("direction",))
CACHE_REQUESTS = Counter("driftwatch_cache_requests", "Look-ups in a cache: hits and misses.", ("cache", "result"))
CACHE_FAILURES = Counter(
    "driftwatch_cache_failures", "Operations that the cache in Redis has failed, or that were left out meanwhile."
)

# Labels whose values are known exist from the start, so that a first increase is one.
for metric, label_sets in {
    REFUSED_REQUESTS: [("rate",), ("searches",), ("exports",), ("locked",), ("busy",)],
    FAILED_AUTHENTICATIONS: [("token",), ("login",)],
    FAILED_RUNS: [("reported",), ("overdue",)],
    FILE_BYTES: [("uploaded",), ("downloaded",)],
    CACHE_REQUESTS: product(
        ("identities", "statistics", "suggestions", "summaries", "totals", "userinfo"), ("hit", "miss")
    ),
}.items():
    for labels in label_sets:
        metric.labels(*labels)


class BoundedNames:
    """The first names that a process sees, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def label_of(self, name: str) -> str:
        """Return the name, or `other` for one beyond the limit."""
        with self._lock:
            if len(self._names) < self.limit:
                self._names.add(name)
            return name if name in self._names else OTHER


experiments = BoundedNames(MAX_EXPERIMENTS)


def count_run(experiment: str, verdict: str, number: int = 1) -> None:
    """Count runs that were stored with this verdict, or first got it. `experiment` is the id with dashes."""
    RUNS.labels(experiments.label_of(experiment), verdict).inc(number)


def count_look_up(cache: str, *, is_hit: bool) -> None:
    """Count a look-up in a cache."""
    CACHE_REQUESTS.labels(cache, "hit" if is_hit else "miss").inc()
