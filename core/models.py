"""Internal records of the service. Their app label is `driftwatch`; `core/apps.py` gives the reason."""

import datetime

from django.db import models

from core.mongodb.indexes import ExpiryIndex

# A due task starts within seconds while `manage.py work` runs.
OVERDUE = datetime.timedelta(minutes=1)


class StoredResponse(models.Model):
    """The response to a request with an `Idempotency-Key`, which `core/api/idempotency.py` repeats.

    The id is a digest and the response is encrypted: neither reveals who created what.
    """

    id = models.CharField(primary_key=True, db_column="_id", max_length=64)
    sealed = models.BinaryField(default=b"")
    expires_at = models.DateTimeField()

    class Meta:
        # The names of the collection and of its index before the class was renamed.
        db_table = "driftwatch_keptanswer"
        indexes = (ExpiryIndex(fields=["expires_at"], name="kept_answer_expiry"),)

    def __str__(self) -> str:
        return self.id


class RequestCount(models.Model):
    """The number of requests of one caller in the current and the previous window, for `core/api/rate_limits.py`.

    The id is a digest: neither addresses nor account names are stored. Times are milliseconds since 1970.
    """

    id = models.CharField(primary_key=True, db_column="_id", max_length=64)
    count = models.BigIntegerField()
    previous = models.BigIntegerField()
    started = models.BigIntegerField(help_text="The start of the current window.")
    at = models.BigIntegerField(help_text="The time when the last requests were added.")
    is_admitted = models.BooleanField(default=True, help_text="False if the latest request was above the rate.")
    expires_at = models.DateTimeField()

    class Meta:
        indexes = (ExpiryIndex(fields=["expires_at"], name="request_count_expiry"),)

    def __str__(self) -> str:
        return f"{self.id}: {self.count}"


class StoredTotal(models.Model):
    """The total of one search, which `core/totals.py` shows until it expires.

    The id is a digest, which tells nothing of the filter or of its author.
    """

    id = models.CharField(primary_key=True, db_column="_id", max_length=64)
    number = models.BigIntegerField()
    is_exact = models.BooleanField()
    expires_at = models.DateTimeField()

    class Meta:
        indexes = (ExpiryIndex(fields=["expires_at"], name="stored_total_expiry"),)

    def __str__(self) -> str:
        return f"{self.id}: {self.number}"


class BackgroundTask(models.Model):
    """The state of one background task, which `core/background.py` writes. Times are of the database's clock."""

    name = models.CharField(primary_key=True, db_column="_id", max_length=64)
    label = models.CharField("task", max_length=255)
    holder = models.CharField("process", max_length=255, default="")
    lease_ends_at = models.DateTimeField(null=True, help_text="Then another process may take the task over.")
    due_at = models.DateTimeField("next run", null=True)
    started_at = models.DateTimeField("last start", null=True)
    succeeded_at = models.DateTimeField("last success", null=True)
    duration = models.FloatField("last duration", null=True, help_text="Seconds of the last run that ended.")
    failures = models.IntegerField(default=0)
    failures_in_a_row = models.IntegerField(default=0)
    error = models.TextField("last error", default="")

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.label

    def is_running(self, now: datetime.datetime) -> bool:
        """Return whether a process holds the task."""
        return self.lease_ends_at is not None and self.lease_ends_at > now

    def is_overdue(self, now: datetime.datetime) -> bool:
        """Return whether the task waits for a process since a minute: none runs."""
        return not self.is_running(now) and (self.due_at is None or self.due_at < now - OVERDUE)
