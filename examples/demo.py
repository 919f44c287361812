"""A tour of Drift Watch: run real drift detectors, report every run, then ask what drifted.

`make run` in one terminal, `make demo` in another. Three models are watched, batch by batch:

* `digits-clean-scanner` reads handwritten digits. A Kolmogorov-Smirnov test compares each batch of
  images with those it was trained on, and finds nothing, as it should.
* `digits-dusty-scanner` reads the same images with noise on them, from batch 5 on and growing. One
  batch is damaged: the detector refuses it, and its run is recorded as Failed.
* `water-flow-forecast` expects through a pipeline what flowed a day earlier. ADWIN watches its error
  over two real months with three episodes of water loss or maintenance, and no artificial change.

Each batch becomes one drift run, reported through the published client, `drift-monitor`. Each run of
this program makes an experiment of its own, named after the time, so that one never blurs another.

Environment: `DRIFT_MONITOR_URL` is the service's address (default: this machine, at `PORT` or 8000).
`DRIFT_WATCH_TOKEN` is a bearer token; without it, `manage.py token` makes one.
"""

import datetime
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import numpy as np
import requests
from mytoken import mytoken_server
from numpy.typing import NDArray
from river.datasets import WaterFlow
from river.drift import ADWIN
from scipy.stats import ks_2samp
from sklearn.datasets import load_digits
from tqdm import tqdm

if TYPE_CHECKING:
    from drift_monitor import DriftMonitor

ROOT = Path(__file__).resolve().parent.parent
URL = os.environ.get("DRIFT_MONITOR_URL", f"http://localhost:{os.environ.get('PORT', '8000')}").rstrip("/")
API = f"{URL}/api/v1"
TIMEOUT_SECONDS = 10
DAY = datetime.timedelta(days=1)

Batch = NDArray[np.float64]
Finding = tuple[bool, dict[str, Any]]
"""Whether drift was detected, and the figures behind that: any JSON, numpy values included."""


class DamagedBatch(Exception):
    """The batch cannot be compared with anything."""


# The detectors. Each is called with one batch after the other.


class KolmogorovSmirnov:
    """Tells whether inputs still look like the training data, by a two-sample test for each feature.

    With the Bonferroni correction: drift is detected when some p-value is below `alpha` divided by
    the number of features, so that a clean batch raises a false alarm with probability `alpha` at most.
    """

    name = "ks-bonferroni"

    def __init__(self, training: Batch, alpha: float = 0.01) -> None:
        self.training = training
        self.alpha = alpha

    def __call__(self, batch: Batch) -> Finding:
        if np.isnan(batch).any():
            raise DamagedBatch(f"{np.isnan(batch).any(axis=1).sum()} images of {len(batch)} have missing pixels.")
        statistics, p_values = ks_2samp(self.training, batch, axis=0)
        threshold = self.alpha / len(p_values)
        most_changed = p_values.argmin()
        return p_values.min() < threshold, {
            "threshold": threshold,
            "changed_pixels": np.flatnonzero(p_values < threshold),
            "most_changed": {
                "pixel": most_changed,
                "statistic": statistics[most_changed],
                "p_value": p_values[most_changed],
            },
        }


class AdaptiveWindow:
    """Tells whether a model's error changed, by ADWIN (Bifet and Gavaldà, 2007). It remembers earlier batches."""

    name = "adwin"

    def __init__(self) -> None:
        self.adwin = ADWIN(clock=1)

    def __call__(self, batch: Batch) -> Finding:
        changes = [position for position, error in enumerate(batch) if self.changes_with(error)]
        return bool(changes), {
            "delta": self.adwin.delta,
            "changed_at": changes,
            "window": {"length": self.adwin.width, "mean_error": self.adwin.estimation},
        }

    def changes_with(self, error: float) -> bool:
        self.adwin.update(error)
        return self.adwin.drift_detected


# What they look at.


class Watched(NamedTuple):
    """A model, the detector that watches it, and what the detector gets to see, in batches with labels."""

    model: str
    detector: KolmogorovSmirnov | AdaptiveWindow
    batches: list[tuple[str, Batch]]


def watched_models() -> list[Watched]:
    training, *clean = digits()
    return [
        Watched("digits-clean-scanner", KolmogorovSmirnov(training), labelled(clean)),
        Watched("digits-dusty-scanner", KolmogorovSmirnov(training), labelled(with_dust(clean))),
        Watched("water-flow-forecast", AdaptiveWindow(), list(forecast_errors_by_day())),
    ]


def digits() -> list[Batch]:
    """597 images of 8 by 8 pixels with values from 0 to 16, as training data, then 12 batches of 100.

    They are shuffled, because the data set is sorted by writer: that alone would be drift.
    """
    images = np.random.default_rng(seed=0).permutation(load_digits().data)
    return [images[:597], *np.split(images[597:], 12)]


def with_dust(batches: list[Batch]) -> list[Batch]:
    """The batches with noise on their pixels, which begins with the fifth and grows; the eleventh is damaged."""
    random = np.random.default_rng(seed=0)
    strengths = [0.15 * max(0, number - 4) for number in range(1, len(batches) + 1)]
    dusty = [
        np.clip(np.rint(batch + random.normal(0, strength, batch.shape)), 0, 16)
        for batch, strength in zip(batches, strengths, strict=True)
    ]
    dusty[10][:30] = np.nan
    return dusty


