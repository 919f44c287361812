"""Drift runs, and the queries of them."""

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import pymongo
from bson.raw_bson import RawBSONDocument
from django.db import models, transaction
from django_mongodb_backend.fields import ArrayField
from uuid_utils.compat import uuid7

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import Identity
from core.mongodb.documents import (
    WORK_SECONDS,
    Document,
    aggregate_one,
    collection_of,
    decoded,
    find_one,
    insert_many,
    insert_one,
    instance_of,
    instances_of,
    mongodb,
    raw_within,
)
from core.mongodb.match import Mql
from core.mongodb.order import Order
from core.mongodb.querysets import MAX_PAGE_BYTES, FilterableQuerySet, both
from core.mongodb.transaction import LONG, in_transaction
from core.tags import MAX_TAG
from core.totals import total_of
from drifts import observed, schema
from drifts.cached import SUMMARIES, drop_cached
from drifts.counts import count_end, count_outcomes
from drifts.documents import changed_document, is_same, new_document, replaced_document, update_between
from drifts.fields import MAX_NAME, MAX_NOTE
from drifts.observed import ObservedMatch
from drifts.parameters import WITHOUT_LARGE_PARAMETERS
from drifts.summaries import NEWEST, SHAPE, Summary, summaries_of
from drifts.verdict import MATCHES, JobStatus, Verdict, is_unsupported, verdict_of
from experiments.access import AccessControlled, ExperimentReference, readable_by
from experiments.models import DeletedExperiment, Experiment

# A batch takes about a third of a second. Smaller batches take longer in all, and other requests wait as long.
DELETED_AT_ONCE = 5_000
# The most runs that `DriftQuerySet.newest` sorts in memory, and the fields that begin an index after the experiment.
MAX_SORTED = 50_000
INDEXED = frozenset({"model", "job_status", "drift_detected", "tags", "detector", "environment"})
# The audit trail records all other fields of a run that is deleted. The event itself names the run and its experiment.
UNRECORDED = frozenset({"id", "experiment", "schema_version", "updated_at", "derived", "rules_version"})
# The runs that the service has made Failed (overdue.py). An older copy of the service does not clear the field when a
# client reports later, so it counts only while the run is Failed.
OVERDUE: Mql = {"job_status": JobStatus.FAILED.value, "overdue": True}


class NotRunning(Exception):
    """Raised for a heartbeat of a run that is not Running. The message is safe to show."""

    def __init__(self, job_status: str) -> None:
        super().__init__(
            f"The run is {job_status}, and only a Running run takes a heartbeat. "
            "Stop sending them, or set job_status to Running first."
        )


