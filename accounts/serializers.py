"""Users on the wire."""

from rest_framework import serializers

from accounts.models import User


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("id", "subject", "issuer", "email", "created_at")
        read_only_fields = fields


class EntitlementsSerializer(serializers.Serializer[dict[str, list[str]]]):
    """The entitlements of the request's token."""

    items = serializers.ListField(child=serializers.CharField(), read_only=True)
