"""What somebody did to something that is stored, announced to whoever keeps the record.

The audit trail stands above the accounts: what lies below it announces here, what lies above
it calls `audit.trail.record` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db.models import Model
from django.dispatch import Signal

if TYPE_CHECKING:
    from accounts.identity import Identity

deed = Signal()


def announce(
    action: str,
    identity: Identity | None,
    target: Model,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Tell of a deed, from within its transaction: what a receiver raises undoes it.

    `action` is a value of `audit.models.Action`; `identity` is None on the command line;
    `before` and `after` hold fields that may have changed.
    """
    deed.send(type(target), action=action, identity=identity, target=target, before=before, after=after)
