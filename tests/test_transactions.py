"""Transactions: atomic, joined by nested ones, and retried for a limited time."""

import time
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure

from accounts.models import User
from core.mongodb import transaction
from core.mongodb.documents import find_one
from core.mongodb.errors import is_database_unavailable
from core.mongodb.transaction import Limits, in_transaction
from tests.replica_set import Member


@in_transaction
def register(*subjects: str) -> None:
    for subject in subjects:
        User.objects.create(subject=subject, email=f"{subject}@example.org")


def test_a_nested_transaction_is_rolled_back_with_the_outer_one() -> None:
    @in_transaction
    def register_and_fail() -> None:
        register("ada")
        assert User.objects.exists(), "it sees its own writes"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        register_and_fail()
    assert not User.objects.exists()


def test_nested_transactions_are_committed_with_the_outermost() -> None:
    @in_transaction
    def register_both() -> None:
        register("ada")
        register("bob")

    register_both()
    assert User.objects.count() == 2


def test_a_duplicate_raises_the_same_error_as_outside_a_transaction() -> None:
    register("ada")
    with pytest.raises(IntegrityError):
        register("bob", "ada")
    assert User.objects.count() == 1


def test_a_conflict_is_retried_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transaction, "RETRY_SECONDS", 0.3)
    attempts = []

    @in_transaction
    def conflict(times: int) -> None:
        attempts.append(1)
        if len(attempts) <= times:
            raise DatabaseError from OperationFailure("conflict", 112, {"errorLabels": ["TransientTransactionError"]})

    conflict(2)
    assert len(attempts) == 3
    started = time.monotonic()
    with pytest.raises(DatabaseError) as given_up:
        conflict(1_000_000)
    assert time.monotonic() - started < 5
    assert is_database_unavailable(given_up.value)


def test_the_operations_of_a_transaction_have_one_deadline_together() -> None:
    """Each operation is within its own limit."""
    User.objects.create(subject="ada", email="ada@example.org")
    seen: list[object] = []

    def read_slowly() -> None:
        seen.extend(find_one(User, {"$where": "sleep(100) || true"}) for _ in range(20))

    started = time.monotonic()
    with pytest.raises(DatabaseError) as refused:
        in_transaction(read_slowly, Limits(0.5, 0.5))()
    assert is_database_unavailable(refused.value)
    assert 1 <= len(seen) <= 10
    assert time.monotonic() - started < 2


def test_a_server_without_a_role_in_its_replica_set_is_unavailable(tmp_path: Path) -> None:
    """A server that starts again has none for a moment. This one has none until the set is initiated."""
    member = Member(tmp_path)
    member.start()
    try:
        with MongoClient[dict[str, Any]](member.address, directConnection=True) as client:
            client.admin.command("ping")
            with (
                client.start_session() as session,
                session.start_transaction(),
                pytest.raises(ConfigurationError) as refused,
            ):
                client.test.runs.insert_one({}, session=session)
    finally:
        member.kill()
    assert is_database_unavailable(refused.value)
    assert not is_database_unavailable(ConfigurationError("Unknown option replicaset"))


def test_a_read_before_a_change_of_the_collection_is_to_be_repeated() -> None:
    """MongoDB refuses it for a moment while the majority of the members does not have the change yet."""
    assert is_database_unavailable(OperationFailure("Unable to read from a snapshot", code=246))
    assert not is_database_unavailable(OperationFailure("Unrecognized pipeline stage", code=40324))
