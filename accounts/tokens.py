"""Tokens that Drift Watch signs itself, for registered users, through simplejwt."""

import datetime
from collections.abc import Iterable

from django.core.exceptions import ValidationError
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken

from accounts.claims import entitlements_at
from accounts.identity import Identity
from accounts.issuers import InvalidToken
from accounts.models import User


class LocalToken(AccessToken):
    """Stands for one registered user, with the entitlements written into it."""

    @classmethod
    def issue(cls, user: User, entitlements: Iterable[str], lifetime: datetime.timedelta) -> "LocalToken":
        token = cls.for_user(user)
        token["sub"] = user.subject
        token["email"] = user.email
        token["entitlements"] = sorted(set(entitlements))
        token.set_exp(lifetime=lifetime)
        return token


def identity_of_local_token(token: str) -> Identity:
    """The identity of a locally signed token. Raises `InvalidToken`, also when its user is gone."""
    try:
        claims = LocalToken(token).payload  # type: ignore[arg-type]
        user = User.objects.get(pk=claims["user_id"])
    except TokenError as error:
        raise InvalidToken(f"{error}.") from error
    except (User.DoesNotExist, ValidationError, KeyError) as error:
        raise InvalidToken("The token's user does not exist any more.") from error
    return Identity(user.issuer, user.subject, user.email, entitlements_at(claims, "entitlements"), user)
