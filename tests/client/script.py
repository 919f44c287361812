"""Scenarios with the published client: `python script.py <scenario>` prints the results as JSON.

The script runs in the client's own environment, where the service and pytest are not installed.
`tests/test_published_client.py` has the expected results.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import requests
from drift_monitor import DriftMonitor, find_experiment, models, new_experiment, queries, register
from drift_monitor.config import access_token, settings

Facts = dict[str, Any]
Record = models.Experiment | models.Drift | models.User


def registration() -> Facts:
    return {
        "terms_not_accepted": refusal(register),
        "registered": register(accept_terms=True),
        "user": of(queries.self_user()),
    }


def users() -> Facts:
    return {
        "posted": of(queries.post_user()),
        "posted_again": refusal(queries.post_user),
        "self": of(queries.self_user()),
        "updated": of(queries.update_user()),
        "entitlements": queries.get_entitlements(),
        "searched": refusal(queries.search_user, {}),
    }


def administration() -> Facts:
    register(accept_terms=True)
    found, pagination = queries.search_user({"subject": {"$in": ["administrator", "nobody"]}})
    return {"found": of_each(found), "pagination": json.loads(pagination)}


def experiments() -> Facts:
    register(accept_terms=True)
    readers = [{"entity": "tasters", "level": "Read"}]
    made = new_experiment("wine", "White wines", permissions=readers)
    posted = queries.post_experiment({"name": "beer", "public": True})
    facts = {
        "user": of(queries.self_user()),
        "made": of(made),
        "posted": of(posted),
        "made_again": refusal(new_experiment, "wine", "Red wines"),
        "posted_again": refusal(queries.post_experiment, {"name": "wine"}),
        "got": of(queries.get_experiment(made.id)),
        "found": of(find_experiment("wine")),
    }
    page, pagination = queries.search_experiment({"name": {"$in": ["wine", "beer"]}}, page=2, page_size=1)
    facts |= {"second_page": of_each(page), "pagination": json.loads(pagination)}
    made.description = "White wines of two years"
    facts["put"] = of(queries.put_experiment(made))
    facts["deleted"] = queries.delete_experiment(made.id)
    facts["got_deleted"] = refusal(queries.get_experiment, made.id)
    facts["found_deleted"] = queries.search_experiment({"name": "wine"})[0]
    return facts


def monitored_runs() -> Facts:
    register(accept_terms=True)
    experiment = {"id": new_experiment("monitored", "").id}
    figures = {
        "p_value": np.float64(0.003),
        "window": np.int64(500),
        "rejected": np.bool_(True),
        "features": {"statistics": np.array([[0.25, 0.5], [0.75, 1.0]]), "order": [np.int32(2), np.int32(1)]},
    }
    with DriftMonitor("monitored", "forest", tags=["nightly"]) as monitor:
        running, _ = queries.search_drift(experiment, {})
        monitor(np.bool_(True), figures)
    with contextlib.suppress(ZeroDivisionError), DriftMonitor("monitored", "network") as monitor:
        monitor(True, {"epochs": 3})
        raise ZeroDivisionError
    return {
        "running": of_each(running),
        "completed": of_each(queries.search_drift(experiment, {"job_status": "Completed"})[0]),
        "failed": of_each(queries.search_drift(experiment, {"job_status": "Failed"})[0]),
        "drifted": of_each(queries.search_drift(experiment, {"verdict": "drift"})[0]),
    }


def mapped_runs() -> Facts:
    register(accept_terms=True)
    experiment = new_experiment("mapped", "")
    # The client has no name for a field map: a manager sets it once, by any other means.
    field_map = {
        "p_value": "parameters.p_value",
        "detector": "parameters.detector",
        "sample_size": "parameters.window.size",
        "observed_at": "parameters.day",
    }
    requests.patch(
        f"{settings.monitor_url}/experiment/{experiment.id}",
        json={"field_map": field_map},
        headers={"Authorization": f"Bearer {access_token()}"},
        timeout=30,
    ).raise_for_status()
    with DriftMonitor("mapped", "forest") as monitor:
        monitor(
            True,
            {"p_value": np.float64(0.003), "detector": "ks", "window": {"size": np.int64(500)}, "day": "2026-01-31"},
        )
    of_experiment = {"id": experiment.id}
    [reported], _ = queries.search_drift(of_experiment, {"p_value": {"$lt": 0.05}, "detector": "ks"})
    facts = {"reported": of(reported)}
    # The client sends back what it knows of a run, and its parameters are others now.
    reported.parameters = {"p_value": "tiny", "window": {"size": 20}}
    facts["put"] = of(queries.put_drift(experiment, reported))
    with DriftMonitor("mapped", "forest"):
        pass
    facts["unsupported"] = of_each(queries.search_drift(of_experiment, {"unsupported": True})[0])
    return facts


def drift_runs() -> Facts:
    register(accept_terms=True)
    experiment = new_experiment("drift runs", "")
    attributes = {"job_status": "Running", "model": "forest", "tags": ["nightly"]}
    posted = queries.post_drift(experiment, attributes)
    other = queries.post_drift(experiment, attributes | {"job_status": "Failed"})
    facts = {
        "posted": of(posted),
        "got": of(queries.get_drift(experiment, posted.id)),
    }
    posted.job_status = "Completed"
    posted.drift_detected = True
    posted.parameters = {"p_value": 0.003}
    facts["put"] = of(queries.put_drift(experiment, posted))
    of_experiment = {"id": experiment.id}
    found, pagination = queries.search_drift(of_experiment, {"parameters.p_value": {"$lt": 0.05}}, page_size=5)
    facts |= {"found": of_each(found), "pagination": json.loads(pagination)}
    facts["deleted"] = queries.delete_drift(of_experiment, other.id)
    facts["got_deleted"] = refusal(queries.get_drift, experiment, other.id)
    facts["left"] = [drift.id for drift in queries.search_drift(of_experiment, {})[0]]
    return facts


def refusal(call: Callable[..., object], *arguments: object) -> int | str:
    """The HTTP status of a refused call, or the client's own message."""
    try:
        call(*arguments)
    except requests.HTTPError as error:
        return error.response.status_code
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{call.__name__}{arguments} was not refused.")


def of_each(records: Iterable[Record]) -> list[Facts]:
    return [of(record) for record in records]


def of(record: Record) -> Facts:
    """The fields of a record at this moment."""
    return dict(vars(record))


SCENARIOS = (registration, users, administration, experiments, monitored_runs, mapped_runs, drift_runs)

if __name__ == "__main__":
    scenario = {function.__name__: function for function in SCENARIOS}[sys.argv[1]]
    print(json.dumps(scenario()))