def labelled(batches: list[Batch]) -> list[tuple[str, Batch]]:
    return [(f"batch {number}", batch) for number, batch in enumerate(batches, start=1)]


def forecast_errors_by_day() -> Iterator[tuple[str, Batch]]:
    """By how many litres per second the flow of each hour differs from that of the same hour the day before."""
    flow = {when["Time"]: litres for when, litres in WaterFlow()}
    times = [time for time in flow if time - DAY in flow]
    for date, hours in groupby(times, key=datetime.datetime.date):
        yield str(date), np.array([abs(flow[time] - flow[time - DAY]) for time in hours])


# Reporting, through the published client.


def report_all(token: str, models: list[Watched]) -> str:
    """Make an experiment, report a run for every batch of every model, and return the experiment's id."""
    with mytoken_server(lambda _: token) as mytoken_url:
        os.environ |= {"DRIFT_MONITOR_URL": URL, "DRIFT_MONITOR_MYTOKEN": "demo", "MYTOKEN_SERVER": mytoken_url}
        # The client reads these variables, and calls the mytoken server, when it is imported.
        from drift_monitor import DriftMonitor, new_experiment, register  # noqa: PLC0415

        register(accept_terms=True)
        name = f"Demo of {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
        experiment = new_experiment(name, "Three models, two detectors, real data.", public=True)
        with tqdm(total=sum(len(watched.batches) for watched in models), unit=" runs") as progress:
            for model, detector, batches in models:
                progress.set_description(model)
                for label, batch in batches:
                    report(DriftMonitor(name, model, tags=[detector.name, label]), detector, batch)
                    progress.update()
    return str(experiment.id)


def report(monitor: "DriftMonitor", detector: Callable[[Batch], Finding], batch: Batch) -> None:
    """One drift run: Running while the detector works, then Completed with what it found, or Failed."""
    try:
        with monitor:
            monitor(*detector(batch))
    except DamagedBatch as error:
        tqdm.write(f"A run failed, and is recorded as Failed: {error}")


# Asking, over plain REST.


def print_drifted_models(token: str, experiment_id: str) -> None:
    """Which models drifted, and since when? Oldest run first, so that a model's first is where its drift began."""
    runs = Counter(run["model"] for run in search(token, experiment_id, {}))
    failed = Counter(run["model"] for run in search(token, experiment_id, {"job_status": "Failed"}))
    drifted: dict[str, list[dict[str, Any]]] = {model: [] for model in runs}
    for run in search(token, experiment_id, {"verdict": "drift"}):
        drifted[run["model"]].append(run)

    print(f"\n{'model':<22}{'runs':>6}{'drift':>7}{'failed':>8}  drifting since")
    for model, found in drifted.items():
        detector, batch = found[0]["tags"] if found else (None, None)
        since = f"{batch}, found by {detector}" if found else "never"
        print(f"{model:<22}{runs[model]:>6}{len(found):>7}{failed[model]:>8}  {since}")
    print(f"\nThe experiment: {API}/experiment/{experiment_id}")


def search(token: str, experiment_id: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The experiment's runs that match a MongoDB-style filter, oldest first, fetched page by page."""
    parameters = {"sort_by": "created_at", "order_by": "asc", "page_size": "100"}
    page = 1
    while page:
        response = requests.post(
            f"{API}/experiment/{experiment_id}/drift/search",
            json=query,
            params={**parameters, "page": str(page)},
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
        )
        response.raise_for_status()
        yield from response.json()
        page = json.loads(response.headers["X-Pagination"]).get("next_page", 0)


# Getting ready.


def check_service() -> None:
    try:
        ready = requests.get(f"{URL}/readyz", timeout=TIMEOUT_SECONDS)
    except requests.RequestException:
        sys.exit(f"No service answers at {URL}. Start one with `make run`, or name another in DRIFT_MONITOR_URL.")
    if not ready.ok:
        sys.exit(f"What answers at {URL} is no Drift Watch that is ready; look at {URL}/readyz.")


def new_token() -> str:
    """A token of the service of this checkout. It must run on the same database and secret as `manage.py` does."""
    command = [str(ROOT / ".venv/bin/python"), "manage.py", "token", "demo@example.org"]
    try:
        made = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    except OSError as error:
        sys.exit(f"{error}. `make run` installs the service; or give a token in DRIFT_WATCH_TOKEN.")
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
        sys.exit(f"`manage.py token` failed; give a token in DRIFT_WATCH_TOKEN instead. {reason}")
    return made.stdout.strip()


def explanation(error: requests.RequestException) -> str:
    """What went wrong; the service itself says it best, in the `message` of its answer."""
    if error.response is None:
        return f"{URL} does not answer any more: {error}"
    try:
        return f"{URL} refused: {error.response.json()['message']}"
    except (ValueError, KeyError):
        return str(error)


def main() -> None:
    check_service()
    token = os.environ.get("DRIFT_WATCH_TOKEN") or new_token()
    try:
        experiment_id = report_all(token, watched_models())
        print_drifted_models(token, experiment_id)
    except jwt.DecodeError:
        sys.exit("DRIFT_WATCH_TOKEN does not hold a token: a JWT, three parts with dots between them.")
    except requests.RequestException as error:
        sys.exit(explanation(error))


if __name__ == "__main__":
    main()
