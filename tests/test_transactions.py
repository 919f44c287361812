"""Transactions: whole or not at all, in one piece with those inside them, and not for ever."""

import time

import pytest
from django.db import DatabaseError, IntegrityError
from pymongo.errors import OperationFailure

from accounts.models import User
from core.api.errors import is_database_unavailable
from core.mongodb import transaction
from core.mongodb.transaction import in_transaction


@in_transaction
def register(*subjects: str) -> None:
    for subject in subjects:
        User.objects.create(subject=subject, email=f"{subject}@example.org")


def test_one_inside_another_is_undone_with_it() -> None:
    @in_transaction
    def register_and_fail() -> None:
        register("ada")
        assert User.objects.exists(), "it sees its own writes"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        register_and_fail()
    assert not User.objects.exists()


def test_all_are_kept_with_the_outermost() -> None:
    @in_transaction
    def register_both() -> None:
        register("ada")
        register("bob")

    register_both()
    assert User.objects.count() == 2


def test_what_is_there_already_is_said_as_everywhere() -> None:
    register("ada")
    with pytest.raises(IntegrityError):
        register("bob", "ada")
    assert User.objects.count() == 1


def test_a_conflict_that_passes_is_tried_again_and_one_that_does_not_is_given_up(
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
