"""Accounts in the export of one experiment, and accounts that have another id in the service that imports."""

import uuid
from collections.abc import Mapping
from typing import Any

import bson
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX

from core.identity import USER_ID
from core.mongodb.documents import RAW

# An experiment takes the identities of its people along, not what they may do elsewhere.
WITHOUT_RIGHTS: Mapping[str, Any] = {
    "password": UNUSABLE_PASSWORD_PREFIX,
    "last_login": None,
    "is_superuser": False,
    "is_staff": False,
    "entitlements": [],
    "entitlements_issued_at": Int64(0),
}


def accounts_named_in(experiment: Mapping[str, Any]) -> list[str]:
    """Return the ids, as stored, that the permissions of an experiment may have of accounts."""
    entities = [entry["entity"] for entry in experiment.get("permissions") or ()]
    return sorted({uuid.UUID(entity).hex for entity in entities if USER_ID.fullmatch(entity)})


def without_rights(account: RawBSONDocument) -> RawBSONDocument:
    """Return the stored account without its password and its rights."""
    return changed(account, WITHOUT_RIGHTS)


def renamed(document: RawBSONDocument, columns: tuple[str, ...], ids: Mapping[str, str]) -> RawBSONDocument:
    """Return a document with other ids of accounts in these columns. Everything else keeps its bytes."""
    changes = {name: with_ids(document[name], ids) for name in columns if name in document}
    return changed(document, changes)


def with_ids(value: Any, ids: Mapping[str, str]) -> Any:
    match value:
        case str():
            return ids.get(value, value)
        case Mapping():
            return {name: with_ids(each, ids) for name, each in value.items()}
        case list():
            return [with_ids(each, ids) for each in value]
        case _:
            return value


def changed(document: RawBSONDocument, changes: Mapping[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode({**document, **changes}), RAW)
