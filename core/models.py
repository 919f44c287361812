"""Records that the service keeps for itself. Their app label is `driftwatch`: that of the first release."""

from django.db import models

from core.mongodb.indexes import ExpiryIndex


class KeptAnswer(models.Model):
    """The answer to a request with an `Idempotency-Key`. `core/api/idempotency.py` keeps it and gives it again.

    The id is a digest and the answer is encrypted: neither tells who created what.
    """

    id = models.CharField(primary_key=True, db_column="_id", max_length=64)
    sealed = models.BinaryField(default=b"")
    expires_at = models.DateTimeField()

    class Meta:
        indexes = (ExpiryIndex(fields=["expires_at"], name="kept_answer_expiry"),)

    def __str__(self) -> str:
        return self.id


class RequestCount(models.Model):
    """The requests of one caller: in the window at hand and in the one before. `core/api/rate_limits.py` writes it.

    The id is a digest: neither addresses nor account names are kept. Times are milliseconds since 1970.
    """

    id = models.CharField(primary_key=True, db_column="_id", max_length=64)
    count = models.BigIntegerField()
    previous = models.BigIntegerField()
    started = models.BigIntegerField(help_text="When the window at hand began.")
    at = models.BigIntegerField(help_text="When the last requests were added.")
    expires_at = models.DateTimeField()

    class Meta:
        indexes = (ExpiryIndex(fields=["expires_at"], name="request_count_expiry"),)

    def __str__(self) -> str:
        return f"{self.id}: {self.count}"
