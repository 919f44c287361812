"""Serializers of users."""

from typing import Any

from rest_framework import serializers

from accounts.models import User
from core.api.serializers import StrictSerializer, StrictText


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("id", "subject", "issuer", "email", "created_at")
        read_only_fields = fields


class LookupSerializer(StrictSerializer):
    """The id or the email of a user: exactly one of them."""

    id = serializers.UUIDField(required=False)
    email = StrictText(required=False, max_length=254, trim_whitespace=True)

    def validate(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if len(wanted) != 1:
            raise serializers.ValidationError("Send either id or email.")
        return wanted


class FoundUserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("id", "email")
        read_only_fields = fields


class EntitlementsSerializer(serializers.Serializer[dict[str, list[str]]]):
    """The entitlements of the request's token."""

    items = serializers.ListField(child=serializers.CharField(), read_only=True)
