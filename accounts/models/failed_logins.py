"""Counts of failed logins."""

from django.db import models

from core.mongodb.indexes import ExpiryIndex


class FailedLogins(models.Model):
    """The failed logins in a row to one account from one address, for `accounts/lockout.py`.

    The id is a digest: neither addresses nor account names are stored.
    """

    id = models.CharField(primary_key=True, db_column="_id", max_length=64)
    count = models.BigIntegerField()
    is_locked = models.BooleanField(help_text="Whether the latest login came before the end of the wait.")
    locked_until = models.DateTimeField(null=True)
    at = models.DateTimeField(help_text="The time of the latest login.")
    expires_at = models.DateTimeField()

    class Meta:
        indexes = (ExpiryIndex(fields=["expires_at"], name="failed_logins_expiry"),)

    def __str__(self) -> str:
        return f"{self.id}: {self.count}"