class DriftQuerySet(FilterableQuerySet["Drift"]):
    """Named conditions on runs."""

    # Background work moves runs in indexes, and from the runs without `observed_at` to those with it.
    needs_one_moment = True

    def visible_to(self, identity: Identity) -> Self:
        """The runs of the experiments that the identity may read. Queries the ids of these experiments first."""
        if readable_by(identity):
            return self.matching({"experiment_id": {"$in": Experiment.objects.visible_to(identity).ids()}})
        deleted = DeletedExperiment.objects.ids()
        return self.matching({"experiment_id": {"$nin": deleted}}) if deleted else self.all()

    def of(self, experiment: AccessControlled) -> Self:
        """The runs of an experiment."""
        return self.matching({"experiment_id": experiment.pk.hex})

    def with_verdict(self, verdict: Verdict) -> "DriftQuerySet":
        return self.matching(MATCHES[verdict])

    def matching(self, document: Mql) -> Self:
        """Return the runs that a match document matches. Runs without `observed_at` have their `created_at` instead."""
        return (
            self.where(ObservedMatch(document))
            if observed.names_any({observed.COLUMN}, document)
            else super().matching(document)
        )

    def sorted_slice(
        self, order: Order, limit: int, *, start: int = 0, after: Sequence[Any] | None = None, shape: Sequence[Mql] = ()
    ) -> tuple[list[Document], bool]:
        """Return the same as the base class. A sort by `observed_at` sorts runs without it by `created_at`."""
        if order.keys[0] != observed.COLUMN:
            runs = observed.for_other_sorts(self)
            if order.keys[0] == "schema_version":
                return runs._slice_by_version(order, limit, start, after, shape)
            return super(DriftQuerySet, runs).sorted_slice(order, limit, start=start, after=after, shape=shape)
        if not self.has_older_records():
            with_time = observed.of_kind(self, with_time=True)
            return super(DriftQuerySet, with_time).sorted_slice(order, limit, start=start, after=after, shape=shape)
        pipeline = observed.first_of_both(self, order, start + limit, after, shape)
        return self.page_of([*pipeline, {"$skip": start}, {"$limit": limit}])

    def bulk_create(self, objs: Iterable["Drift"], *args: Any, **options: Any) -> list["Drift"]:
        """Store new runs with their derived fields, for shells."""
        runs = list(objs)
        if runs:
            documents = [run.new_document() for run in runs]
            insert_many(self.model, documents)
            count_outcomes(documents)
            for experiment_id in {run.experiment_id for run in runs}:
                drop_cached(experiment_id)
            for run, stored in zip(runs, instances_of(self.model, documents), strict=True):
                vars(run).update(vars(stored))
        return runs

    def time_expression(self) -> Any:
        """Return the aggregation expression of the time of these runs.

        `observed.EXPRESSION` makes statistics take a third longer, so runs of schema 1.1.0 do without it.
        """
        return observed.EXPRESSION if self.has_older_records() else f"${observed.COLUMN}"

    def has_older_records(self) -> bool:
        """Return whether one of the runs has no `observed_at`.

        Reads one key of an index for each experiment. The runs of all experiments are read one by one.
        """
        older = observed.of_kind(self, with_time=False)
        return bool(older.aggregated({"$limit": 1}, {"$project": {"_id": 1}}))

    def _slice_by_version(
        self, order: Order, limit: int, start: int, after: Sequence[Any] | None, shape: Sequence[Mql]
    ) -> tuple[list[Document], bool]:
        """Return a slice in the order of the schema version, which no index serves: all runs are sorted in memory.

        MongoDB would first try to sort by each index of the experiment: 5 s instead of 1.8 s for 1,000,000 runs. After
        a position, the runs of the same version come first, by an index, and mostly fill the page.
        """
        found: list[RawBSONDocument] = []
        room, is_cut = MAX_PAGE_BYTES, False
        for at in order.after(after) if after is not None else [{}]:
            # All runs of such a range have the same version.
            sort = {name: way for name, way in order.sort.items() if not isinstance(at.get(name), str)}
            skip: list[Mql] = [{"$skip": start}] if start else []
            end: list[Mql] = [{"$sort": sort}, *skip, {"$limit": limit - len(found)}, *shape]
            pipeline = [{"$match": self.match_document(at)}, *end]
            more, is_cut = raw_within(
                self.model, pipeline, room, needs_one_moment=self.needs_one_moment, hint="drift_newest"
            )
            room -= sum(len(run.raw) for run in more)
            # The first run of a range is read whatever its size, but only the first one of the page is returned so.
            if found and room < 0:
                is_cut = True
                break
            found += more
            if is_cut or len(found) == limit:
                break
        return decoded([run.raw for run in found]), is_cut

    def newest(self, limit: int, *shape: Mql) -> list[Document]:
        """Return the newest runs by `observed_at`, changed by stages that keep `observed_at`.

        No index serves this order for the runs of a model, a status or a tag. MongoDB would read the runs of all models
        until it has found enough. Up to `MAX_SORTED` runs are rather sorted in memory: for the 3,300 runs of a model
        among 100,000, this takes 0.02 s instead of 0.12 s.
        """
        if self._has_indexed_condition() and self.count_up_to(MAX_SORTED + 1) <= MAX_SORTED:
            time: Mql = {"$set": {observed.COLUMN: observed.EXPRESSION}}
            return self.bounded(time, *shape, {"$sort": observed.NEWEST_OBSERVED.sort}, {"$limit": limit})[0]
        return self.sorted_slice(observed.NEWEST_OBSERVED, limit, shape=shape)[0]

    def _has_indexed_condition(self) -> bool:
        """Return whether each run has to match a condition on a field by which an index of its own finds runs."""
        alternatives, conditions = self._compiled
        return all(observed.names_any(INDEXED, both(each, *conditions), ("$and",)) for each in alternatives)


