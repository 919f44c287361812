"""`GET /experiment/{id}/export`: all runs of an experiment, as NDJSON or CSV."""

import csv
import datetime
import http.client
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.http import StreamingHttpResponse
from pymongo.database import Database

from audit.models import Event
from core.api.search_slots import slots
from core.identity import Level
from core.mongodb.documents import collection_of
from drifts import export_views, exports
from drifts.export_views import BrokenOff
from drifts.models import Drift
from experiments.models import Experiment, Permission
from tests.caller import Caller
from tests.conftest import RUN
from tests.crowd import RemoteUser

Parts = Iterator[bytes]


@pytest.fixture(autouse=True)
def free_slots() -> Iterator[None]:
    yield
    assert not +slots()._running


@pytest.fixture
def runs(experiment: Experiment) -> list[Drift]:
    """Runs in the order of their report, of which each was observed before the one before."""
    found = [
        Drift(
            experiment=experiment,
            job_status="Completed",
            model=f"forest {number}",
            parameters={"p_value": number / 100, "a.b": {"größe": number}},
            observed_at=datetime.datetime(2026, 1, 20 - number, tzinfo=datetime.UTC),
        )
        for number in range(10)
    ]
    for run in found:
        run.save()
    return found


def path_of(experiment: Experiment) -> str:
    return f"/experiment/{experiment.pk}/export"


def ids(body: bytes) -> list[str]:
    return [json.loads(line)["id"] for line in body.splitlines()]


