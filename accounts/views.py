"""The API's endpoints of users and entitlements."""

from collections.abc import Mapping
from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer
from rest_framework.throttling import BaseThrottle

from accounts.models import User
from accounts.serializers import EntitlementsSerializer, FoundUserSerializer, LookupSerializer, UserSerializer
from core.api.conditional import conditional, tagged
from core.api.idempotency import idempotent
from core.api.openapi import responds
from core.api.resource import Resource
from core.api.responses import JSONResponse
from core.api.search import SearchMixin, SearchParameters
from core.api.throttling import LookupLimit
from core.filters.fields import Field, StringField, TimeField, UUIDField
from core.identity import Requirement
from core.mongodb.querysets import FilterableQuerySet

FIELDS: Mapping[str, Field] = {
    "id": UUIDField("_id"),
    "_id": UUIDField("_id"),
    "subject": StringField("subject"),
    "issuer": StringField("issuer"),
    "email": StringField("email"),
    "created_at": TimeField("created_at"),
}


class UserView(SearchMixin):
    """Registered users, and the caller's registration."""

    resource = "user"
    required_levels = {
        "register": Requirement.ADMITTED,
        "search": Requirement.ADMIN,
        "lookup": Requirement.MAY_LOOK_UP,
        "retrieve_self": Requirement.REGISTERED,
        "update_self": Requirement.REGISTERED,
    }
    search_parameters = SearchParameters.sortable_by(("created_at", "email", "subject", "issuer"))
    filter_example = {"email": {"$regex": "@example\\.org$"}}
    conflict = "You are already registered. GET /api/v1/user/self returns your user."

    def get_queryset(self) -> FilterableQuerySet[User]:
        return User.objects.all()

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return FoundUserSerializer if self.action == "lookup" else UserSerializer

    def get_throttles(self) -> list[BaseThrottle]:
        return [*([LookupLimit()] if self.action == "lookup" else []), *super().get_throttles()]

    def filter_fields(self) -> Mapping[str, Field]:
        return FIELDS

    @extend_schema(request=LookupSerializer)
    @responds(200, 404)
    def lookup(self, request: Request) -> JSONResponse:
        """Find the registered user with exactly this id or email. The rate limit is that of logins."""
        wanted = LookupSerializer(data=self.body)
        wanted.is_valid(raise_exception=True)
        found = User.objects.active().filter(**wanted.validated_data)[:2]
        if not found:
            raise NotFound("No registered user has this id or email.")
        if len(found) > 1:
            raise ValidationError({"email": ["Several registered users have this email. Send the id."]})
        return JSONResponse(self.get_serializer(found[0]).data)

    def get_user(self) -> User:
        """Return the caller as stored now: the identity may be cached for some seconds."""
        assert self.identity.user is not None
        return User.objects.get(pk=self.identity.user.pk)

    @extend_schema(request=None)
    @responds(201, 409)
    @idempotent
    @tagged
    def register(self, request: Request) -> JSONResponse:
        """Register the token's owner. No body is needed."""
        user = User.objects.register(self.identity)
        return JSONResponse(self.get_serializer(user).data, 201)

    def check_created(self, created: Any) -> None:
        # The identity may be older than the registration that it waited for.
        if not User.objects.active().filter(pk=created["id"]).exists():
            raise Http404("The user that the earlier request registered is deleted or disabled.")

    @tagged
    def retrieve_self(self, request: Request) -> JSONResponse:
        """Read the registered user of the token."""
        return JSONResponse(self.get_serializer(self.get_user()).data)

    @extend_schema(request=None)
    @conditional
    @tagged
    def update_self(self, request: Request) -> JSONResponse:
        """Update the registered email from the token. No body is needed."""
        user = self.get_user()
        user.update_email(self.identity)
        return JSONResponse(self.get_serializer(user).data)


class EntitlementView(Resource):
    """The entitlements of the caller."""

    resource = "entitlement"
    required_levels = {"retrieve": Requirement.REGISTERED}
    serializer_class = EntitlementsSerializer

    def retrieve(self, request: Request) -> JSONResponse:
        """List the entitlements of the token. Permissions can name them, as they can name user ids."""
        return JSONResponse({"items": sorted(self.identity.entitlements)})