BaseDriftManager = models.Manager.from_queryset(DriftQuerySet)


class DriftManager(BaseDriftManager["Drift"]):
    """Hot queries on runs bypass querysets: reading a run by its id takes 0.4 ms instead of 1.0 ms."""

    def summaries_of(self, experiments: Sequence[uuid.UUID]) -> dict[uuid.UUID, Summary]:
        """Map each experiment to the number of its runs and the verdicts of its newest runs. Summaries are cached."""
        return SUMMARIES.get_many(experiments, self._made_summaries)

    def _made_summaries(self, experiments: Sequence[uuid.UUID]) -> dict[uuid.UUID, Summary]:
        summaries = summaries_of(self.model, experiments)
        for experiment, summary in summaries.items():
            if summary.has_older_records:
                runs = DriftQuerySet(self.model).matching({"experiment_id": experiment.hex})
                summary.take(runs.newest(NEWEST, SHAPE))
        return summaries

    def count_of(self, experiment_id: uuid.UUID) -> int:
        """The number of runs of an experiment, read from an index alone."""
        of_experiment = {"experiment_id": experiment_id.hex}
        with pymongo.timeout(WORK_SECONDS):
            return collection_of(Drift).count_documents(of_experiment, session=mongodb().session)

    def total_in(self, experiment_id: uuid.UUID) -> int:
        """The number of runs of an experiment, or a lower bound of it: a count of millions would take seconds."""
        return total_of(DriftQuerySet(self.model).matching({"experiment_id": experiment_id.hex})).number

    def delete_of(self, experiment_id: uuid.UUID, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Delete the runs of a deleted experiment in batches, because all may be too many for one transaction.

        Return whether all are deleted: `should_stop` is called before each batch, and ends it.
        """
        runs, of_experiment = collection_of(Drift), {"experiment_id": experiment_id.hex}
        found = (run["_id"] for run in runs.find(of_experiment, {"_id": 1}, batch_size=DELETED_AT_ONCE))
        while not should_stop():
            with pymongo.timeout(WORK_SECONDS):
                if not (ids := list(islice(found, DELETED_AT_ONCE))):
                    return True
                runs.delete_many({**of_experiment, "_id": {"$in": ids}})
        return False

    def with_experiment(
        self, experiment_id: uuid.UUID, drift_id: uuid.UUID
    ) -> "tuple[ExperimentReference | None, Drift | None]":
        """Read the reference to an experiment and one of its runs in one query. None stands for a missing one.

        A transaction takes two queries, because sharded clusters refuse `$lookup` into the runs (error 3904800).
        """
        if mongodb().in_atomic_block_mongo:
            experiment = Experiment.objects.reference_to(experiment_id)
            return experiment, self.one_of(experiment, drift_id) if experiment else None
        run = {"_id": drift_id.hex, "experiment_id": experiment_id.hex}
        runs = {"from": Drift._meta.db_table, "pipeline": [{"$match": run}], "as": "runs"}
        project = {"$project": ExperimentReference.PROJECTION}
        found = aggregate_one(Experiment, [{"$match": {"_id": experiment_id.hex}}, project, {"$lookup": runs}])
        if found is None:
            return None, None
        return ExperimentReference.of(found), next(instances_of(Drift, found["runs"]), None)

    def one_of(self, experiment: AccessControlled, drift_id: uuid.UUID) -> "Drift | None":
        """The run of an experiment with this id, or None."""
        document = find_one(Drift, {"_id": drift_id.hex, "experiment_id": experiment.pk.hex})
        return instance_of(Drift, document) if document else None

    def has(self, experiment_id: uuid.UUID, drift_id: uuid.UUID) -> bool:
        """Return whether the experiment has a run with this id."""
        run = {"_id": drift_id.hex, "experiment_id": experiment_id.hex}
        return find_one(Drift, run, projection={"_id": 1}) is not None

    def one_to_show(self, experiment: AccessControlled, drift_id: uuid.UUID) -> "Drift | None":
        """The same run for a page: `parameters` is None if they are too large to show."""
        run = self.of(experiment).matching({"_id": drift_id.hex})
        return next(instances_of(Drift, run.aggregated(WITHOUT_LARGE_PARAMETERS)), None)

    def heartbeat(self, experiment: AccessControlled, drift_id: uuid.UUID) -> None:
        """Store the time, by the database's clock, as that of a sign of life of a Running run.

        Neither `updated_at` nor an index changes. Raises `NotRunning`, and `DoesNotExist` without such a run.
        """
        run = {"_id": drift_id.hex, "experiment_id": experiment.pk.hex}
        running = {**run, "job_status": JobStatus.RUNNING.value}
        written = collection_of(Drift).update_one(running, [{"$set": {"heartbeat_at": "$$NOW"}}])
        if not written.matched_count:
            if (stored := find_one(Drift, run, projection={"job_status": 1})) is None:
                raise Drift.DoesNotExist
            raise NotRunning(stored["job_status"])
        drop_cached(experiment.pk)

    def create_in(self, experiment: AccessControlled, **fields: Any) -> "Drift":
        """Store a new run with these validated fields."""
        document = new_document(experiment, fields)
        insert_one(Drift, document)
        count_outcomes([document])
        drop_cached(experiment.pk)
        return instance_of(Drift, document)

    def create_all_in(self, experiment: AccessControlled, runs: Iterable[Mapping[str, Any]]) -> list[uuid.UUID]:
        """Store new runs, all or none, and return their ids in the same order.

        Storing many runs takes time. If the experiment is deleted meanwhile, the runs are removed again, and
        `Experiment.DoesNotExist` is raised.
        """
        documents = [new_document(experiment, fields) for fields in runs]

        def remove_if_deleted() -> None:
            if Experiment.objects.reference_to(experiment.pk) is None:
                with pymongo.timeout(WORK_SECONDS):
                    self.of(experiment).matching({"_id": {"$in": [each["_id"] for each in documents]}}).delete()
                raise Experiment.DoesNotExist

        in_transaction(insert_many, LONG)(Drift, documents)
        drop_cached(experiment.pk)
        transaction.on_commit(remove_if_deleted)
        count_outcomes(documents)
        return [uuid.UUID(document["_id"]) for document in documents]


class Drift(models.Model):
    """A drift run: one drift-detection job of an experiment."""

    id = models.UUIDField(primary_key=True, db_column="_id", default=uuid7, editable=False)
    # Other indexes begin with the experiment, so the field needs none of its own.
    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="drifts", db_index=False)
    job_status = models.CharField("status", max_length=9, choices=JobStatus)
    model = models.CharField(max_length=255)
    drift_detected = models.BooleanField(default=False)
    parameters = models.JSONField(default=dict, blank=True)
    tags = ArrayField(models.CharField(max_length=MAX_TAG), default=list, blank=True)
    detector = models.CharField(max_length=255, null=True, blank=True)
    environment = models.CharField(max_length=255, null=True, blank=True)
    model_version = models.CharField("version", max_length=255, null=True, blank=True)
    observed_at = models.DateTimeField("time", null=True, blank=True)
    window_start = models.DateTimeField("window start", null=True, blank=True)
    window_end = models.DateTimeField("window end", null=True, blank=True)
    feature = models.CharField(max_length=MAX_NAME, null=True, blank=True)
    p_value = models.FloatField("p-value", null=True, blank=True)
    statistic = models.FloatField(null=True, blank=True)
    threshold = models.FloatField(null=True, blank=True)
    sample_size = models.BigIntegerField("sample size", null=True, blank=True)
    note = models.CharField(max_length=MAX_NOTE, null=True, blank=True)
    heartbeat_at = models.DateTimeField("last heartbeat", null=True, blank=True, editable=False)
    run_timeout = models.IntegerField("time-out (seconds)", null=True, blank=True)
    # Stored only if it is true; `complete` makes it false otherwise.
    overdue = models.BooleanField(null=True, editable=False)
    series = models.JSONField(null=True, blank=True, editable=False)
    # Internal: the fields that the client did not send, and the version of the rules that they come from.
    derived = ArrayField(models.CharField(max_length=20), null=True, blank=True, editable=False)
    rules_version = models.IntegerField(null=True, blank=True, editable=False)
    schema_version = models.CharField("schema", max_length=20, default=schema.current, editable=False)
    created_at = models.DateTimeField("reported", default=timestamps.now, editable=False)
    updated_at = models.DateTimeField("updated", default=timestamps.now, editable=False)

    objects = DriftManager()

    class Meta:
        verbose_name = "drift run"
        ordering = ("-created_at", "-id")
        # docs/search.md lists the searches that each index serves. The keys after the experiment have one direction,
        # so that an index serves every sort, read forwards or backwards.
        indexes = (
            models.Index(fields=["experiment", "-created_at", "-id"], name="drift_newest"),
            models.Index(fields=["experiment", "-model", "-created_at", "-id"], name="drift_model"),
            models.Index(fields=["experiment", "-job_status", "-created_at", "-id"], name="drift_status"),
            models.Index(fields=["experiment", "-drift_detected", "-created_at", "-id"], name="drift_detected"),
            models.Index(
                fields=["experiment", "-job_status", "-drift_detected", "-created_at", "-id"], name="drift_verdict"
            ),
            models.Index(fields=["experiment", "-tags", "-created_at", "-id"], name="drift_tags"),
            # Most runs have no detector or environment, and these indexes leave them out.
            models.Index(
                fields=["experiment", "-detector", "-created_at", "-id"],
                condition=models.Q(detector__gt=""),
                name="drift_detector",
            ),
            models.Index(
                fields=["experiment", "-environment", "-created_at", "-id"],
                condition=models.Q(environment__gt=""),
                name="drift_environment",
            ),
            models.Index(fields=["experiment", "-observed_at", "-id"], name="drift_observed"),
            # Answers questions about series without reading a run.
            models.Index(
                fields=["experiment", "series", "observed_at", "id", "job_status", "drift_detected"],
                name="drift_series",
            ),
            models.Index(fields=["-created_at", "-id"], name="drift_newest_of_all"),
            # Few runs are Running at a time. Stale ones are older than most runs, so the index above finds them late.
            # Runs with a time-out of their own come first, for `overdue.py`. The status lets a count read keys only.
            models.Index(
                fields=["-job_status", "-run_timeout", "-created_at", "-id"],
                condition=models.Q(job_status=JobStatus.RUNNING.value),
                name="drift_running",
            ),
        )

    def __str__(self) -> str:
        return f"{self.model}, {self.observed_at or self.created_at:%Y-%m-%d %H:%M:%S} UTC"

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **options: Any) -> None:
        """Store the run with its derived fields, or write these fields of a stored one, for the portal and shells."""
        if not self._state.adding:
            self.update(**self._changes(update_fields))
            return
        document = self.new_document()
        insert_one(type(self), document)
        count_outcomes([document])
        drop_cached(self.experiment_id)
        vars(self).update(vars(instance_of(type(self), document)))

    @staticmethod
    def complete(run: dict[str, Any]) -> None:
        """Give a run that was read, maybe in an older version, the values that are not stored. For `instances_of`."""
        schema.complete(run)
        if "overdue" in run:
            run["overdue"] = run["overdue"] is True and run.get("job_status") == JobStatus.FAILED

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any) -> Self:
        read = dict(zip(field_names, values, strict=True))
        cls.complete(read)
        return super().from_db(db, field_names, read.values(), **options)

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.job_status, self.drift_detected)

    @property
    def unsupported(self) -> bool:
        """True if the run says no drift but measured nothing. Its client may have forgotten to report."""
        return is_unsupported(self)

    def new_document(self) -> Document:
        """The document of this object, which is not stored yet."""
        fields = {str(field.column): field.value_from_object(self) for field in self._meta.concrete_fields}
        own = {"_id": self.pk.hex, "experiment_id": self.experiment_id.hex}
        return new_document(self.experiment, {**fields, **own})

    def _changes(self, names: Iterable[str] | None) -> dict[str, Any]:
        """The named fields, or all, whose values are not the stored ones. Unchanged derived fields remain derived."""
        editable = {field.name for field in self._meta.concrete_fields if field.editable} - {"experiment"}
        stored = self._stored().get()
        chosen = editable & set(editable if names is None else names)
        values = ((name, getattr(self, name), getattr(stored, name)) for name in chosen)
        return {name: new for name, new, old in values if not is_same(*map(timestamps.stored, (old, new)))}

    def update(self, **changes: Any) -> None:
        """Write only the named fields, and those that are derived from them.

        Raises `DoesNotExist` if the run is deleted, and `EmptyWindow` if the window would end before it starts.
        """
        self._write(changes, changed_document)

    def replace(self, **values: Any) -> None:
        """Write the run as a client has read and edited it. Derived fields that it repeats remain derived.

        Raises the errors of `update`.
        """
        self._write(values, replaced_document)

    @in_transaction
    def _write(
        self, values: Mapping[str, Any], written: Callable[[Document, Mapping[str, Any], AccessControlled], Document]
    ) -> None:
        runs, criteria = collection_of(type(self)), {"_id": self.pk.hex, "experiment_id": self.experiment_id.hex}
        experiment = Experiment.objects.reference_to(self.experiment_id)
        stored = find_one(type(self), criteria)
        if experiment is None or stored is None:
            raise self.DoesNotExist
        after = written(stored, values, experiment)
        if update := update_between(stored, after):
            runs.update_one(criteria, update, session=mongodb().session)
            count_end(stored, after)
            drop_cached(self.experiment_id)
        vars(self).update(vars(instance_of(type(self), after)))

    @in_transaction
    def delete_by(self, identity: Identity) -> None:
        """Delete the run and record it in the audit trail. A deleted run is no error."""
        names = [field.name for field in self._meta.concrete_fields if field.name not in UNRECORDED]
        before = {name: getattr(self, name) for name in names}
        deleted, _ = self.delete()
        if deleted:
            record(Action.DRIFT_DELETED, identity, self, before=before)

    # Django names a stored object by its id alone. A sharded cluster would ask every shard for it (docs/scaling.md).

    def _stored(self) -> DriftQuerySet:
        """The query that finds this run alone, on one shard."""
        return type(self).objects.filter(pk=self.pk, experiment=self.experiment_id)

    def refresh_from_db(self, using: Any = None, fields: Any = None, from_queryset: Any = None) -> None:
        """Reload the fields, as Django's method does."""
        super().refresh_from_db(using, fields, self._stored() if from_queryset is None else from_queryset)

    def delete(self, using: Any = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete the run. Unlike Django's method, keep its id, which a retry of the transaction needs."""
        deleted = self._stored().delete()
        drop_cached(self.experiment_id)
        return deleted
