"""The API's endpoints of service tokens."""

from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.authentication import BearerAuthentication
from accounts.exceptions import InvalidToken, PermanentRefusal
from accounts.models.service_token import ServiceToken, ServiceTokenQuerySet
from accounts.token_serializers import (
    IssuedTokenSerializer,
    NewTokenSerializer,
    RefreshedTokenSerializer,
    RefreshSerializer,
    ServiceTokenSerializer,
)
from accounts.tokens import access_token, refresh_token, refreshed
from core.api.conditional import conditional, tagged
from core.api.idempotency import idempotent
from core.api.openapi import responds
from core.api.resource import Resource
from core.api.responses import JSONResponse, NoContent
from core.identity import Requirement


class TokenView(Resource):
    """The service tokens of the caller."""

    resource = "token"
    required_levels = {
        "create": Requirement.NO_SERVICE_TOKEN,
        "list": Requirement.NO_SERVICE_TOKEN,
        "retrieve": Requirement.NO_SERVICE_TOKEN,
        "destroy": Requirement.NO_SERVICE_TOKEN,
    }
    login_throttled_actions = frozenset({"create"})
    path_parameters = {"token_id": "The id of one of the caller's access tokens."}
    conflict = "You already have a token with this name. Choose another name, or revoke that token first."

    def get_serializer_class(self) -> Any:
        return NewTokenSerializer if self.action == "create" else ServiceTokenSerializer

    def get_queryset(self) -> ServiceTokenQuerySet:
        assert self.identity.user is not None
        return ServiceToken.objects.filter(user=self.identity.user.pk)

    def get_token(self) -> ServiceToken:
        try:
            return self.get_queryset().get(pk=self.kwargs["token_id"])
        except (ServiceToken.DoesNotExist, ValidationError):
            raise Http404("You have no token with this id. GET /api/v1/token lists yours.") from None

    def revoke_token(self) -> ServiceToken:
        """Revoke the token in the path, and return it as it was before."""
        token = self.get_token()
        self.get_queryset().filter(pk=token.pk).revoke(self.identity)
        return token

    @responds(201, 409, serializer=IssuedTokenSerializer)
    @idempotent
    def create(self, request: Request) -> JSONResponse:
        """Create a token for a pipeline. Only this response contains its secrets.

        The token acts as its owner, the user who creates it, and never has more rights than the owner has at that
        time. `level`, `experiments` and fewer `entitlements` restrict it further. It never carries an
        administrator's entitlement. With `refresh`, the access token lasts ten minutes. The refresh token can be
        exchanged for the next one, for the requested number of days.
        """
        serializer = self.get_serializer(data=self.body)
        serializer.is_valid(raise_exception=True)
        token = serializer.save()
        return JSONResponse(IssuedTokenSerializer(token).data, 201)

    def check_created(self, created: Any) -> None:
        if not self.get_queryset().filter(pk=created["id"], revoked_at=None).exists():
            raise Http404("The token that the earlier request created is revoked. Another key creates another token.")

    @responds(200, many=True)
    def list(self, request: Request) -> JSONResponse:
        """List the caller's tokens, newest first, including expired and revoked ones."""
        return JSONResponse(self.get_serializer(self.get_queryset(), many=True).data)

    @tagged
    def retrieve(self, request: Request, token_id: str) -> JSONResponse:
        """Read one of the caller's tokens, without its secret."""
        return JSONResponse(self.get_serializer(self.get_token()).data)

    @responds(204)
    @conditional
    def destroy(self, request: Request, token_id: str) -> NoContent:
        """Revoke the token and its refresh token at once."""
        self.revoke_token()
        return NoContent()


class TokenRefreshView(Resource):
    """The exchange of refresh tokens."""

    resource = "token"
    required_levels = {"refresh": Requirement.ANYONE}
    serializer_class = RefreshSerializer
    login_throttled_actions = frozenset({"refresh"})
    # No authentication: clients may send their expired access token along.
    authentication_classes = []

    def get_authenticate_header(self, request: Request) -> str:
        return BearerAuthentication().authenticate_header(request)

    @responds(200, serializer=RefreshedTokenSerializer)
    def refresh(self, request: Request) -> JSONResponse:
        """Exchange a refresh token for a new access token and a new refresh token.

        A refresh token works once. A second use means that it was stolen or shared, so the
        access token and all its refresh tokens are revoked, including the latest ones. No bearer token is needed.
        """
        serializer = self.get_serializer(data=self.body)
        serializer.is_valid(raise_exception=True)
        try:
            token = refreshed(serializer.validated_data["refresh"])
        except PermanentRefusal as error:
            raise AuthenticationFailed(str(error)) from error
        except InvalidToken as error:
            raise AuthenticationFailed(f"{error} Create a new token with POST /api/v1/token.") from error
        return JSONResponse({"token": access_token(token), "refresh": refresh_token(token)})
