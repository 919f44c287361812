"""The order to drop an issuer's cached keys, which every process reads."""

import uuid

from django.db import models

from core.mongodb.documents import find_one


class DroppedKeysManager(models.Manager["DroppedKeys"]):
    """Stores and reads the orders."""

    def drop(self, issuer: str) -> None:
        """Let every process drop what it has cached of an issuer."""
        self.update_or_create(issuer=issuer, defaults={"order": uuid.uuid4()})

    def latest_order(self, issuer: str) -> str | None:
        """Return the latest order for an issuer, or None. Each order differs from those before it."""
        document = find_one(self.model, {"_id": issuer})
        return document["order"] if document else None


class DroppedKeys(models.Model):
    """The latest order to drop the cached keys of one issuer. Processes compare orders, never clocks."""

    issuer = models.CharField(primary_key=True, db_column="_id", max_length=255)
    order = models.UUIDField()

    objects = DroppedKeysManager()

    def __str__(self) -> str:
        return self.issuer
