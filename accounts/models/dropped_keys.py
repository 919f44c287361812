"""The generation of an issuer's cached keys, which every process compares with its own."""

import uuid

from django.db import models

from core.mongodb.documents import find_one


class DroppedKeysManager(models.Manager["DroppedKeys"]):
    """Stores and reads the generations."""

    def drop(self, issuer: str) -> None:
        """Let every process drop what it has cached of an issuer."""
        self.update_or_create(issuer=issuer, defaults={"generation": uuid.uuid4()})

    def generation_of(self, issuer: str) -> str | None:
        """Return the current generation of an issuer's keys, or None before the first drop."""
        document = find_one(self.model, {"_id": issuer})
        return document["generation"] if document else None


class DroppedKeys(models.Model):
    """The generation of the cached keys of one issuer: a random id, replaced at each drop. No clocks are compared."""

    issuer = models.CharField(primary_key=True, db_column="_id", max_length=255)
    generation = models.UUIDField()

    objects = DroppedKeysManager()

    def __str__(self) -> str:
        return self.issuer
