"""Serializers of service tokens."""

import datetime
import uuid
from typing import Any

from rest_framework import serializers

from accounts.authentication import MAX_TOKEN_CHARACTERS
from accounts.models.service_token import ServiceToken, TokenState, delegable
from accounts.models.user import User
from accounts.tokens import access_token, refresh_token
from core.api.serializers import (
    NOT_AN_OBJECT,
    StrictBoolean,
    StrictChoice,
    StrictInteger,
    StrictList,
    StrictModelSerializer,
    StrictText,
)
from core.identity import Level, identity_of

MAX_EXPERIMENTS = 100
MAX_ENTITLEMENTS = 1_000


class ServiceTokenSerializer(serializers.ModelSerializer[ServiceToken]):
    """An access token, without its secret."""

    experiments = serializers.ListField(child=serializers.UUIDField(), read_only=True)
    entitlements = serializers.ListField(child=serializers.CharField(), read_only=True)
    state = serializers.ChoiceField(choices=TokenState.choices, read_only=True)

    class Meta:
        model = ServiceToken
        fields: tuple[str, ...] = (
            "id",
            "name",
            "state",
            "level",
            "experiments",
            "entitlements",
            "issued_by_operator",
            "created_at",
            "expires_at",
            "last_used_at",
            "revoked_at",
        )
        read_only_fields = fields


class IssuedTokenSerializer(ServiceTokenSerializer):
    """A new access token with its secret, which no later response contains."""

    token = serializers.SerializerMethodField(help_text="The bearer token.")
    refresh = serializers.SerializerMethodField(help_text="The refresh token, if requested.")

    class Meta(ServiceTokenSerializer.Meta):
        fields = (*ServiceTokenSerializer.Meta.fields, "token", "refresh")
        read_only_fields = fields

    def get_token(self, record: ServiceToken) -> str:
        return access_token(record)

    def get_refresh(self, record: ServiceToken) -> str | None:
        return refresh_token(record) if record.refresh_id else None


class NewTokenSerializer(StrictModelSerializer):
    """A request for an access token: its name, its lifetime and its rights."""

    name = StrictText(max_length=255, help_text="The purpose of the token; unique among your tokens.")
    days = StrictInteger(min_value=1, max_value=365, default=30, help_text="Days until the token expires.")
    level = StrictChoice(choices=Level.choices, default=Level.MANAGE, help_text="The token's highest level.")
    experiments = StrictList(
        child=serializers.UUIDField(),
        default=list,
        max_length=MAX_EXPERIMENTS,
        help_text="The experiments that the token may use; none means all. Elsewhere it reads public experiments only.",
    )
    entitlements = StrictList(
        child=StrictText(max_length=255),
        required=False,
        max_length=MAX_ENTITLEMENTS,
        help_text="Some of your entitlements. The default is all but those of administrators.",
    )
    refresh = StrictBoolean(default=False, help_text="True for a token of ten minutes, with a refresh token.")

    class Meta:
        model = ServiceToken
        fields = ("name", "days", "level", "experiments", "entitlements", "refresh")
        validators: list[Any] = []

    def validate_experiments(self, ids: list[uuid.UUID]) -> list[str]:
        return [str(each) for each in dict.fromkeys(ids)]

    def validate_entitlements(self, wanted: list[str]) -> list[str]:
        if lacking := sorted(set(wanted) - identity_of(self.context["request"]).entitlements):
            raise serializers.ValidationError(
                f"You do not have {', '.join(lacking)}. Choose from your own entitlements."
            )
        if administrative := sorted(set(wanted) - delegable(wanted)):
            raise serializers.ValidationError(
                f"An access token cannot carry {', '.join(administrative)}: it gives the rights of an administrator. "
                "Leave it out."
            )
        return sorted(set(wanted))

    def validate(self, fields: dict[str, Any]) -> dict[str, Any]:
        own = identity_of(self.context["request"]).entitlements
        return {"entitlements": sorted(delegable(own)), **fields}

    def create(self, fields: dict[str, Any]) -> ServiceToken:
        """Issue the token. Raises `IntegrityError` if the user has a token of this name."""
        maker = identity_of(self.context["request"])
        assert isinstance(maker.user, User)
        lifetime = datetime.timedelta(days=fields.pop("days"))
        refreshable = fields.pop("refresh")
        return ServiceToken.objects.issue(maker.user, lifetime=lifetime, by=maker, refreshable=refreshable, **fields)


class RefreshSerializer(serializers.Serializer[dict[str, str]]):
    default_error_messages = {"invalid": NOT_AN_OBJECT}

    refresh = StrictText(max_length=MAX_TOKEN_CHARACTERS, trim_whitespace=True, help_text="The latest refresh token.")


class RefreshedTokenSerializer(serializers.Serializer[dict[str, str]]):
    """A new access token and a new refresh token."""

    token = serializers.CharField(read_only=True, help_text="The bearer token, for ten minutes.")
    refresh = serializers.CharField(
        read_only=True, help_text="The next refresh token. The previous one no longer works."
    )