@pytest.mark.parametrize("batch", [1, 3, 5, 10, 500])
def test_ndjson_has_each_run_on_a_line_as_the_api_shows_it_in_the_order_of_their_report(
    experiment: Experiment, runs: list[Drift], reader: Caller, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(export_views, "BATCH_SIZE", batch)
    response = reader.get(path_of(experiment))
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert response.headers["Content-Disposition"] == f'attachment; filename="drift-runs-{experiment.pk}.ndjson"'
    body = response.getvalue()
    found = reader.post(f"/experiment/{experiment.pk}/drift/search?order_by=asc", {}).json()
    assert [json.loads(line) for line in body.splitlines()] == found
    assert ids(body) == [str(run.pk) for run in runs]
    assert body.endswith(b"}\n")


def test_csv_has_a_column_for_each_parameter(experiment: Experiment, runs: list[Drift], reader: Caller) -> None:
    response = reader.get(f"{path_of(experiment)}?format=csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == f'attachment; filename="drift-runs-{experiment.pk}.csv"'
    rows = list(csv.DictReader(io.StringIO(response.getvalue().decode(), newline="")))
    assert [row["id"] for row in rows] == [str(run.pk) for run in runs]
    assert [row["parameters.p_value"] for row in rows[:3]] == ["0.0", "0.01", "0.02"]
    assert rows[3][r"parameters.a\.b.größe"] == "3"


def test_numbers_that_json_does_not_have_are_empty_or_null_in_csv(experiment: Experiment, reader: Caller) -> None:
    parameters = {"p_value": float("nan"), "scores": [float("inf"), 0.5]}
    Drift.objects.create(experiment=experiment, job_status="Completed", model="forest", parameters=parameters)
    content = reader.get(f"{path_of(experiment)}?format=csv").getvalue().decode()
    (row,) = csv.DictReader(io.StringIO(content, newline=""))
    assert row["parameters.p_value"] == ""
    assert json.loads(row["parameters.scores"]) == [None, 0.5]


@pytest.mark.parametrize(("format_", "lines"), [("ndjson", 0), ("csv", 1)])
def test_an_experiment_without_runs_has_an_empty_file(
    experiment: Experiment, reader: Caller, format_: str, lines: int
) -> None:
    assert len(reader.get(f"{path_of(experiment)}?format={format_}").getvalue().splitlines()) == lines


def test_older_records_are_exported_too(experiment: Experiment, runs: list[Drift], reader: Caller) -> None:
    collection_of(Drift).update_many(
        {}, {"$set": {"schema_version": "1.0.0"}, "$unset": {"observed_at": "", "series": ""}}
    )
    first = json.loads(reader.get(path_of(experiment)).getvalue().splitlines()[0])
    assert first["observed_at"] == first["created_at"]


def test_runs_of_other_experiments_and_later_ones_are_left_out(
    experiment: Experiment, runs: list[Drift], reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Experiment.objects.create(name="beer")
    Drift.objects.create(experiment=other, job_status="Running", model="m")
    monkeypatch.setattr(export_views, "BATCH_SIZE", 2)
    response = reader.get(path_of(experiment))
    time.sleep(0.002)
    Drift.objects.create(experiment=experiment, job_status="Running", model="late")
    assert ids(response.getvalue()) == [str(run.pk) for run in runs]


def test_an_unknown_format_is_refused_with_the_choices(experiment: Experiment, reader: Caller) -> None:
    refused = reader.get(f"{path_of(experiment)}?format=xml")
    assert refused.status_code == 422
    assert refused.json()["errors"] == {"query": {"format": ["Choose one of: ndjson, csv."]}}


@pytest.mark.parametrize("accept", ["text/csv", "application/json", "image/png"])
def test_the_accept_header_makes_no_difference(experiment: Experiment, reader: Caller, accept: str) -> None:
    response = reader.get(path_of(experiment), headers={"Accept": accept})
    assert response.headers["Content-Type"] == "application/x-ndjson"
    response.close()


def test_a_table_that_is_too_large_is_refused_with_advice(
    experiment: Experiment, runs: list[Drift], reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as narrow:
        narrow.setattr(exports, "MAX_COLUMNS", 1)
        refused = reader.get(f"{path_of(experiment)}?format=csv")
    assert refused.status_code == 422
    assert refused.json()["errors"]["query"]["format"] == [export_views.TOO_LARGE]
    monkeypatch.setattr(export_views, "SECONDS_FOR_COLUMNS", -1)
    assert reader.get(f"{path_of(experiment)}?format=csv").status_code == 422
    assert reader.get(path_of(experiment)).getvalue()


def test_the_time_for_the_columns_is_the_same_if_all_runs_are_read_twice(
    experiment: Experiment, runs: list[Drift], reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Too many objects in lists for columns of their own: the runs are read again, and each list is one cell.
    Drift.objects.create_in(experiment, **RUN, parameters={"list": [{"p": number} for number in range(10)]})
    monkeypatch.setattr(exports, "MAX_COLUMNS", 8)
    assert b'{""p"": 9}]' in reader.get(f"{path_of(experiment)}?format=csv").getvalue()
    seconds, read = 0, export_views.Export.batches

    def read_slowly(*args: Any) -> Iterator[Any]:
        nonlocal seconds
        seconds += 25
        return read(*args)

    monkeypatch.setattr(export_views.Export, "batches", read_slowly)
    monkeypatch.setattr(export_views, "time", SimpleNamespace(monotonic=lambda: seconds))
    assert reader.get(f"{path_of(experiment)}?format=csv").status_code == 422


def test_head_reads_no_run(experiment: Experiment, runs: list[Drift], reader: Caller) -> None:
    response = reader.request("HEAD", path_of(experiment))
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert response.getvalue() == b""
    assert not Event.objects.filter(action="exported").exists()


def test_an_export_is_recorded_unless_nobody_made_it(
    public: Experiment, runs: list[Drift], reader: Caller, anonymous: Caller
) -> None:
    anonymous.get(path_of(public)).getvalue()
    assert not Event.objects.filter(action="exported").exists()
    reader.get(f"{path_of(public)}?format=csv").getvalue()
    event = Event.objects.filter(action="exported").get()
    assert (str(event.actor), event.experiment_id) == ("reader@example.org", public.pk)
    assert event.after == {"file": f"drift-runs-{public.pk}.csv", "drift_runs": 10}


def revoke(experiment: Experiment) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(permissions=[Permission(entity="others", level=Level.READ)])


@pytest.mark.parametrize("end", [lambda experiment: experiment.delete(), revoke], ids=["deletion", "revocation"])
@pytest.mark.parametrize("format_", ["ndjson", "csv"])
def test_an_export_is_broken_off_once_the_caller_may_not_read_it(
    experiment: Experiment,
    runs: list[Drift],
    reader: Caller,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Experiment], Any],
    format_: str,
) -> None:
    monkeypatch.setattr(export_views, "BATCH_SIZE", 2)
    monkeypatch.setattr(export_views, "PART_BYTES", 1)
    response = reader.get(f"{path_of(experiment)}?format={format_}")
    parts: Parts = response.streaming_content
    assert next(parts)
    end(experiment)
    with pytest.raises(BrokenOff, match="deleted while it was exported, or its permissions changed"):
        b"".join(parts)
    response.close()


def test_an_export_whose_client_is_too_slow_is_broken_off(
    experiment: Experiment, runs: list[Drift], reader: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_views, "LONGEST_EXPORT", -1)
    response = reader.get(path_of(experiment))
    with pytest.raises(BrokenOff, match="has not read the export"):
        response.getvalue()
    response.close()


def test_the_page_of_an_experiment_with_runs_links_to_its_exports(public: Experiment, anonymous: Caller) -> None:
    page = f"/experiments/{public.pk}"
    assert "/export" not in anonymous.client.get(page).content.decode()
    Drift.objects.create(experiment=public, job_status="Running", model="m")
    links = re.findall(r'href="(/api/v1/[^"]*/export[^"]*)" download', anonymous.client.get(page).content.decode())
    assert links == [f"/api/v1{path_of(public)}?format=csv", f"/api/v1{path_of(public)}"]
    for link in links:
        assert b"Running" in anonymous.client.get(link).getvalue()


# Exports at once.


def test_few_exports_run_at_once_and_searches_go_on(
    public: Experiment, runs: list[Drift], reader: Caller, manager: Caller, anonymous: Caller
) -> None:
    path = path_of(public)
    with ExitStack() as stack:
        for number in range(2):
            response: StreamingHttpResponse = reader.get(path, REMOTE_ADDR=f"192.0.2.{number}")
            assert response.status_code == 200
            stack.callback(response.close)
        refused = reader.get(path, REMOTE_ADDR="192.0.2.9")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
        assert refused.json()["message"].startswith("You run too many exports at once.")
        # Searches have slots of their own.
        assert reader.post(f"/experiment/{public.pk}/drift/search", {}).status_code == 200
        for number in range(2, 4):
            response = anonymous.get(path, REMOTE_ADDR=f"192.0.2.{number}")
            stack.callback(response.close)
        assert "Callers without a token run" in anonymous.get(path, REMOTE_ADDR="192.0.2.8").json()["message"]
        assert "The service runs" in manager.get(path, REMOTE_ADDR="192.0.2.7").json()["message"]
    assert len(ids(reader.get(path).getvalue())) == 10


def test_a_refused_export_frees_its_slot(experiment: Experiment, runs: list[Drift], reader: Caller) -> None:
    for _ in range(5):
        assert reader.get(f"{path_of(experiment)}?format=xml").status_code == 422


# Behind gunicorn.


def test_a_broken_export_is_told_from_a_whole_one(remote_user: RemoteUser, stored: Database[dict[str, Any]]) -> None:
    """A client reports an incomplete response, because the last chunk is missing."""
    experiment = remote_user.call("POST", "/experiment", {"name": "to be deleted"}).json()
    run = {"job_status": "Running", "model": "m", "parameters": {"text": "x" * 50_000}}
    for _ in range(4):
        bulk = remote_user.call("POST", f"/experiment/{experiment['id']}/drift/bulk", [run] * 100)
        assert bulk.status_code == 201
    address = urlsplit(f"{remote_user.api}/experiment/{experiment['id']}/export")
    assert address.hostname

    def exported() -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        connection.request("GET", address.path, headers=dict(remote_user.authorization))
        return connection, connection.getresponse()

    connection, response = exported()
    with closing(connection):
        assert len(response.read().splitlines()) == 400
    connection, response = exported()
    with closing(connection):
        # The sockets hold less than the export has.
        assert response.read(1_000)
        assert remote_user.call("DELETE", f"/experiment/{experiment['id']}").status_code == 204
        with pytest.raises(http.client.IncompleteRead):
            response.read()
