"""Registration, and what the API tells of users."""

from collections.abc import Mapping

from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Standing
from accounts.models import User
from accounts.serializers import EntitlementsSerializer, UserSerializer
from driftwatch.api.resource import Resource
from driftwatch.api.search import SearchMixin, SearchParameters
from driftwatch.filters.fields import Field, Identifier, Text, Time
from driftwatch.mongodb.querysets import FilterableQuerySet

FIELDS: Mapping[str, Field] = {
    "id": Identifier("_id"),
    "_id": Identifier("_id"),
    "subject": Text("subject"),
    "issuer": Text("issuer"),
    "email": Text("email"),
    "created_at": Time("created_at"),
}


class UserView(SearchMixin):
    resource = "user"
    required_levels = {
        "register": Standing.ADMITTED,
        "search": Standing.ADMIN,
        "retrieve_self": Standing.REGISTERED,
        "update_self": Standing.REGISTERED,
    }
    serializer_class = UserSerializer
    search_parameters = SearchParameters.sortable_by(("created_at", "email", "subject", "issuer"))
    conflict = "You are registered already. GET /api/v1/user/self tells as whom."

    def get_queryset(self) -> FilterableQuerySet[User]:
        return User.objects.all()

    def filter_fields(self) -> Mapping[str, Field]:
        return FIELDS

    def register(self, request: Request) -> Response:
        """Register the token's owner. No body is needed."""
        user = User.objects.register(self.identity)
        return Response(self.get_serializer(user).data, 201)

    def retrieve_self(self, request: Request) -> Response:
        """The registered user that the token stands for."""
        return Response(self.get_serializer(self.identity.user).data)

    def update_self(self, request: Request) -> Response:
        """Refresh the registered email from the token. No body is needed."""
        user = self.identity.user
        assert user is not None
        user.update_email(self.identity)
        return Response(self.get_serializer(user).data)


class EntitlementView(Resource):
    resource = "entitlement"
    required_levels = {"retrieve": Standing.REGISTERED}
    serializer_class = EntitlementsSerializer

    def retrieve(self, request: Request) -> Response:
        """The entitlements of the token: what permissions may name besides user ids."""
        return Response({"items": sorted(self.identity.entitlements)})
