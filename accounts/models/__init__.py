"""The models of users and their service tokens."""

from accounts.models.service_token import ServiceToken
from accounts.models.user import User, UserManager

__all__ = ["ServiceToken", "User", "UserManager"]
