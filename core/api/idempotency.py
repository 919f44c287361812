"""Safe retries: a POST with an `Idempotency-Key` header runs once, however often it is sent.

The header follows draft-ietf-httpapi-idempotency-key-header. One transaction claims the key, runs the
action and stores its response, so a worker that dies leaves all of it or nothing. A concurrent request
with the same key waits for that transaction for a short time, then repeats its response. Errors are raised,
which rolls the claim back: only successful responses are stored.
"""

import base64
import datetime
import hashlib
import json
import re
import time
from functools import wraps
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from django.db import DatabaseError, IntegrityError
from django.http import HttpResponse
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.request import Request

from core import timestamps
from core.api.conditional import Action
from core.api.exceptions import ServiceUnavailable
from core.api.json_input import MAX_DEPTH
from core.keys import digests_by_secret
from core.models import StoredResponse
from core.mongodb.errors import is_write_conflict
from core.mongodb.transaction import LONG, SHORT, in_transaction

KEY = re.compile(r"[\x20-\x7e]{1,255}")
LIFETIME = datetime.timedelta(hours=24)
SALT = "driftwatch.api.idempotency"
# Seconds that a request waits for an unfinished one with its key, and the pause between two attempts.
WAIT_SECONDS = 1.0
PAUSE_SECONDS = 0.05
IN_USE = "An earlier request with this Idempotency-Key is not finished. Send the same request again in a few seconds."


class KeyAlreadyClaimed(Exception):
    """An earlier request with this key has a stored response, or is not finished."""


def idempotent(action: Action) -> Action:
    """Run the action once per caller and `Idempotency-Key`; repeat the stored response afterwards."""

    @wraps(action)
    def create(view: Any, request: Request, **path: str) -> HttpResponse:
        key = request.META.get("HTTP_IDEMPOTENCY_KEY")
        if key is None:
            return action(view, request, **path)
        claims = claim_ids(view, key)
        # The body is read before the transaction: a slow client must not hold one open.
        body = digest_of_body(view)

        def create_and_store() -> HttpResponse:
            claim_key(claims)
            response = action(view, request, **path)
            store_response(claims[0], body, response)
            return response

        transaction = in_transaction(create_and_store, LONG if view.is_bulk else SHORT)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return transaction()
            except KeyAlreadyClaimed as error:
                view.check_access()
                # The earlier transaction is not committed by the majority yet if there is no stored response, or the
                # response has expired since.
                if stored := StoredResponse.objects.filter(pk__in=claims).exclude(sealed=b"").first():
                    return replayed_response(view, stored, body)
                if time.monotonic() > deadline:
                    raise ServiceUnavailable(IN_USE) from error
                time.sleep(PAUSE_SECONDS)

    create.is_idempotent = True  # type: ignore[attr-defined]
    return create


def claim_ids(view: Any, key: str) -> list[str]:
    """Return digests of a key, the endpoint, the path, the caller and the scope of their token.

    They are keyed by the service's secrets, so that the database does not reveal who did what. Requests claim all of
    them, because an instance from before a change of `SECRET_KEY` has another secret as its first one.
    """
    if not KEY.fullmatch(key):
        raise ParseError("Idempotency-Key must be 1 to 255 printable ASCII characters, such as a new UUID.")
    identity = view.identity
    scope = [identity.scope.cap, sorted(map(str, identity.scope.experiments or ()))]
    creation = [identity.issuer, identity.subject, scope, view.resource, view.action, sorted(view.kwargs.items()), key]
    return [digest.hex() for digest in digests_by_secret(SALT, json.dumps(creation))]


def claim_key(claims: list[str]) -> None:
    """Claim a key inside a transaction. Raises `KeyAlreadyClaimed`, which ends the transaction."""
    try:
        for claim in claims:
            StoredResponse.objects.create(pk=claim, expires_at=timestamps.now() + LIFETIME)
    except IntegrityError as error:
        raise KeyAlreadyClaimed("An earlier transaction stored this key.") from error
    except DatabaseError as error:
        if is_write_conflict(error):
            raise KeyAlreadyClaimed("An unfinished transaction stores this key.") from error
        raise


def store_response(claim: str, body: str, response: HttpResponse) -> None:
    content = {
        "body": body,
        "status": response.status_code,
        "headers": dict(response.items()),
        "content": response.content.decode(),
    }
    StoredResponse.objects.filter(pk=claim).update(sealed=cipher().encrypt(json.dumps(content).encode()))


def replayed_response(view: Any, stored: StoredResponse, body: str) -> HttpResponse:
    content = json.loads(cipher().decrypt(bytes(stored.sealed)))
    if content["body"] != body:
        raise ValidationError(
            "This Idempotency-Key was used for another body. Send the same body to get the stored response, "
            "or another key to create something else."
        )
    view.check_created(json.loads(content["content"]))
    headers = {**content["headers"], "Idempotent-Replayed": "true"}
    return HttpResponse(content["content"], status=content["status"], headers=headers)


def digest_of_body(view: Any) -> str:
    """Return a digest of the parsed JSON. The order of names and the spaces do not matter."""
    body = None if view.request.stream is None else view.body
    try:
        text = json.dumps(body, sort_keys=True)
    except RecursionError:
        raise ValidationError(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    return hashlib.sha256(text.encode()).hexdigest()


def cipher() -> MultiFernet:
    """Return the cipher of stored responses, which hold private data and new access tokens."""
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in digests_by_secret(SALT, "seal")])
