"""A demo of Drift Watch: run real drift detectors, report every run, and list the models that drifted.

Start `make run` in one terminal and `make demo` in another. Detectors watch three models, batch by batch:

* `digits-clean-scanner` reads handwritten digits. A Kolmogorov-Smirnov test compares each batch of
  images with the training data. It finds no drift, which is correct.
* `digits-dusty-scanner` reads the same images with noise, which begins with batch 5 and grows. One
  batch is damaged: the detector refuses it, and its run is recorded as Failed.
* `water-flow-forecast` predicts that a pipeline's flow equals that of the day before. ADWIN watches the
  error over two real months with three episodes of water loss or maintenance, and no artificial change.

Each batch becomes one drift run, reported through the published client, `drift-monitor`. That client sends
parameters only: the field map of the experiment fills the run's detector, p-value and other fields from them.
Each start of this program creates a new experiment, named after the time.

Environment: `DRIFT_MONITOR_URL` is the service's address (default: this machine, at `PORT` or 8000).
`DRIFT_WATCH_TOKEN` is a bearer token; by default `manage.py token` makes one.
"""

import datetime
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
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

RULES = {
    "field_map": {
        "detector": "parameters.detector",
        "p_value": "parameters.most_changed.p_value",
        "sample_size": "parameters.batch.size",
        "statistic": "parameters.most_changed.statistic",
        "threshold": "parameters.threshold",
        "window_start": "parameters.batch.start",
        "window_end": "parameters.batch.end",
    },
    "series_by": ["model"],
}
"""The fields that parameters fill, empty where a path leads to nothing. A failed run has no parameters, and so no
detector; it belongs to the series of its model nevertheless."""

Batch = NDArray[np.float64]
Finding = tuple[bool, dict[str, Any]]
"""The verdict (True is drift), and its figures: any JSON, numpy values included."""


class DamagedBatch(Exception):
    """A batch that cannot be compared with the training data."""


# Detectors. Each is called with one batch after the other.


class KolmogorovSmirnov:
    """Detect inputs that differ from the training data, by a two-sample test for each feature.

    Bonferroni correction: drift is detected if any p-value is below `alpha` divided by the number of
    features. The probability of a false alarm for a clean batch is then at most `alpha`.
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
    """Detect a change of a model's error by ADWIN (Bifet and Gavaldà, 2007), which remembers earlier batches."""

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


# Data.


class Labelled(NamedTuple):
    """A batch, its label, and the day of its data if that is known."""

    label: str
    values: Batch
    day: datetime.datetime | None = None

    @property
    def described(self) -> dict[str, Any]:
        """The size of the batch and the time of its data, for the parameters of its run."""
        period = {"start": self.day.isoformat(), "end": (self.day + DAY).isoformat()} if self.day else {}
        return {"size": len(self.values), **period}


class Watched(NamedTuple):
    """A model, its detector, and the detector's input."""

    model: str
    detector: KolmogorovSmirnov | AdaptiveWindow
    batches: list[Labelled]


def watched_models() -> list[Watched]:
    training, *clean = digits()
    return [
        Watched("digits-clean-scanner", KolmogorovSmirnov(training), labelled(clean)),
        Watched("digits-dusty-scanner", KolmogorovSmirnov(training), labelled(with_dust(clean))),
        Watched("water-flow-forecast", AdaptiveWindow(), list(forecast_errors_by_day())),
    ]


def digits() -> list[Batch]:
    """597 images of 8 by 8 pixels with values from 0 to 16, as training data, then 12 batches of 100.

    The images are shuffled, because the data set is sorted by writer, which alone would be drift.
    """
    images = np.random.default_rng(seed=0).permutation(load_digits().data)
    return [images[:597], *np.split(images[597:], 12)]


def with_dust(batches: list[Batch]) -> list[Batch]:
    """The batches with noise on their pixels, from the fifth on and growing. The eleventh is damaged."""
    random = np.random.default_rng(seed=0)
    strengths = [0.15 * max(0, number - 4) for number in range(1, len(batches) + 1)]
    dusty = [
        np.clip(np.rint(batch + random.normal(0, strength, batch.shape)), 0, 16)
        for batch, strength in zip(batches, strengths, strict=True)
    ]
    dusty[10][:30] = np.nan
    return dusty


def labelled(batches: list[Batch]) -> list[Labelled]:
    return [Labelled(f"batch {number}", batch) for number, batch in enumerate(batches, start=1)]


def forecast_errors_by_day() -> Iterator[Labelled]:
    """The difference in litres per second between the flow of each hour and that of the same hour the day before."""
    flow = {when["Time"]: litres for when, litres in WaterFlow()}
    times = [time for time in flow if time - DAY in flow]
    for date, hours in groupby(times, key=datetime.datetime.date):
        errors = np.array([abs(flow[time] - flow[time - DAY]) for time in hours])
        yield Labelled(str(date), errors, datetime.datetime.combine(date, datetime.time(), datetime.UTC))


