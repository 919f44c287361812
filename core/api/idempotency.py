"""Safe retries: a POST with an `Idempotency-Key` creates once, however often it is sent.

The header is that of draft-ietf-httpapi-idempotency-key-header. The key is claimed, the work is done and
its answer is kept in one transaction: wherever a worker dies, there is all of it or nothing. Of two
requests at once the second meets the claim of the first, waits for its end, and finds its answer.
Refusals are raised, and so undo the claim: only what was created is kept.
"""

import base64
import datetime
import hashlib
import json
import re
from functools import wraps
from typing import Any

from cryptography.fernet import Fernet
from django.db import IntegrityError
from django.http import HttpResponse
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.request import Request

from core import timestamps
from core.api.conditional import Action
from core.api.json_input import MAX_DEPTH
from core.models import KeptAnswer
from core.mongodb.transaction import in_transaction

KEY = re.compile(r"[\x20-\x7e]{1,255}")
KEPT_FOR = datetime.timedelta(hours=24)
SALT = "driftwatch.api.idempotency"


class ClaimedBefore(Exception):
    """A request with this key was answered already."""


def idempotent(action: Action) -> Action:
    """Have an action that creates do so once for each `Idempotency-Key` of a caller, and else answer as it did."""

    @wraps(action)
    def create(view: Any, request: Request, **path: str) -> HttpResponse:
        key = request.META.get("HTTP_IDEMPOTENCY_KEY")
        if key is None:
            return action(view, request, **path)
        claim = claim_of(view, key)
        # Before the transaction: a slow client keeps none open.
        body = digest_of_body(view)

        @in_transaction
        def create_and_keep() -> HttpResponse:
            stake(claim)
            response = action(view, request, **path)
            keep(claim, body, response)
            return response

        try:
            return create_and_keep()
        except ClaimedBefore:
            view.check_access()
            kept = KeptAnswer.objects.filter(pk=claim).first()
            # It may have expired since.
            return answered_again(kept, body) if kept else create(view, request, **path)

    create.is_idempotent = True  # type: ignore[attr-defined]
    return create


def claim_of(view: Any, key: str) -> str:
    """What a key stands for: one creation, at one place, by one identity, as far as its token reaches.

    It is a digest by the service's secret: it tells nothing of who did what.
    """
    if not KEY.fullmatch(key):
        raise ParseError("Idempotency-Key must be 1 to 255 printable ASCII characters, such as a UUID of your own.")
    identity = view.identity
    scope = [identity.scope.cap, sorted(map(str, identity.scope.experiments or ()))]
    creation = [identity.issuer, identity.subject, scope, view.resource, view.action, sorted(view.kwargs.items()), key]
    return salted_hmac(SALT, json.dumps(creation), algorithm="sha256").hexdigest()


def stake(claim: str) -> None:
    """Claim a key, in a transaction. Raises `ClaimedBefore`, which ends it."""
    try:
        KeptAnswer.objects.create(pk=claim, expires_at=timestamps.now() + KEPT_FOR)
    except IntegrityError as error:
        raise ClaimedBefore from error


def keep(claim: str, body: str, response: HttpResponse) -> None:
    answer = {
        "body": body,
        "status": response.status_code,
        "headers": dict(response.items()),
        "content": response.content.decode(),
    }
    KeptAnswer.objects.filter(pk=claim).update(sealed=seal().encrypt(json.dumps(answer).encode()))


def answered_again(kept: KeptAnswer, body: str) -> HttpResponse:
    answer = json.loads(seal().decrypt(bytes(kept.sealed)))
    if answer["body"] != body:
        raise ValidationError(
            "This Idempotency-Key was used for another body. Send the same body to have the same answer again, "
            "or another key to create something else."
        )
    headers = {**answer["headers"], "Idempotent-Replayed": "true"}
    return HttpResponse(answer["content"], status=answer["status"], headers=headers)


def digest_of_body(view: Any) -> str:
    """The same for the same JSON, however it is written."""
    body = None if view.request.stream is None else view.body
    try:
        text = json.dumps(body, sort_keys=True)
    except RecursionError:
        raise ValidationError(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    return hashlib.sha256(text.encode()).hexdigest()


def seal() -> Fernet:
    """Answers hold private data, and secrets that are told once: who reads the database does not read them."""
    return Fernet(base64.urlsafe_b64encode(salted_hmac(SALT, "seal", algorithm="sha256").digest()))