# Reports, through the published client.


def report_all(token: str, models: list[Watched]) -> str:
    """Create an experiment, report a run for every batch of every model, and return the experiment's id."""
    with mytoken_server(lambda _: token) as mytoken_url:
        os.environ |= {"DRIFT_MONITOR_URL": URL, "DRIFT_MONITOR_MYTOKEN": "demo", "MYTOKEN_SERVER": mytoken_url}
        # The client reads these variables, and calls the mytoken server, when it is imported.
        from drift_monitor import DriftMonitor, new_experiment, register  # noqa: PLC0415

        register(accept_terms=True)
        name = f"Demo of {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
        experiment = new_experiment(name, "Three models, two detectors, real data.", public=True)
        set_rules(token, str(experiment.id))
        with tqdm(total=sum(len(watched.batches) for watched in models), unit=" runs") as progress:
            for model, detector, batches in models:
                progress.set_description(model)
                for batch in batches:
                    report(DriftMonitor(name, model, tags=[detector.name, batch.label]), detector, batch)
                    progress.update()
    return str(experiment.id)


def report(monitor: "DriftMonitor", detector: KolmogorovSmirnov | AdaptiveWindow, batch: Labelled) -> None:
    """Report a drift run: Running during the detection, then Completed with the result, or Failed."""
    try:
        with monitor:
            is_drift, figures = detector(batch.values)
            monitor(is_drift, {"detector": detector.name, "batch": batch.described, **figures})
    except DamagedBatch as error:
        tqdm.write(f"A detector refused a batch; its run is recorded as Failed: {error}")


# Plain REST, for what the published client does not do.


def set_rules(token: str, experiment_id: str) -> None:
    response = requests.patch(
        f"{API}/experiment/{experiment_id}",
        json=RULES,
        headers={"Authorization": f"Bearer {token}"},
        timeout=TIMEOUT_SECONDS,
    )
    response.raise_for_status()


def print_drifted_models(token: str, experiment_id: str) -> None:
    """Print each model's first drift. Runs are read oldest first, so that the first one found is where drift began."""
    runs = Counter(run["model"] for run in search(token, experiment_id, {}))
    failed = Counter(run["model"] for run in search(token, experiment_id, {"job_status": "Failed"}))
    drifted: dict[str, list[dict[str, Any]]] = {model: [] for model in runs}
    for run in search(token, experiment_id, {"verdict": "drift"}):
        drifted[run["model"]].append(run)

    print(f"\n{'model':<22}{'runs':>6}{'drift':>7}{'failed':>8}  drifting since")
    for model, found in drifted.items():
        since = f"{found[0]['tags'][1]}, found by {found[0]['detector']}" if found else "never"
        print(f"{model:<22}{runs[model]:>6}{len(found):>7}{failed[model]:>8}  {since}")
    print(f"\nThe experiment: {URL}/experiments/{experiment_id}")


def search(token: str, experiment_id: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The experiment's runs that match a MongoDB-style filter, oldest first, read page by page."""
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


# Set-up.


def check_service() -> None:
    try:
        ready = requests.get(f"{URL}/readyz", timeout=TIMEOUT_SECONDS)
    except requests.RequestException:
        sys.exit(f"No service responds at {URL}. Start one with `make run`, or set DRIFT_MONITOR_URL to its address.")
    if not ready.ok:
        sys.exit(f"The service at {URL} is not ready, or is not Drift Watch. See {URL}/readyz for the reason.")


def new_token() -> str:
    """Make a token with `manage.py`, which must use the same database and secret as the running service."""
    command = [str(ROOT / ".venv/bin/python"), "manage.py", "token", "demo@example.org"]
    try:
        made = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    except OSError as error:
        sys.exit(f"{error}. Run `make run` first, which installs the service, or set DRIFT_WATCH_TOKEN to a token.")
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
        sys.exit(f"`manage.py token` failed: {reason} Set DRIFT_WATCH_TOKEN to a token instead.")
    return made.stdout.strip()


def explanation(error: requests.RequestException) -> str:
    """The reason of the error, from the `message` in the service's response if there is one."""
    if error.response is None:
        return f"{URL} no longer responds: {error}"
    try:
        return f"{URL} refused the request: {error.response.json()['message']}"
    except (ValueError, KeyError):
        return str(error)


def main() -> None:
    check_service()
    token = os.environ.get("DRIFT_WATCH_TOKEN") or new_token()
    try:
        experiment_id = report_all(token, watched_models())
        print_drifted_models(token, experiment_id)
    except jwt.DecodeError:
        sys.exit("DRIFT_WATCH_TOKEN is not a token. A token is a JWT: three parts separated by dots.")
    except requests.RequestException as error:
        sys.exit(explanation(error))


if __name__ == "__main__":
    main()
